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
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import Conflict, InvalidInput
from ..files import sync_directory, write_atomic
from .tree_writer import remove_tree

JOURNAL = ".restore.json"
STAGING = ".restore-"
CHECKING = ".verify-"
_BEFORE = ".state-before-"
_DISCARD = ".discard-"
_PHASES = ("staged", "swapping", "waiting", "keeping", "undoing")


@dataclass(frozen=True)
class Journal:
    """How far a restore is.

    :param phase: ``staged`` (the new state is complete, the old one untouched), ``swapping``, ``waiting`` (for the bot
        to start), ``keeping`` or ``undoing``.
    :param id: snapshot that is restored.
    :param had_state: whether there was a state before.
    """

    phase: str
    id: str
    had_state: bool = True


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Only one process at a time may restore, verify or clean up beside a state directory.

    :raises Conflict: another does.
    :raises InvalidInput: the directory that the state lies in cannot be opened.
    """
    try:
        descriptor = os.open(state.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidInput(f"{state.parent} cannot be opened: {error.strerror}; deploy the bot first") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(f"a restore or verification beside {state} is running; wait until it ends") from error
        yield
    finally:
        os.close(descriptor)


def read_journal(state: Path) -> Journal | None:
    """The journal beside ``state``; ``None`` if there is none, or none that can be read."""
    try:
        raw = json.loads((state.parent / JOURNAL).read_bytes())
        journal = Journal(raw["phase"], raw["id"], raw["had_state"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return journal if journal.phase in _PHASES and "/" not in str(journal.id) else None


def write_journal(state: Path, journal: Journal) -> None:
    """Write the journal; it is on disk when this returns."""
    data = {"phase": journal.phase, "id": journal.id, "had_state": journal.had_state}
    write_atomic(state.parent / JOURNAL, json.dumps(data).encode() + b"\n", mode=0o600)


def swap(state: Path, staged: Path | None = None) -> Path:
    """Put the staged state in the place of the live one, which is kept aside.

    :param staged: what must be staged there, if given: the path of :class:`.restore.Staged`.
    :returns: where the old state is until :func:`keep` or :func:`put_back`.
    :raises Conflict: nothing is staged, another operation runs, or the state cannot be renamed; all is as it was.
    """
    with locked(state):
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
    with locked(state):
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
    with locked(state):
        journal = read_journal(state)
        if journal is None or journal.phase != "waiting":
            return False
        _undo(state, journal)
        return True


def recover(state: Path, *, keep_staged: bool = False) -> str:
    """Finish or undo what a crash left, and delete what it left lying around.

    :param keep_staged: leave a complete staged state for :func:`swap`; otherwise it is deleted.
    :returns: ``nothing`` was to be done, the restore was ``undone`` or ``finished``, it is still ``waiting`` for
        :func:`keep` or :func:`put_back`, or it is ``staged``.
    :raises Conflict: a restore is running.
    """
    with locked(state):
        return recover_locked(state, keep_staged=keep_staged)


def recover_locked(state: Path, *, keep_staged: bool = False) -> str:
    """:func:`recover` for a caller that holds :func:`locked`."""
    journal = read_journal(state)
    if journal is None:
        # It is on disk before the first rename; if it is lost all the same, the state that worked is the safe one.
        befores = sorted(state.parent.glob(f"{_BEFORE}*"))
        if len(befores) > 1:
            raise Conflict(f"there are several old states, {befores[0]} and others; move away all but the right one")
        journal = Journal("undoing", befores[0].name[len(_BEFORE) :]) if befores else None
    if journal is None:
        (state.parent / JOURNAL).unlink(missing_ok=True)
        return "undone" if _sweep(state) else "nothing"
    if state.is_dir():
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
    return state.parent / f"{_BEFORE}{snapshot_id}"


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
