from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clawfactory_core.errors import Conflict, CoreError
from clawfactory_core.snapshots import basis, capture, index, pipeline, sources, storing
from clawfactory_core.snapshots.create import Limits, apply_snapshot, plan_snapshot
from clawfactory_core.snapshots.databases import DatabaseBusy, DatabaseUnreadable
from clawfactory_core.snapshots.names import file_name, parse_file_name
from clawfactory_core.snapshots.records import read_record
from tests.support.snapshot_states import Bench, on_disk

LARGE = 256 * 1024


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    fill(bench.state)
    return bench


def fill(state: Path) -> None:
    (state / "dir").mkdir()
    for number in range(20):
        (state / "dir" / f"{number}.txt").write_text(f"{number}" * 100)
    (state / "large").write_bytes(os.urandom(LARGE * 2))


def disturb(state: Path, seed: int) -> None:
    (state / "dir" / f"{seed % 20}.txt").write_text(f"changed {seed}")
    with (state / "large").open("r+b") as file:
        file.seek(seed * 5000 % LARGE)
        file.write(os.urandom(5000))


def visible(bench: Bench) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in bench.snapshots.iterdir()
        if not path.name.startswith(".") and not path.is_symlink()
    }


def complete(bench: Bench) -> list:
    """Every snapshot that can be seen, oldest first; each must have an archive as its record says."""
    files = [file for name in visible(bench) if (file := parse_file_name(name))]
    return [read_record(bench.snapshots, file) for file in sorted(files, key=lambda file: file.time)]


# Every call that leaves a trace outside the process; a child counts along with its parent.
STEPS = ("write", "pwrite", "fsync", "rename", "replace", "unlink", "symlink", "fchown", "ftruncate", "fork", "close")


class Steps:
    """Counts the steps of a create, in all its processes, and kills all of them at one."""

    def __init__(self, patch: pytest.MonkeyPatch, fatal: int) -> None:
        self.counter = mmap.mmap(-1, 4)
        self.fatal = fatal
        for name in STEPS:
            patch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, function):
        def step(*args, **kwargs):
            number = int.from_bytes(self.counter[:4], "big") + 1
            self.counter[:4] = number.to_bytes(4, "big")
            if number == self.fatal:
                os.killpg(0, signal.SIGKILL)
            return function(*args, **kwargs)

        return step

    @property
    def count(self) -> int:
        return int.from_bytes(self.counter[:4], "big")


def create_and_kill(bench: Bench, fatal: int) -> tuple[bool, int]:
    """Run a create in a process group of its own. :returns: whether it was killed, and the steps that it took."""
    with pytest.MonkeyPatch.context() as patch:
        steps = Steps(patch, 0)
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException):
                os.setpgid(0, 0)
                steps.fatal = fatal
                apply_snapshot(bench.request())
                status = 0
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status), steps.count


