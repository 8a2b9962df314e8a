from __future__ import annotations

import io
import json
import os
import subprocess
import threading

import pytest

from clawfactory_core.snapshots import progress, progress_file, progress_lines
from clawfactory_core.snapshots.progress import Meter, Progress
from clawfactory_core.snapshots.progress_file import ProgressFile, parse_progress, progress_path
from clawfactory_core.snapshots.progress_lines import ProgressLines

HALF = Progress("archiving", 50_000_000, 100_000_000, 25e6, 2.0)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    for module in (progress, progress_file, progress_lines):
        monkeypatch.setattr(module.time, "monotonic", made.monotonic)
    return made


def test_a_meter_tells_rate_and_time_left_at_most_five_times_a_second(clock):
    seen: list[Progress] = []
    meter = Meter(seen.append, "archiving", 100)
    for _ in range(10):
        clock.now += 0.1
        meter.count(int((clock.now - 1000) * 20))
    assert len(seen) == 5
    assert seen[-1].rate == pytest.approx(20, abs=2)
    assert seen[-1].remaining == pytest.approx(4, abs=0.5)
    meter.count(100, last=True)
    assert (seen[-1].done, seen[-1].remaining) == (100, 0)
    Meter(None, "archiving", 100).count(50)


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (HALF, "archiving: 50 % of 100.0 MB, 25.0 MB/s, 2 s left"),
        (Progress("writing to disk"), "writing to disk"),
        (Progress("archiving", 0, 999), "archiving: 0 % of 999 bytes"),
        (Progress("archiving", 1, 5 * 10**15, 1e6, 200.0), "archiving: 0 % of 5000.0 TB, 1.0 MB/s, 3 min 20 s left"),
        (Progress("archiving", 1, 1500, 1e6, 7320.0), "archiving: 0 % of 1.5 kB, 1.0 MB/s, 2 h 2 min left"),
        (Progress("archiving", 1500, 1500, 1e6), "archiving: 100 % of 1.5 kB, 1.0 MB/s"),
    ],
)
def test_a_report_as_text(report, text):
    assert report.text() == text


def test_a_file_has_the_last_report_while_the_operation_lasts(tmp_path, clock):
    path = progress_path(tmp_path, "snapshot")
    with ProgressFile(tmp_path, "snapshot", "bot1", os.geteuid()) as report:
        assert not path.exists()
        report(HALF)
        event = json.loads(path.read_bytes())
        assert {name: event[name] for name in event if name not in ("began", "updated")} == {
            "schema": 1, "operation": "snapshot", "bot": "bot1", "pid": os.getpid(), "phase": "archiving",
            "done": 50_000_000, "total": 100_000_000, "rate": 25_000_000, "remaining": 2.0,
        }  # fmt: skip
        assert parse_progress(path.read_bytes()) == HALF
        assert path.stat().st_mode & 0o777 == 0o600
        report(Progress("archiving", 60_000_000, 100_000_000))
        assert parse_progress(path.read_bytes()) == HALF
        clock.now += 1
        report(Progress("archiving", 60_000_000, 100_000_000))
        report(Progress("writing to disk"))
        assert parse_progress(path.read_bytes()) == Progress("writing to disk")
        assert os.listdir(tmp_path) == [path.name]
    assert os.listdir(tmp_path) == []


def test_each_reader_finds_a_whole_report(tmp_path, monkeypatch):
    monkeypatch.setattr(progress_file, "_SECONDS_BETWEEN", 0)
    path = progress_path(tmp_path, "verify")
    ending = threading.Event()
    broken: list[bytes] = []

    def read() -> None:
        while not ending.is_set():
            data = path.read_bytes() if path.exists() else b""
            if data and parse_progress(data) is None:
                broken.append(data)

    with ProgressFile(tmp_path, "verify", "bot1", os.geteuid()) as report:
        report(HALF)
        reader = threading.Thread(target=read)
        reader.start()
        for number in range(500):
            report(Progress("checking databases", number, 500))
        ending.set()
        reader.join()
    assert not broken


def test_what_killed_runs_left_is_swept_and_nothing_else(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = {"schema": 1, "pid": gone.pid}
    (tmp_path / ".progress-restore.json").write_text(json.dumps(left))
    (tmp_path / f".progress-restore.{gone.pid}").write_text("half a rep")
    (tmp_path / ".progress-extract.json").write_text("no JSON")
    os.mkfifo(tmp_path / ".progress-fifo.json")
    (tmp_path / ".progress-link.json").symlink_to("/etc/passwd")
    kept = [".lock", ".progress-verify.json", f".progress-verify.{os.getpid()}", "a.full.json"]
    for name in kept:
        (tmp_path / name).write_text(json.dumps({"schema": 1, "pid": os.getpid()}))
    with ProgressFile(tmp_path, "snapshot", "bot1", os.geteuid()):
        assert sorted(os.listdir(tmp_path)) == sorted(kept)


def test_no_error_of_the_file_system_reaches_the_operation(tmp_path):
    with ProgressFile(tmp_path / "missing", "snapshot", "bot1", os.geteuid()) as report:
        report(HALF)
    (tmp_path / f".progress-snapshot.{os.getpid()}").symlink_to(tmp_path / "target")
    with ProgressFile(tmp_path, "snapshot", "bot1", os.geteuid()) as report:
        report(HALF)
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"schema": 2}, {"phase": "\x1b[31mred"}, {"phase": "x" * 100}, {"phase": None}, {"done": -1}, {"done": True},
        {"total": "1"}, {"rate": float("nan")}, {"rate": float("inf")}, {"remaining": None}, {"total": 1 << 70},
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_not_believed(wrong):
    good = {"schema": 1, "phase": "archiving", "done": 1, "total": 2, "rate": 1.0, "remaining": 1.0}
    assert parse_progress(json.dumps(good).encode()) == Progress("archiving", 1, 2, 1.0, 1.0)
    assert parse_progress(json.dumps({**good, **wrong}).encode()) is None


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"[" * 4000, b"\xff"])
def test_data_that_is_no_report_is_not_believed(data):
    assert parse_progress(data) is None


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "shown"),
    [
        (
            Terminal(),
            "\rbot1: archiving: 50 % of 100.0 MB, 25.0 MB/s, 2 s left\x1b[K\rbot1: writing to disk\x1b[K\r\x1b[K",
        ),
        (io.StringIO(), "bot1: archiving: 50 % of 100.0 MB, 25.0 MB/s, 2 s left\n"),
    ],
)
def test_a_terminal_has_one_line_that_changes_and_a_log_few_lines(clock, stream, shown):
    with ProgressLines(stream, "bot1") as report:
        report(Progress("looking through the state"))
        clock.now += 2.5
        report(HALF)
        report(HALF)
        clock.now += 1
        report(Progress("writing to disk"))
    assert stream.getvalue() == shown


def test_short_operations_show_nothing(clock):
    for stream in (Terminal(), io.StringIO()):
        with ProgressLines(stream, "bot1") as report:
            clock.now += 1
            report(HALF)
        assert stream.getvalue() == ""
