import logging
import threading
import time
from pathlib import Path

import pytest

from clawfactory_core import disk, disk_watch
from clawfactory_core.errors import CoreError

MIB = 2**20


class Engine:
    """Remembers what was stopped; a container runs until then."""

    def __init__(self) -> None:
        self.running = {"bot1-gateway", "bot2-gateway", "bot3-gateway"}
        self.fails = False

    def stop(self, limit: disk.DiskLimit) -> bool:
        if self.fails:
            raise CoreError("the engine hangs")
        ran = limit.container in self.running
        self.running.discard(limit.container)
        return ran


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
def add_bot(tmp_path):
    (tmp_path / "disk").mkdir()

    def add(bot: str, limit_bytes: int = 5 * MIB, min_free_bytes: int = 0, size: int = 0) -> Path:
        state = tmp_path / "bots" / bot / "state"
        state.mkdir(parents=True)
        (state / "file").write_bytes(b"x" * size)
        limit = disk.DiskLimit(bot, state, limit_bytes, min_free_bytes, f"{bot}-gateway")
        disk.limit_file(tmp_path / "disk", bot).write_text(limit.to_json())
        return state

    return add


def run_until_stopped(directory: Path, engine: Engine) -> None:
    """Let a watcher run until bot1 is stopped, and see that it ends when it is told to."""
    ending = threading.Event()
    thread = threading.Thread(target=disk_watch.Watcher(directory, engine.stop, ending).run)
    thread.start()
    deadline = time.monotonic() + 10
    while "bot1-gateway" in engine.running and time.monotonic() < deadline:
        time.sleep(0.01)
    ending.set()
    thread.join(5)
    assert not thread.is_alive()
    assert "bot1-gateway" not in engine.running


def test_only_the_bot_over_its_limit_is_stopped(tmp_path, engine, add_bot):
    add_bot("bot1", size=MIB)
    add_bot("bot2", size=6 * MIB)
    assert disk_watch.Watcher(tmp_path / "disk", engine.stop).once()
    assert engine.running == {"bot1-gateway", "bot3-gateway"}
    mark = disk.read_mark(tmp_path / "disk", "bot2")
    assert mark is not None
    assert mark["reason"] == "limit"
    assert disk.read_mark(tmp_path / "disk", "bot1") is None


def test_a_marked_bot_does_not_run_whoever_started_it(tmp_path, engine, add_bot):
    state = add_bot("bot1", size=6 * MIB)
    watcher = disk_watch.Watcher(tmp_path / "disk", engine.stop)
    watcher.once()
    (state / "file").unlink()
    engine.running.add("bot1-gateway")
    watcher.once()
    assert "bot1-gateway" not in engine.running
    disk.release(tmp_path / "disk", "bot1")
    engine.running.add("bot1-gateway")
    watcher.once()
    assert "bot1-gateway" in engine.running


def test_the_mark_is_there_before_the_container_is_stopped(tmp_path, add_bot):
    add_bot("bot1", size=6 * MIB)
    seen: list[bool] = []

    def stop(limit: disk.DiskLimit) -> bool:
        seen.append(disk.mark_file(tmp_path / "disk", "bot1").exists())
        return True

    disk_watch.Watcher(tmp_path / "disk", stop).once()
    assert seen
    assert all(seen)


def test_a_limit_raised_while_the_tree_is_measured_is_the_one_that_counts(tmp_path, engine, add_bot, monkeypatch):
    state = add_bot("bot1", limit_bytes=1, size=MIB)
    directory = tmp_path / "disk"

    def measured_while_the_operator_raises_it(path, tick, most):
        usage = disk.measure(path, tick, most)
        disk.limit_file(directory, "bot1").write_text(
            disk.DiskLimit("bot1", state, 5 * MIB, 0, "bot1-gateway").to_json()
        )
        return usage

    monkeypatch.setattr(disk_watch, "measure", measured_while_the_operator_raises_it)
    disk_watch.Watcher(directory, engine.stop).once()
    assert disk.read_mark(directory, "bot1") is None
    assert "bot1-gateway" in engine.running


def test_a_bot_is_let_go_only_when_a_kill_that_has_begun_is_over(tmp_path, add_bot):
    """What is started after the release would be hit by it, with no mark left to tell why."""
    state = add_bot("bot1", size=6 * MIB)
    directory = tmp_path / "disk"
    releasing: list[threading.Thread] = []
    over: list[str] = []

    def release() -> None:
        disk.release(directory, "bot1")
        over.append("released")

    def slow_stop(limit: disk.DiskLimit) -> bool:
        if not releasing:
            (state / "file").unlink()
            releasing.append(threading.Thread(target=release))
            releasing[0].start()
            releasing[0].join(0.3)
            over.append("killed")
        return True

    watcher = disk_watch.Watcher(directory, slow_stop)
    watcher.once()
    releasing[0].join(5)
    assert over == ["killed", "released"]
    assert disk.read_mark(directory, "bot1") is None


def test_an_engine_that_fails_is_asked_again(tmp_path, engine, add_bot, caplog):
    add_bot("bot1", size=6 * MIB)
    engine.fails = True
    watcher = disk_watch.Watcher(tmp_path / "disk", engine.stop)
    assert not watcher.once()
    assert "the engine hangs" in caplog.text
    engine.fails = False
    watcher.once()
    assert "bot1-gateway" not in engine.running


