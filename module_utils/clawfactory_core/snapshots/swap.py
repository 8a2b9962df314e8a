"""Puts a restored state in the place of the live one so that, whatever happens, one of the two stands there complete.

All names lie beside the state directory, in a directory that only root can write to:

    .restore-<id>/state     the new state in the making
    .state-before-<id>      the old one while the bot has not shown that it starts with the new one
    .discard-<id>-…         what is being deleted
    .restore.json           how far we are; written, and on disk, before every rename
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import Conflict, InvalidInput
from ..files import sync_directory
from ..locks import check_unlocked
from .journal import BEFORE, JOURNAL, Journal, read_journal, write_journal
from .tree_writer import remove_tree

STAGING = ".restore-"
CHECKING = ".verify-"
_DISCARD = ".discard-"
#: Seconds that a step waits for snapshots and verifications that read beside it.
PATIENCE = 60.0
_PAUSE = 0.2
# Phases in which the old state is, or may be, beside the new one.
_BETWEEN = ("swapping", "waiting", "undoing")


@contextmanager
def locked(state: Path, *, shared: bool = False, patience: float = 0.0) -> Iterator[None]:
    """Only one process at a time may restore or clean up beside a state directory, and none while it is read.

    :param shared: for snapshots and verifications, which do not disturb each other.
    :param patience: seconds to wait.

    :raises Conflict: another does.
    :raises InvalidInput: the directory that the state lies in cannot be opened.
    """
    busy = f"a restore, snapshot or verification beside {state} is running; wait until it ends"
    with _locked_directory(state.parent, busy, shared=shared, patience=patience):
        yield


@contextmanager
def checking(state: Path, snapshots: Path) -> Iterator[None]:
    """What :func:`locked` is for verifications: they unpack beside the state, one of a bot at a time.

    What a killed one left, of whatever snapshot, is removed.

    :param snapshots: directory of the bot's snapshots.
    """
    busy = f"another verification of {snapshots} is running; wait until it ends"
    with _locked_directory(snapshots, busy), locked(state, shared=True):
        for left in state.parent.glob(f"{CHECKING}*"):
            _remove(left)
        yield


def sweep_checks(state: Path, snapshots: Path) -> None:
    """Remove what a killed verification left, unless one is at work."""
    if not any(state.parent.glob(f"{CHECKING}*")):
        return
    try:
        with checking(state, snapshots):
            pass
    except Conflict:
        # One is at work; what is there is its own, and the rest it has removed.
        return


@contextmanager
def _locked_directory(path: Path, busy: str, *, shared: bool = False, patience: float = 0.0) -> Iterator[None]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be opened: {error.strerror}; deploy the bot first") from error
    try:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= end:
                    raise Conflict(busy) from error
                time.sleep(_PAUSE)
        yield
    finally:
        os.close(descriptor)


def swap(state: Path, staged: Path | None = None) -> Path:
    """Put the staged state in the place of the live one, which is kept aside.

    :param staged: what must be staged there, if given: the path of :class:`.restore.Staged`.
    :returns: where the old state is until :func:`keep` or :func:`put_back`.
    :raises Conflict: nothing is staged, another operation runs, the bot is locked, or the state cannot be renamed; all
        is as it was.
    """
    with locked(state, patience=PATIENCE):
        check_unlocked(state.parents[2], state.parent.name)
        journal = read_journal(state)
        found = staging_of(state, journal.id) / "state" if journal and journal.phase == "staged" else None
        if journal is None or found is None or not found.is_dir() or staged not in (None, found):
            raise Conflict(f"no restore is staged beside {state}, or not this one; stage it again")
        before = _before(state, journal.id)
        journal = Journal("swapping", journal.id, os.path.lexists(state))
        _sync(found)
        write_journal(state, journal)
        try:
            if journal.had_state:
                _rename(state, before)
            _rename(found, state)
        except OSError as error:
            _undo(state, journal)
            reason = os.strerror(error.errno or 0)
            hint = (
                " (it is a mount point or on another file system)" if error.errno in (errno.EXDEV, errno.EBUSY) else ""
            )
            raise Conflict(f"{state} cannot be replaced{hint}: {reason}; the state is as it was") from error
        write_journal(state, Journal("waiting", journal.id, journal.had_state))
        _remove(found.parent)
        return before


def keep(state: Path) -> bool:
    """The bot works with the new state: delete the old one.

    :returns: whether a restore waited for this.
    :raises Conflict: the new state is gone.
    """
    with locked(state, patience=PATIENCE):
        journal = read_journal(state)
        if journal is None or journal.phase != "waiting":
            return False
        if not state.is_dir():
            _undo(state, journal)
            raise Conflict(f"{state} was gone; what there was before the restore stands there again")
        write_journal(state, Journal("keeping", journal.id, journal.had_state))
        _finish(state, journal)
        return True


def put_back(state: Path) -> bool:
    """The bot does not work with the new state: put the old one back and delete the new.

    :returns: whether a restore waited for this.
    """
    # No need to wait for whoever holds the lock: the bot can start.
    if not is_swapped(state):
        return False
    with locked(state, patience=PATIENCE):
        journal = read_journal(state)
        if journal is None or journal.phase not in _BETWEEN:
            return False
        _undo(state, journal)
        return True


def discard_staged(state: Path) -> bool:
    """Delete a state that was staged and is not wanted after all.

    :returns: whether there was one.
    :raises Conflict: something else goes on beside the state.
    """
    journal = read_journal(state)
    if journal is None or journal.phase != "staged":
        return False
    with locked(state, patience=PATIENCE):
        return recover_locked(state) == "undone"


def is_swapped(state: Path) -> bool:
    """Whether there is anything for :func:`put_back` to do."""
    journal = read_journal(state)
    return journal is not None and journal.phase in _BETWEEN


def recover(state: Path, *, keep_staged: bool = False, patience: float = 0.0) -> str:
    """Finish or undo what a crash left, and delete what it left lying around.

    :param keep_staged: leave a complete staged state for :func:`swap`; otherwise it is deleted.
    :param patience: seconds to wait for who reads beside it.
    :returns: ``nothing`` was to be done, the restore was ``undone`` or ``finished``, it is still ``waiting`` for
        :func:`keep` or :func:`put_back`, or it is ``staged``.
    :raises Conflict: a restore is running.
    """
    with locked(state, patience=patience):
        return recover_locked(state, keep_staged=keep_staged)


def recover_locked(state: Path, *, keep_staged: bool = False) -> str:
    """:func:`recover` for a caller that holds :func:`locked`."""
    journal = _journal(state)
    if journal is None:
        (state.parent / JOURNAL).unlink(missing_ok=True)
        return "undone" if _sweep(state) else "nothing"
    if state.is_dir():
        if journal.phase == "swapping" and _swapped(state, journal):
            # The bot may have worked with the new state since: not ours to throw away.
            journal = Journal("waiting", journal.id, journal.had_state)
            write_journal(state, journal)
        if journal.phase == "waiting":
            _sweep(state)
            return "waiting"
        if journal.phase == "keeping":
            _finish(state, journal)
            return "finished"
    staged = staging_of(state, journal.id)
    untouched = journal.phase == "staged" and not os.path.lexists(_before(state, journal.id))
    if keep_staged and untouched and (staged / "state").is_dir():
        _sweep(state, staged.name)
        return "staged"
    _undo(state, journal)
    return "undone"


def moves_the_state(state: Path) -> bool:
    """Whether :func:`recover` would put another state in the place of the one that stands there."""
    journal = _journal(state)
    if journal is None or journal.phase in ("staged", "waiting"):
        return False
    return not state.is_dir() or not (
        journal.phase == "keeping" or (journal.phase == "swapping" and _swapped(state, journal))
    )


def _journal(state: Path) -> Journal | None:
    journal = read_journal(state)
    if journal is None:
        # It is on disk before the first rename; if it is lost all the same, the state that worked is the safe one.
        befores = sorted(state.parent.glob(f"{BEFORE}*"))
        if len(befores) > 1:
            raise Conflict(f"there are several old states, {befores[0]} and others; move away all but the right one")
        journal = Journal("undoing", befores[0].name[len(BEFORE) :]) if befores else None
    return journal


def _swapped(state: Path, journal: Journal) -> bool:
    """Whether both renames were done."""
    before = os.path.lexists(_before(state, journal.id)) or not journal.had_state
    return before and not (staging_of(state, journal.id) / "state").exists() and staging_of(state, journal.id).is_dir()


def staging_of(state: Path, snapshot_id: str) -> Path:
    """Where a snapshot is staged."""
    return state.parent / f"{STAGING}{snapshot_id}"


def sync_tree(descriptor: int) -> None:
    """Have everything on the file system of ``descriptor`` on disk.

    Once for a whole tree, and no fsync for any of its files: none of them counts before the journal names the tree and
    a rename puts it in place, and both come after this. Whatever a power cut leaves of it earlier is swept.

    :raises OSError: something could not be written, also if that was before (Linux 5.8 and later).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        sync_tree(descriptor)
    finally:
        os.close(descriptor)


