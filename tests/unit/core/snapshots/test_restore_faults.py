"""A restore that is killed or loses power at any point leaves the old state or the new one, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from clawfactory_core.errors import Conflict
from clawfactory_core.snapshots import swap as swap_steps
from clawfactory_core.snapshots import tree_writer, unpack
from clawfactory_core.snapshots.restore import keep, put_back, recover, stage_restore, swap
from tests.support.killing import killing_at
from tests.unit.core.snapshots.archive_maker import File, expected, read_tree
from tests.unit.core.snapshots.restore_machine import BASE, BOT, Machine

NEW = expected(BASE, BOT, BOT)
POINTS = 40


def restore_then(machine: Machine, decide: Callable[[Path], object]) -> Callable[[], object]:
    def work() -> None:
        staged = stage_restore(machine.request())
        swap(machine.state, staged.path)
        decide(machine.state)

    return work


def is_old(machine: Machine) -> bool:
    return os.listdir(machine.state) == ["alive"] and (machine.state / "alive").read_text() == "the live state"


def is_new(machine: Machine) -> bool:
    return read_tree(machine.state) == NEW


def fresh(path: Path) -> Machine:
    machine = Machine(path)
    machine.maker.write(machine.maker.full(BASE))
    return machine


@pytest.mark.parametrize("decide", [keep, put_back])
def test_sigkill_anywhere(tmp_path, decide):
    _, changes = killing_at(0, restore_then(fresh(tmp_path / "count"), decide))
    assert changes > POINTS
    killed = set()
    for number in range(POINTS):
        machine = fresh(tmp_path / str(number))
        at = 1 + number * (changes - 1) // (POINTS - 1)
        status, _ = killing_at(at, restore_then(machine, decide))
        if os.WIFSIGNALED(status):
            killed.add(at)
        before = read_tree(machine.state) if machine.state.exists() else None
        answer = recover(machine.state)
        if answer == "waiting":
            assert is_new(machine)
            assert decide(machine.state)
        if answer in ("nothing", "staged") and before is not None:
            assert read_tree(machine.state) == before
        assert is_old(machine) or (is_new(machine) and decide is keep)
        assert os.listdir(machine.state.parent) == ["state"]
        assert recover(machine.state) == "nothing"
    assert len(killed) >= 30


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_sigkill_while_recovering(tmp_path, renames):
    """What is killed while it cleans up after one that was killed is cleaned up as well."""
    _, changes = killing_at(0, partial(recover, arranged(tmp_path / "count", "swapping", renames).state))
    assert changes > 10
    for at in range(1, changes + 1, 2):
        machine = arranged(tmp_path / str(at), "swapping", renames)
        status, _ = killing_at(at, partial(recover, machine.state))
        assert os.WIFSIGNALED(status)
        # Both renames done: the bot may have started with the new state, which is not ours to throw away.
        assert recover(machine.state) == ("waiting" if renames == 2 else "undone")
        assert renames < 2 or put_back(machine.state)
        assert is_old(machine)
        assert os.listdir(machine.state.parent) == ["state"]


def arranged(path: Path, phase: str | None, renames: int) -> Machine:
    """A machine that lost power: with this journal, or none, and so many of the two renames of a swap on disk."""
    machine = Machine(path)
    staging = machine.state.parent / ".restore-made"
    (staging / "state").mkdir(parents=True)
    (staging / "state" / "new").write_text("new")
    if renames >= 1:
        machine.state.rename(machine.state.parent / ".state-before-made")
    if renames >= 2:
        (staging / "state").rename(machine.state)
    if phase is not None:
        swap_steps.write_journal(machine.state, swap_steps.Journal(phase, "made", had_state=True))
    return machine


@pytest.mark.parametrize("renames", [0, 1, 2])
@pytest.mark.parametrize("phase", [None, "staged", "swapping", "waiting", "keeping", "undoing"])
@pytest.mark.parametrize("decide", [keep, put_back])
def test_power_cut(tmp_path, phase, renames, decide):
    machine = arranged(tmp_path, phase, renames)
    answer = recover(machine.state)
    if answer == "waiting":
        decide(machine.state)
    new = (machine.state / "new").is_file() and os.listdir(machine.state) == ["new"]
    assert is_old(machine) or new
    # Only a bot that has shown that it starts with it gets the new state for good.
    decided = phase == "waiting" or (phase == "swapping" and renames == 2)
    assert not new or phase == "keeping" or (decided and decide is keep)
    assert os.listdir(machine.state.parent) == ["state"]


def test_what_a_bot_did_after_a_swap_that_was_killed_is_not_thrown_away(tmp_path):
    """Killed after both renames, before that is noted: the bot is started, and works for days."""
    lost = arranged(tmp_path / "killed", "swapping", 2)
    (lost.state / "days-of-work").write_text("precious")
    lost.maker.write(lost.maker.full(BASE))
    with pytest.raises(Conflict, match="restore_decide"):
        stage_restore(lost.request())
    assert (lost.state / "days-of-work").read_text() == "precious"
    assert keep(lost.state)
    assert sorted(os.listdir(lost.state)) == ["days-of-work", "new"]


@pytest.mark.parametrize("phase", ["swapping", "waiting", "undoing"])
@pytest.mark.parametrize("renames", [0, 1, 2])
def test_put_back_needs_no_recovery_before(tmp_path, phase, renames):
    machine = arranged(tmp_path, phase, renames)
    assert put_back(machine.state)
    assert is_old(machine)
    assert os.listdir(machine.state.parent) == ["state"]


def test_the_way_back_waits_for_no_verification_if_nothing_was_swapped(tmp_path, monkeypatch):
    monkeypatch.setattr(swap_steps, "PATIENCE", 0.3)
    machine = arranged(tmp_path, "staged", 0)
    with swap_steps.locked(machine.state, shared=True):
        for step in (swap, keep):
            with pytest.raises(Conflict, match="is running"):
                step(machine.state)
        assert not put_back(machine.state)
    assert is_old(machine)


def test_a_swap_waits_for_a_verification_that_ends(tmp_path):
    machine = arranged(tmp_path, "staged", 0)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with swap_steps.locked(machine.state, shared=True):
            os.write(writing, b"x")
            time.sleep(0.5)
        os._exit(0)
    os.read(reading, 1)
    swap(machine.state)
    os.waitpid(child, 0)
    assert os.listdir(machine.state) == ["new"]


def test_a_locked_bot_gets_no_other_state(tmp_path):
    machine = arranged(tmp_path, "staged", 0)
    (machine.root / "locks" / "bot1").touch()
    with pytest.raises(Conflict, match="playbooks/unlock"):
        swap(machine.state)
    assert is_old(machine)


def test_power_cut_in_the_middle_of_the_way_back(tmp_path):
    machine = arranged(tmp_path, "undoing", 2)
    machine.state.rename(machine.state.parent / ".discard-0000")
    assert recover(machine.state) == "undone"
    assert is_old(machine)
    assert os.listdir(machine.state.parent) == ["state"]


@pytest.mark.parametrize(
    "junk", [b"", b"{", b"[]", b'{"phase": "odd"}', b'{"phase": "waiting", "id": "../x", "had_state": true}']
)
def test_a_journal_that_cannot_be_read_counts_as_none(tmp_path, junk):
    machine = arranged(tmp_path, None, 2)
    (machine.state.parent / ".restore.json").write_bytes(junk)
    assert recover(machine.state) == "undone"
    assert is_old(machine)
    assert os.listdir(machine.state.parent) == ["state"]


def test_several_old_states_are_a_question_for_the_operator(tmp_path):
    machine = arranged(tmp_path, None, 1)
    (machine.state.parent / ".state-before-another").mkdir()
    with pytest.raises(Conflict, match="move away all but the right one"):
        recover(machine.state)


def test_an_empty_state_that_was_made_in_between_does_not_stop_the_way_back(tmp_path):
    machine = arranged(tmp_path, "swapping", 1)
    machine.state.mkdir()
    assert recover(machine.state) == "undone"
    assert is_old(machine)


def test_keep_does_not_delete_the_last_state(tmp_path):
    machine = arranged(tmp_path, "waiting", 1)
    with pytest.raises(Conflict, match="stands there again"):
        keep(machine.state)
    assert is_old(machine)


@pytest.mark.parametrize("process", ["unpacks", "decrypts"])
def test_a_worker_that_is_killed(tmp_path, monkeypatch, process):
    machine = fresh(tmp_path)

    def die(*args: object, **options: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if process == "unpacks":
        monkeypatch.setattr(tree_writer.TreeWriter, "file", die)
    else:
        monkeypatch.setattr(unpack, "_Hashed", die)
    with machine.refused("ended without a result"):
        stage_restore(machine.request())


def test_a_full_disk_while_it_unpacks(tmp_path, monkeypatch):
    machine = fresh(tmp_path)

    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tree_writer.FileWriter, "write_at", full)
    with machine.refused("the disk is full", Conflict):
        stage_restore(machine.request())


def test_a_bug_in_a_worker_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    machine = fresh(tmp_path)
    monkeypatch.setattr(tree_writer.TreeWriter, "finish", lambda *args: 1 // 0)
    with machine.refused("ZeroDivisionError"):
        stage_restore(machine.request())


def test_a_state_that_cannot_be_renamed_stays(tmp_path, monkeypatch):
    machine = fresh(tmp_path)
    staged = stage_restore(machine.request())
    real = os.rename

    def refuse(source: object, target: object, **options: object) -> None:
        if source == staged.path:
            raise OSError(18, "Invalid cross-device link")
        real(source, target, **options)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(Conflict, match="another file system"):
        swap(machine.state)
    assert is_old(machine)
    assert os.listdir(machine.state.parent) == ["state"]


def test_an_old_state_with_anything_in_it_is_deleted(tmp_path):
    machine = fresh(tmp_path)
    (machine.state / "out").symlink_to(machine.root / "outside")
    os.mkfifo(machine.state / "fifo")
    (machine.state / "locked").mkdir(mode=0)
    deep = os.open(machine.state, os.O_RDONLY)
    for _ in range(sys.getrecursionlimit() + 200):
        os.mkdir("d", dir_fd=deep)
        below = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(deep)
    stage_restore(machine.request())
    swap(machine.state)
    assert keep(machine.state)
    assert is_new(machine)
    assert os.listdir(machine.state.parent) == ["state"]
    assert (machine.root / "outside" / "canary").read_text() == "nobody touches this"


def test_the_journal_is_roots_alone(tmp_path):
    machine = fresh(tmp_path)
    stage_restore(machine.request())
    found = os.lstat(machine.state.parent / ".restore.json")
    assert (found.st_mode & 0o777, found.st_uid) == (0o600, os.geteuid())
    assert json.loads((machine.state.parent / ".restore.json").read_text())["phase"] == "staged"
    staging = next(machine.state.parent.glob(".restore-*"))
    assert (os.lstat(staging).st_mode & 0o777, os.lstat(staging).st_uid) == (0o700, os.geteuid())


def test_a_file_of_the_new_state_survives_as_it_is(tmp_path):
    machine = fresh(tmp_path)
    full = machine.maker.write(machine.maker.full({b"one": File(b"1")}))
    machine.restore(full.id)
    assert machine.restore("made--2026-01-01T00-00-01Z") == NEW


def test_what_becomes_a_link_while_it_is_removed_leads_nowhere(tmp_path, monkeypatch):
    top, outside = tmp_path / "top", tmp_path / "outside"
    for directory in (top / "d", outside):
        (directory / "child").mkdir(parents=True)
    real = tree_writer._subdirectories

    def replaced(*arguments):
        found = real(*arguments)
        (top / "d").rename(tmp_path / "aside")
        (top / "d").symlink_to(outside)
        return found

    monkeypatch.setattr(tree_writer, "_subdirectories", replaced)
    parent = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(NotADirectoryError):
        tree_writer.remove_tree(parent, b"top")
    os.close(parent)
    assert os.listdir(outside) == ["child"]