def test_low_space_stops_the_largest_bot_first_and_not_all_at_once(tmp_path, engine, add_bot, monkeypatch):
    for bot, size in (("bot1", MIB), ("bot2", 3 * MIB), ("bot3", 2 * MIB)):
        add_bot(bot, limit_bytes=100 * MIB, min_free_bytes=1000, size=size)
    free = {"bytes": 5000}
    monkeypatch.setattr(disk_watch, "free_room", lambda limit: disk.Room(free["bytes"]))
    watcher = disk_watch.Watcher(tmp_path / "disk", engine.stop)
    watcher.once()
    assert len(engine.running) == 3
    for left, expected in (
        (999, {"bot1-gateway", "bot3-gateway"}),
        (751, {"bot1-gateway", "bot3-gateway"}),
        (749, {"bot1-gateway"}),
        (501, {"bot1-gateway"}),
        (499, set()),
    ):
        free["bytes"] = left
        watcher.once()
        assert engine.running == expected, left


def test_file_system_that_takes_no_more_files_stops_the_bot_that_has_most(tmp_path, engine, add_bot, monkeypatch):
    add_bot("bot1", limit_bytes=100 * MIB, size=3 * MIB)
    state = add_bot("bot2", limit_bytes=100 * MIB)
    for number in range(100):
        (state / str(number)).touch()
    left = {"inodes": 2000}
    monkeypatch.setattr(disk_watch, "free_room", lambda limit: disk.Room(2**40, left["inodes"], 100_000))
    watcher = disk_watch.Watcher(tmp_path / "disk", engine.stop)
    watcher.once()
    assert len(engine.running) == 3
    left["inodes"] = 1999
    watcher.once()
    assert engine.running == {"bot1-gateway", "bot3-gateway"}
    mark = disk.read_mark(tmp_path / "disk", "bot2")
    assert mark is not None
    assert (mark["reason"], "1999 more files fit" in mark["message"]) == ("free", True)


def test_a_damaged_limit_does_not_stop_the_watch_of_others(tmp_path, engine, add_bot, caplog):
    add_bot("bot1", size=6 * MIB)
    (tmp_path / "disk" / "bot0.json").write_text("{")
    (tmp_path / "disk" / "bot9.json").write_text((tmp_path / "disk" / "bot1.json").read_text())
    (tmp_path / "disk" / "bota.json").write_bytes(b"\xff")
    assert not disk_watch.Watcher(tmp_path / "disk", engine.stop).once()
    assert "bot1-gateway" not in engine.running
    for name in ("bot0.json", "bot9.json", "bota.json"):
        assert name in caplog.text


def test_a_missing_state_directory_is_reported_once(tmp_path, engine, add_bot, caplog):
    state = add_bot("bot1")
    (state / "file").unlink()
    state.rmdir()
    watcher = disk_watch.Watcher(tmp_path / "disk", engine.stop)
    assert not watcher.once()
    watcher.once()
    assert caplog.text.count("cannot be measured") == 1


def test_run_notices_growth_of_free_space_problems_during_a_walk_and_ends(tmp_path, engine, add_bot, monkeypatch):
    state = add_bot("bot1", limit_bytes=2**50, min_free_bytes=1000)
    for number in range(5000):
        (state / str(number)).touch()
    monkeypatch.setattr(disk_watch, "free_room", lambda limit: disk.Room(0))
    monkeypatch.setattr(disk_watch, "FREE_INTERVAL", 0.01)
    run_until_stopped(tmp_path / "disk", engine)


def test_a_tree_that_is_too_deep_counts_as_over_the_limit(tmp_path, engine, add_bot, caplog):
    caplog.set_level(logging.ERROR)
    state = add_bot("bot1")
    state.joinpath(*["d"] * 300).mkdir(parents=True)
    disk_watch.Watcher(tmp_path / "disk", engine.stop).once()
    assert "bot1-gateway" not in engine.running
    assert "nested deeper than 256" in caplog.text


def test_disk_that_takes_no_mark_saves_nobody(tmp_path, engine, add_bot, monkeypatch):
    add_bot("bot1", size=6 * MIB)

    def write_mark(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk_watch, "write_mark", write_mark)
    watcher = disk_watch.Watcher(tmp_path / "disk", engine.stop)
    for _ in range(2):
        engine.running.add("bot1-gateway")
        assert not watcher.once()
        assert "bot1-gateway" not in engine.running


def test_watch_goes_on_after_any_error(tmp_path, engine, add_bot, monkeypatch):
    add_bot("bot1", size=6 * MIB)
    looks: list[int] = []
    look = disk_watch.Watcher._check_free

    def check_free(self):
        looks.append(1)
        if len(looks) == 1:
            raise ValueError("nobody has thought of this")
        look(self)

    monkeypatch.setattr(disk_watch, "FREE_INTERVAL", 0.01)
    monkeypatch.setattr(disk_watch.Watcher, "_check_free", check_free)
    run_until_stopped(tmp_path / "disk", engine)


def test_measuring_ends_when_there_is_too_much(tmp_path, add_bot):
    state = add_bot("bot1")
    for number in range(50):
        (state / f"file{number}").write_bytes(b"x" * MIB)
    found = disk.measure(state, most=5 * MIB)
    assert 5 * MIB < found.used_bytes < 8 * MIB and found.entries < 10
    assert disk.measure(state).used_bytes >= 50 * MIB