def _before(state: Path, snapshot_id: str) -> Path:
    return state.parent / f"{BEFORE}{snapshot_id}"


def _undo(state: Path, journal: Journal) -> None:
    write_journal(state, Journal("undoing", journal.id, journal.had_state))
    before = _before(state, journal.id)
    if os.path.lexists(before):
        _discard(state)
        _rename(before, state)
    elif not journal.had_state and not (staging_of(state, journal.id) / "state").is_dir():
        _discard(state)
    _end(state)


def _finish(state: Path, journal: Journal) -> None:
    # Under this name it is never taken for a state that could be put back.
    _discard(_before(state, journal.id))
    _end(state)


def _end(state: Path) -> None:
    (state.parent / JOURNAL).unlink(missing_ok=True)
    sync_directory(state.parent)
    _sweep(state)


def _discard(path: Path) -> None:
    if os.path.lexists(path):
        _rename(path, path.parent / f"{_DISCARD}{os.urandom(4).hex()}")


def _rename(source: Path, target: Path) -> None:
    os.rename(source, target)
    sync_directory(target.parent)
    if source.parent != target.parent:
        sync_directory(source.parent)


def _sweep(state: Path, spared: str = "") -> bool:
    found = False
    for name in sorted(os.listdir(state.parent)):
        path = state.parent / name
        ours = name.startswith((STAGING, CHECKING, _DISCARD)) and name != spared
        if ours and path.is_dir() and not path.is_symlink():
            found = True
            _remove(path)
        elif name.startswith(f".{JOURNAL}.") and name.endswith(".partial"):
            path.unlink(missing_ok=True)
    return found


def _remove(path: Path) -> None:
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_tree(descriptor, os.fsencode(path.name))
    finally:
        os.close(descriptor)