def test_killed_at_any_step_it_leaves_what_was_there_and_the_next_one_works(bench):
    records = [apply_snapshot(bench.request()).record]
    _, count = create_and_kill(bench, 0)
    # First and last steps one by one, those that write data in between by leaps.
    points = sorted({*range(1, 12), *range(12, count - 20, max(1, (count - 32) // 12)), *range(count - 20, count + 1)})
    assert len(points) >= 30
    killed = 0
    for point in points:
        disturb(bench.state, point)
        before = visible(bench)
        reached, steps = create_and_kill(bench, point)
        if not reached:  # its processes met in another order, and that took fewer steps
            reached, _ = create_and_kill(bench, steps // 2)
        killed += reached
        after = visible(bench)
        assert {name: after[name] for name in before} == before
        for record in complete(bench):
            # An archive is there completely; between two renames its record may not be.
            assert not record.problem or record.problem.endswith("is missing")
            bench.archive(record)
        result = apply_snapshot(bench.request())
        records = [*records, result.record] if result.record.kind == "inc" else [result.record]
        chain = chain_to(bench, result.record)
        assert bench.restored(*chain) == on_disk(bench.state)
        assert [path.name for path in bench.snapshots.glob(".*")] == [".lock"]
        assert [path.name for path in bench.index.parent.iterdir()] == [bench.index.name]
        if len(chain) > 4:
            for path in bench.snapshots.iterdir():
                path.unlink()
            bench.index.unlink()
            apply_snapshot(bench.request())
    assert killed >= 30


def chain_to(bench: Bench, record) -> list:
    by_id = {one.id: one for one in complete(bench)}
    chain = [record]
    while chain[0].parent:
        chain.insert(0, by_id[chain[0].parent])
    return chain


def test_leftovers_are_swept_but_not_what_a_verification_is_writing(bench):
    (bench.state / "file").write_text("x")
    record = f"{apply_snapshot(bench.request()).record.id}.full.json"
    spared = [f".{record}.0123abcd.partial", ".progress-verify.json"]
    killed = [
        f".{record}.4567abcd.partial",
        ".new--2026-01-01T00-00-00Z.full.json.0123abcd.partial",
        ".latest.0123abcd",
    ]
    for name in (*spared, *killed):
        (bench.snapshots / name).touch()
    an_hour_ago = time.time() - 3600
    os.utime(bench.snapshots / killed[0], (an_hour_ago, an_hour_ago))
    apply_snapshot(bench.request())
    assert {path.name for path in bench.snapshots.glob(".*")} == {".lock", *spared}


@pytest.mark.parametrize("victim", ["_read", "_encrypt"])
def test_a_process_that_is_killed_alone_ends_the_snapshot(bench, monkeypatch, victim):
    before = apply_snapshot(bench.request()).record
    files = visible(bench)

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(pipeline, victim, die)
    with pytest.raises(CoreError, match=r"ended without a result|Broken pipe"):
        apply_snapshot(bench.request())
    assert visible(bench) == files
    assert [path.name for path in bench.snapshots.glob(".*")] == [".lock"]
    monkeypatch.undo()
    assert bench.restored(before, apply_snapshot(bench.request()).record) == on_disk(bench.state)


def test_the_processes_end_with_the_one_that_started_them(bench):
    fifo = bench.base / "started"
    os.mkfifo(fifo)
    program = f"""
import os, sys, time
sys.path[:0] = {sys.path!r}
from pathlib import Path
from clawfactory_core.snapshots import pipeline
from clawfactory_core.snapshots.create import SnapshotRequest, apply_snapshot
def wait(*_):
    with open({str(fifo)!r}, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(600)
pipeline._encrypt = wait
root = Path({str(bench.base)!r})
request = SnapshotRequest(root, "bot1", root / "state", root / "snapshots", 0, ({bench.recipient!r},), min_free_bytes=0)
apply_snapshot(request)
"""
    process = subprocess.Popen([sys.executable, "-c", program])
    with fifo.open() as file:
        child = int(file.read())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split(")")[1][:3]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert bench.restored(apply_snapshot(bench.request()).record) == on_disk(bench.state)


@pytest.fixture
def small_disk(tmp_path):
    mount = tmp_path / "disk"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", mount], check=True)
    yield mount
    subprocess.run(["umount", mount], check=True)


def test_a_full_disk_is_refused_and_nothing_stays(bench, small_disk):
    (bench.state / "noise").write_bytes(os.urandom(3 << 20))
    with pytest.raises(Conflict, match="the disk is full"):
        apply_snapshot(bench.request(directory=small_disk))
    assert [path.name for path in small_disk.iterdir()] == [".lock"]
    (bench.state / "noise").unlink()
    record = apply_snapshot(bench.request(directory=small_disk)).record
    assert (small_disk / record.file_name).stat().st_size == record.size


def test_the_free_space_to_keep_is_kept_while_writing(bench, small_disk, monkeypatch):
    (bench.state / "noise").write_bytes(os.urandom(3 << 20))
    monkeypatch.setattr(pipeline, "_FREE_SPACE_EVERY", 1 << 16)
    with pytest.raises(Conflict, match="to keep free"):
        apply_snapshot(bench.request(directory=small_disk, min_free_bytes=300_000))
    assert [path.name for path in small_disk.iterdir()] == [".lock"]


def test_a_full_disk_under_the_index_is_refused_too(bench, small_disk):
    (bench.state / "wide").mkdir()
    for number in range(300):
        (bench.state / "wide" / f"{number}").symlink_to(f"{number}".rjust(4000, "x"))
    with pytest.raises(Conflict, match="the disk is full"):
        apply_snapshot(bench.request(index=small_disk / "index"))
    assert visible(bench) == {}


def test_what_cannot_be_read_is_left_out_and_listed(bench):
    for path in (bench.state, *bench.state.rglob("*")):
        os.chown(path, 20001, 20001)
    (bench.state / "secret").write_text("of root")
    (bench.state / "secret").chmod(0o600)
    (bench.state / "closed").mkdir(mode=0o700)
    result = apply_snapshot(bench.request())
    assert result.left_out == [
        {"path": "closed", "reason": "cannot be read: Permission denied"},
        {"path": "secret", "reason": "cannot be read: Permission denied"},
    ]
    expected = on_disk(bench.state, without=(b"secret", b"closed"))
    assert bench.restored(result.record) == expected
    assert bench.archive(result.record).manifest["left_out"] == result.left_out


def test_what_vanishes_while_it_is_read_is_not_there(bench, monkeypatch):
    first = apply_snapshot(bench.request()).record
    read = storing.Storing._file

    def vanish(self, entry, *rest):
        if entry.name == b"3.txt":
            os.unlink(entry.name, dir_fd=entry.directory)
        read(self, entry, *rest)

    (bench.state / "dir" / "3.txt").write_text("new")
    monkeypatch.setattr(storing.Storing, "_file", vanish)
    result = apply_snapshot(bench.request())
    assert (result.left_out, bench.archive(result.record).changes) == ([], ["delete dir/3.txt"])
    tree = bench.restored(first, result.record)
    assert b"dir/3.txt" not in tree
    assert tree[b"dir/4.txt"] == on_disk(bench.state)[b"dir/4.txt"]


@pytest.mark.parametrize("kind", ["full", "auto"])
@pytest.mark.parametrize("size", [LARGE, 3 << 20])
def test_a_file_that_changes_while_it_is_read_is_read_again(bench, monkeypatch, kind, size):
    busy = bench.state / "busy"
    busy.write_bytes(os.urandom(size))
    records = [apply_snapshot(bench.request()).record]
    read = capture.OpenFile.read
    left = [2]

    def write_meanwhile(self, offset, length):
        data = read(self, offset, length)
        # The process that reads is locked into the state directory.
        if left[0] and self.found.st_ino == os.stat("busy").st_ino and length > 16:
            left[0] -= 1
            time.sleep(0.005)
            with open("busy", "r+b") as file:
                file.seek(size // 2 - 4096 * left[0])
                file.write(b"meanwhile" * 1000)
                file.truncate(size - 1000 * left[0])
        return data

    os.utime(busy)
    monkeypatch.setattr(capture.OpenFile, "read", write_meanwhile)
    result = apply_snapshot(bench.request(kind=kind))
    records = [*records, result.record] if kind == "auto" else [result.record]
    assert bench.restored(*records) == on_disk(bench.state)
    assert result.warnings == []
    archive = bench.archive(result.record)
    assert archive.paths.count(b"busy") == (2 if size > LARGE and kind == "full" else 1 if size == LARGE else 0)


@pytest.mark.parametrize("size", [1000, 3 << 20])
def test_a_file_that_never_rests_is_stored_as_it_is_and_listed(bench, monkeypatch, size):
    busy = bench.state / "busy"
    busy.write_bytes(os.urandom(size))
    read = capture.OpenFile.read

    def write_meanwhile(self, offset, length):
        data = read(self, offset, length)
        if self.found.st_ino == os.stat("busy").st_ino and length > 16:
            time.sleep(0.005)
            with open("busy", "ab") as file:
                file.write(os.urandom(10))
        return data

    monkeypatch.setattr(capture.OpenFile, "read", write_meanwhile)
    result = apply_snapshot(bench.request())
    assert result.warnings == ["busy went on changing while it was read"]
    assert bench.archive(result.record).manifest["changed"] == ["busy"]
    content = bench.restored(result.record)[b"busy"][3]
    assert busy.read_bytes().startswith(content)
    assert len(content) >= size


def test_a_clock_that_jumped_back_makes_a_full_one(bench, monkeypatch):
    now = time.time_ns()
    monkeypatch.setattr(basis.time, "time_ns", lambda: now + 3600 * 10**9)
    ahead = apply_snapshot(bench.request()).record
    monkeypatch.undo()
    plan = plan_snapshot(bench.request())
    assert (plan.kind, plan.why) == ("full", f"the clock is before {ahead.id}, the last snapshot")
    second = apply_snapshot(bench.request()).record
    disturb(bench.state, 1)
    # The one from the future stays, and does not make every later one full.
    third = apply_snapshot(bench.request()).record
    assert (second.kind, third.kind, third.parent) == ("full", "inc", second.id)
    assert bench.restored(second, third) == on_disk(bench.state)


def spoil_index(bench: Bench, how: str) -> str:
    if how == "lost":
        bench.index.unlink()
        return "there is no index yet"
    data = bytearray(bench.index.read_bytes())
    if how == "flipped":
        data[-20] ^= 1
    elif how == "cut":
        del data[len(data) // 2 :]
    elif how == "newer":
        data = data.replace(b'"schema": 1', b'"schema": 2')
    elif how == "emptied":
        data.clear()
    else:
        data = data.replace(b'"bot": "bot1"', b'"bot": "bot2"')
    bench.index.write_bytes(data)
    return {"newer": "the index is of another version", "foreign": "the index is of another bot, 'bot2'"}.get(
        how, "the index is damaged"
    )


@pytest.mark.parametrize("how", ["lost", "flipped", "cut", "newer", "emptied", "foreign"])
def test_without_a_good_index_the_next_one_is_full(bench, how):
    apply_snapshot(bench.request())
    why = spoil_index(bench, how)
    assert (plan_snapshot(bench.request()).kind, plan_snapshot(bench.request()).why) == ("full", why)
    record = apply_snapshot(bench.request()).record
    assert bench.restored(record) == on_disk(bench.state)
    assert apply_snapshot(bench.request()).record.kind == "inc"


@pytest.mark.parametrize("how", ["archive gone", "record gone", "archive cut", "one from the future", "full one gone"])
def test_without_the_archives_that_it_builds_upon_the_next_one_is_full(bench, how):
    full = apply_snapshot(bench.request()).record
    last = apply_snapshot(bench.request()).record
    archive = bench.snapshots / last.file_name
    if how == "archive gone":
        archive.unlink()
    elif how == "record gone":
        (bench.snapshots / f"{last.id}.inc.json").unlink()
    elif how == "archive cut":
        os.truncate(archive, last.size - 1)
    elif how == "one from the future":
        shutil.copy(archive, bench.snapshots / file_name("copy--2999-01-01T00-00-00Z", "full"))
    else:
        (bench.snapshots / full.file_name).unlink()
    record = apply_snapshot(bench.request()).record
    assert record.kind == ("inc" if how == "one from the future" else "full")


def test_a_newer_archive_than_the_index_knows_makes_a_full_one(bench):
    apply_snapshot(bench.request())
    saved = bench.index.read_bytes()
    time.sleep(1)
    newer = apply_snapshot(bench.request()).record
    # As after a crash between the archive's rename and the index's.
    bench.index.write_bytes(saved)
    time.sleep(1)
    assert newer.id in plan_snapshot(bench.request()).why
    assert apply_snapshot(bench.request()).record.kind == "full"


def test_a_second_one_at_the_same_time_is_told(bench, monkeypatch):
    seen = []

    def meanwhile(*args):
        with pytest.raises(Conflict) as caught:
            apply_snapshot(bench.request())
        seen.append(str(caught.value))

    result = apply_snapshot(bench.request(), lambda report: meanwhile() if not seen else None)
    assert result.record.started[:16] in seen[0]
    assert seen[0].startswith("another snapshot of bot1 is being made (since ")


def test_a_snapshot_that_takes_too_long_is_given_up(bench):
    with pytest.raises(CoreError, match="longer than max_seconds"):
        apply_snapshot(bench.request(limits=Limits(max_seconds=0.0)))
    assert visible(bench) == {}


def test_a_database_that_was_busy_is_one_again_in_the_next_snapshot(bench, monkeypatch):
    connection = sqlite3.connect(bench.state / "main.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t(x)")
    with monkeypatch.context() as patched:
        patched.setattr(sources.LiveDatabase, "open", lambda *_, **__: (_ for _ in ()).throw(DatabaseBusy("busy")))
        first = apply_snapshot(bench.request())
    assert any("busy" in warning for warning in first.warnings)
    # As if all of it had been written long before.
    monkeypatch.setattr(index, "_GRAIN_NS", -(10**12))
    second = apply_snapshot(bench.request())
    assert (second.record.kind, second.warnings) == ("inc", [])
    assert [path for path in bench.restored(first.record, second.record) if b"sqlite" in path] == [b"main.sqlite"]
    connection.close()


@pytest.mark.parametrize("failing_read", [0, 1])
@pytest.mark.parametrize("kind", ["full", "auto"])
@pytest.mark.parametrize("checkpointed", [True, False])
def test_a_database_that_breaks_while_it_is_read_is_a_plain_file(bench, monkeypatch, checkpointed, kind, failing_read):
    connection = sqlite3.connect(bench.state / "main.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute("CREATE TABLE t(x)")
    connection.executemany("INSERT INTO t VALUES(?)", [(os.urandom(3000),) for _ in range(900)])
    records = [apply_snapshot(bench.request()).record]
    connection.execute("UPDATE t SET x = ?", (os.urandom(3000),))
    if checkpointed:
        connection.execute("PRAGMA wal_checkpoint")
    read = sources.LiveDatabase.read

    def fail(self, offset, length):
        if offset == failing_read << 20:
            raise DatabaseUnreadable("somebody broke it")
        return read(self, offset, length)

    monkeypatch.setattr(sources.LiveDatabase, "read", fail)
    result = apply_snapshot(bench.request(kind=kind))
    monkeypatch.undo()
    records = [*records, result.record] if kind == "auto" else [result.record]
    tree = bench.restored(*records)
    assert "somebody broke it" in result.warnings[-1]
    stored = tree[b"main.sqlite"][3]
    # Too small by now to be patched: what follows is zeros.
    assert stored.rstrip(b"\0") == (bench.state / "main.sqlite").read_bytes().rstrip(b"\0")
    assert tree[b"main.sqlite-wal"][3] == (bench.state / "main.sqlite-wal").read_bytes()
    records.append(apply_snapshot(bench.request()).record)
    assert sorted(bench.restored(*records)) == sorted(path for path in on_disk(bench.state) if b"sqlite-" not in path)
    connection.close()
