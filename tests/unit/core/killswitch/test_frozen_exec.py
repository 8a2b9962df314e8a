from __future__ import annotations

import threading

import pytest

from clawfactory_core.killswitch import frozen_exec
from clawfactory_core.killswitch import guard as guard_module
from clawfactory_core.killswitch.frozen_exec import FrozenExecs
from clawfactory_core.killswitch.guard import Guard
from tests.support.killswitch_stage import Stage

RUNC, STARTING = 50, 60


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass as the test says."""
    now = [1000.0]
    monkeypatch.setattr(frozen_exec.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def execs(stage):
    return FrozenExecs(stage.world)


def start_command(stage: Stage, container: str, *, state: str = "1", parent: str = "runc", around: str = "") -> None:
    """Have a process that ``parent`` makes in a container of version 2 which is frozen, or not."""
    stage.have_process(RUNC, parent, around or "0::/system.slice/containerd.service\n")
    stage.have_process(STARTING, "runc:[2:INIT]", f"0::/docker/{container}\n", parent=RUNC)
    (stage.cgroup / "docker" / container / "cgroup.freeze").write_text(f"{state}\n")


def test_command_that_starts_in_a_paused_container_is_ended_when_it_hangs(stage, execs, clock):
    gateway = stage.container("bot1", "gateway")
    start_command(stage, gateway)
    before = stage.alive()
    assert execs.once() == []
    clock[0] += frozen_exec.PATIENCE_SECONDS - 0.1
    assert execs.once() == [] and stage.alive() == before
    clock[0] += 0.1
    assert execs.once() == [STARTING]
    assert stage.alive() == before - {STARTING}, "nothing else of the container"
    assert (stage.cgroup / "docker" / gateway / "cgroup.freeze").read_text() == "1\n", "it stays frozen"
    assert execs.once() == []


def test_version_1_kills_it_and_lets_it_leave_the_frozen_cgroup(stage, execs, clock):
    """There SIGKILL waits for as long as the process is frozen: sent first, nothing of it runs on when it leaves."""
    (stage.proc / "self" / "mountinfo").write_text(f"30 20 0:1 / {stage.cgroup} rw - cgroup cgroup rw,freezer\n")
    gateway = stage.container("bot1", "gateway")
    stage.have_process(RUNC, "runc", "6:freezer:/\n")
    stage.have_process(STARTING, "runc:[2:INIT]", f"6:freezer:/docker/{gateway}\n", parent=RUNC)
    stage.immortal.add(STARTING)
    group = stage.cgroup / "docker" / gateway
    (group / "freezer.state").write_text("FROZEN\n")
    (group / "cgroup.procs").write_text(f"101\n{STARTING}\n")
    left: list[str] = []
    stage.on_kill = lambda _pid: left.append(str((group.parent / "cgroup.procs").exists()))
    execs.once()
    clock[0] += 60
    assert execs.once() == [STARTING]
    assert left == ["False"] and (group.parent / "cgroup.procs").read_text() == str(STARTING)
    assert (group / "freezer.state").read_text() == "FROZEN\n"


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"state": "0"}, id="container that is not paused"),
        pytest.param({"parent": "containerd-shim"}, id="process that has been made"),
        pytest.param({"around": "own"}, id="program of the container that calls itself runc"),
    ],
)
def test_what_does_not_hang_lives(stage, execs, clock, given):
    gateway = stage.container("bot1", "gateway")
    start_command(stage, gateway, **{**given, **({"around": f"0::/docker/{gateway}\n"} if "around" in given else {})})
    execs.once()
    clock[0] += 60
    assert execs.once() == [] and stage.events == []


def test_container_of_somebody_else_is_let_be(stage, execs, clock):
    start_command(stage, stage.container("", "database"))
    execs.once()
    clock[0] += 60
    assert execs.once() == [] and stage.events == []


def test_patience_begins_anew_when_it_was_thawed_meanwhile(stage, execs, clock):
    gateway = stage.container("bot1", "gateway")
    for state, seconds in (("1", 4), ("0", 4), ("1", 4)):
        start_command(stage, gateway, state=state)
        assert execs.once() == []
        clock[0] += seconds
    assert execs.once() == []
    clock[0] += 1
    assert execs.once() == [STARTING]


def test_guard_does_it_without_a_lock(stage, clock, monkeypatch):
    start_command(stage, stage.container("bot1", "gateway"))
    guard = Guard(stage.root, ending := threading.Event(), stage.world)

    def wait(_seconds: float) -> bool:
        clock[0] += 1.0
        if clock[0] > 1020 or STARTING not in stage.alive():
            ending.set()
        return True

    monkeypatch.setattr(guard_module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(ending, "wait", wait)
    guard.run()
    assert STARTING not in stage.alive() and stage.events == ["kill"]
