"""A promotion that is killed or fails at any point leaves the old tree or the new one, and the next run says which."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from clawfactory_core.errors import Conflict, CoreError
from clawfactory_core.promotion import journal as journal_module
from clawfactory_core.promotion import steps as steps_module
from clawfactory_core.promotion import switch
from clawfactory_core.promotion.apply import apply_promotion, resume
from clawfactory_core.promotion.journal import PHASES, read_journal
from clawfactory_core.promotion.records import read_history
from clawfactory_core.workspace import workspace_entries
from tests.support.killing import killing_at
from tests.unit.core.promotion.promotion_machine import BOT, BROKEN, Machine

POINTS = 24
#: What a promotion changes: one file, the set of entries, or so that the gateway never gets ready.
CHANGES: dict[str, dict[str, str | None]] = {
    "restart": {"workspace/SOUL.md": "new\n"},
    "recreate": {"workspace/SOUL.md": "new\n", "workspace/TOOLS.md": "t\n", "workspace/skills/a.md": None},
    "restore": {"workspace/SOUL.md": "new\n", f"workspace/{BROKEN}": "x"},
}


def promoting_until(count: int, machine: Machine) -> tuple[bool, int]:
    """Promote in a child that is killed before its ``count``-th change of the file system or the gateway.

    :returns: whether it was killed and, if not, how many changes there were.
    """
    plan = machine.plan()
    work = partial(apply_promotion, plan, None, machine.gateway)
    status, changes = killing_at(count, work, also=[(switch, "_exchange")])
    return os.WIFSIGNALED(status), changes


def check_end(machine: Machine, before: str, target: str, *, good: bool) -> str:
    """Nothing is between: tree, gateway and history tell the same."""
    stands = machine.consistent()
    assert stands in (before, target)
    seen = machine.gateway.seen()
    assert seen["running"]
    assert seen["commit"] == stands
    assert seen["entries"] == workspace_entries(machine.approved)
    ids = [entry.id for entry in read_history(machine.bot)]
    assert len(ids) == len(set(ids)) <= 1
    if stands == target:
        assert read_history(machine.bot)[0].result == "promoted"
    if not good:
        assert stands == before
    return stands


@pytest.mark.parametrize(
    ("how", "rebooted"), [("restart", False), ("restart", True), ("recreate", False), ("restore", False)]
)
def test_sigkill_anywhere(tmp_path, machine, how, rebooted):
    before, target = machine.approved_commit, machine.commit(CHANGES[how])
    killed, changes = promoting_until(0, machine.copy(tmp_path / "counted"))
    assert not killed
    assert changes > POINTS
    kills, ends = 0, set()
    for number in range(POINTS):
        scene = machine.copy(tmp_path / str(number))
        killed, _ = promoting_until(1 + number * (changes - 1) // (POINTS - 1), scene)
        kills += killed
        if scene.approved.exists():
            assert scene.approved_commit in (before, target)
            assert scene.git(scene.approved, "status", "--porcelain") == ""
        if rebooted and scene.approved.exists():
            # The engine starts it again with what is there now.
            scene.gateway.write(running=True, commit=scene.approved_commit)
        resume(scene.root, BOT, scene.gateway)
        ends.add(check_end(scene, before, target, good=how != "restore") == target)
        assert resume(scene.root, BOT, scene.gateway) == "nothing"
        # And it can be done again.
        if how != "restore" and number % 4 == 0:
            scene.promote()
            assert scene.consistent() == scene.gateway.seen()["commit"] == target
    assert kills >= POINTS - 3
    assert ends == ({False} if how == "restore" else {False, True})


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("phase", PHASES)
def test_killed_right_after_each_line_of_the_journal(machine, how, phase):
    before, target = machine.approved_commit, machine.commit(CHANGES[how])
    write = journal_module.write_journal
    child = os.fork()
    if child == 0:

        def killing(bot, journal):
            write(bot, journal)
            if journal.phase == phase:
                os.kill(os.getpid(), signal.SIGKILL)

        steps_module.write_journal = killing
        with suppress(CoreError):
            machine.promote()
        os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert killed == (phase != ("keeping" if how == "restore" else "restoring"))
    found = read_journal(machine.bot)
    assert (found.phase if found else None) == (phase if killed else None)
    outcome = resume(machine.root, BOT, machine.gateway)
    stands = check_end(machine, before, target, good=how != "restore")
    undone = phase in ("preparing", "switching") or how == "restore"
    assert stands == (before if undone else target)
    assert outcome == ("undone" if undone and killed else "finished" if killed else "nothing")


def test_planning_brings_an_interrupted_one_to_its_end_first(machine):
    before, target = machine.approved_commit, machine.commit(CHANGES["restart"])
    killing = os.fork()
    if killing == 0:
        steps_module.Steps.start = lambda self: os.kill(os.getpid(), signal.SIGKILL)
        machine.promote()
    os.waitpid(killing, 0)
    assert machine.approved_commit == target
    assert machine.gateway.seen()["commit"] == before
    with pytest.raises(Conflict, match=r"was interrupted \(switched\)"):
        machine.plan(check=True)
    assert not machine.plan().changed
    assert machine.consistent() == machine.gateway.seen()["commit"] == target


def test_killed_while_git_goes_on_without_it(machine):
    before = machine.approved_commit
    target = machine.commit({f"workspace/skills/{number}.md": f"{number}\n" for number in range(1000)})
    partial = machine.repositories / "approved.next.partial"
    child = os.fork()
    if child == 0:
        with suppress(CoreError):
            machine.promote()
        os._exit(0)
    while not (partial / "workspace").exists():
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert resume(machine.root, BOT, machine.gateway) == "undone"
    assert machine.consistent() == before == machine.gateway.seen()["commit"]
    assert machine.promote().to_commit == target


def test_interrupted_and_locked_meanwhile(machine):
    before = machine.approved_commit
    machine.commit(CHANGES["recreate"])
    killing = os.fork()
    if killing == 0:
        machine.gateway.ready = lambda seconds: os.kill(os.getpid(), signal.SIGKILL)
        machine.promote()
    os.waitpid(killing, 0)
    machine.lock()
    machine.gateway.write(running=False)
    assert resume(machine.root, BOT, machine.gateway) == "undone"
    assert machine.consistent() == before
    seen = machine.gateway.seen()
    assert not seen["running"]
    assert {entry["name"] for entry in seen["entries"]} == {"SOUL.md", "skills"}


def test_approved_that_became_something_else(machine):
    machine.commit(CHANGES["restart"])
    killing = os.fork()
    if killing == 0:
        steps_module.Steps.start = lambda self: os.kill(os.getpid(), signal.SIGKILL)
        machine.promote()
    os.waitpid(killing, 0)
    machine.git(
        machine.approved, "-c", "user.email=x@x", "-c", "user.name=x", "commit", "-q", "--allow-empty", "-m", "x"
    )
    with pytest.raises(Conflict, match="put one of the two there"):
        resume(machine.root, BOT, machine.gateway)


@contextmanager
def full_disk(machine: Machine) -> Iterator[None]:
    """A small file system for trees and repositories where this user may mount one, else a limit for each file."""
    aside = machine.top / "aside"
    machine.repositories.rename(aside)
    machine.repositories.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(machine.repositories)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    shutil.copytree(aside, machine.repositories, symlinks=True, dirs_exist_ok=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if not mounted:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        if mounted:
            subprocess.run(["umount", "--lazy", str(machine.repositories)], check=True)


def test_full_disk(machine):
    before = machine.approved_commit
    machine.commit({f"workspace/skills/{number}.md": os.urandom(500_000).hex() for number in range(3)})
    with full_disk(machine):
        with pytest.raises(CoreError):
            machine.promote()
        assert machine.consistent() == before
        assert machine.gateway.seen()["commit"] == before
        assert "restart" not in machine.gateway.did


def test_unreadable_repository(machine):
    before, _ = machine.approved_commit, machine.commit(CHANGES["restart"])
    plan = machine.plan()
    objects = machine.bot.origin / "objects"
    blob = machine.git(machine.bot.origin, "rev-parse", "main:workspace/SOUL.md")
    path = objects / blob[:2] / blob[2:]
    held = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    with pytest.raises(CoreError):
        apply_promotion(plan, None, machine.gateway)
    assert machine.gateway.did == ["running"]
    path.write_bytes(held)
    assert machine.consistent() == before
    objects.rename(machine.top / "objects")
    with pytest.raises(CoreError):
        machine.plan()
    (machine.top / "objects").rename(objects)
    assert machine.promote().result == "promoted"


def test_disk_that_fails_at_the_exchange(machine, monkeypatch):
    before = machine.approved_commit
    machine.commit(CHANGES["restart"])

    def fail(one: Path, other: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(switch, "_exchange", fail)
        with pytest.raises(CoreError, match="Input/output error"):
            machine.promote()
    assert machine.consistent() == before
    assert machine.gateway.seen()["commit"] == before
    assert machine.promote().result == "promoted"
