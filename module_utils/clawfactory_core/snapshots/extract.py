"""Takes single files and directories out of a snapshot, to a directory of the operator's choice."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..errors import InvalidInput
from .digests import escape_path
from .progress import Progress
from .restore import RestorePlan, RestoreRequest, check_room, discard, plan_restore
from .tar_reader import BadArchive, check_path
from .unpack import Target, unpack_chain

_STAGING = ".clawfactory-extract-"


class Selection:
    """Paths that are wanted, each with all that is below it.

    :raises InvalidInput: one is empty or leads out of the state.
    """

    def __init__(self, request: RestoreRequest) -> None:
        self.paths: list[bytes] = []
        for text in request.paths:
            path = os.fsencode(text).rstrip(b"/")
            while path.startswith(b"./"):
                path = path[2:]
            try:
                check_path(path, request.limits)
            except BadArchive as error:
                raise InvalidInput(f"{error}; give paths relative to the bot's state directory") from None
            self.paths.append(path)

    def __call__(self, path: bytes, directory: bool) -> bool:
        """Whether ``path`` is wanted, or leads to something that is."""
        for wanted in self.paths:
            if path == wanted or path.startswith(wanted + b"/"):
                return True
            if directory and wanted.startswith(path + b"/"):
                return True
        return False


def extract_paths(request: RestoreRequest, progress: Callable[[Progress], None] | None = None) -> list[str]:
    """Put ``request.paths`` of a snapshot into ``request.destination``; no path means all.

    The whole chain is read and verified; only then does the destination appear. Files are 0600 and directories 0700,
    of whoever runs this.

    :returns: paths of what was taken out, escaped as in the format (docs/snapshot-format.md).
    :raises InvalidInput: the destination is not empty, or a path is not in the snapshot.
    :raises Conflict, BrokenChain, BadArchive, WrongKey, Damaged: as :func:`.restore.stage_restore`.
    """
    destination = request.destination
    if destination is None or not destination.is_absolute():
        raise InvalidInput(f"destination {str(destination)!r} is not absolute; give a directory to put the files in")
    selection = Selection(request)
    plan = plan_restore(request)
    _check_destination(destination)
    _sweep(destination.parent)
    check_room(destination.parent, plan.record, request.limits)
    staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=destination.parent))
    lock = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Marks it as in use, for another run's sweep.
        fcntl.flock(lock, fcntl.LOCK_EX)
        content = _unpack(request, plan, staging, selection, progress)
        for path in selection.paths:
            if not os.path.lexists(os.path.join(os.fsencode(content), path)):
                raise InvalidInput(f"{os.fsdecode(path)!r} is not in snapshot {plan.record.id}")
        found = _take(content)
        # Onto an empty directory too.
        os.rename(content, destination)
    finally:
        discard(staging)
        os.close(lock)
    return found


def _unpack(
    request: RestoreRequest,
    plan: RestorePlan,
    staging: Path,
    selection: Selection,
    progress: Callable[[Progress], None] | None,
) -> Path:
    content = staging / "content"
    os.mkdir(content, 0o700)
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        # What a hostile archive may do, it does as the bot.
        uid, gid = request.uid, request.gid
        os.chown(content, uid, gid)
    root = os.open(content, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with tempfile.TemporaryFile(dir=staging) as spool:
            target = Target(root, spool, uid, gid, selection if selection.paths else None, private=True)
            limits, bot = request.limits, request.source_bot
            unpack_chain(request.directory, plan.chain, request.identities, target, limits, bot=bot, progress=progress)
    finally:
        os.close(root)
    return content


def _check_destination(destination: Path) -> None:
    try:
        if destination.is_symlink() or (os.path.lexists(destination) and os.listdir(destination)):
            raise InvalidInput(f"{destination} is not empty; give a directory that is not there yet")
        if not destination.parent.is_dir():
            raise InvalidInput(f"{destination.parent} is no directory; make it first")
    except OSError as error:
        raise InvalidInput(f"{destination} cannot be used: {error.strerror}") from error


def _take(content: Path) -> list[str]:
    """Become the owner of everything; the escaped paths. Nobody else can reach it yet."""
    top = os.fsencode(content)
    os.chown(top, os.geteuid(), os.getegid())
    found = []
    for directory, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(directory, name)
            os.chown(path, os.geteuid(), os.getegid(), follow_symlinks=False)
            found.append(escape_path(os.path.relpath(path, top)))
    return sorted(found)


def _sweep(directory: Path) -> None:
    """Remove what a run that was killed left."""
    for path in directory.glob(f"{_STAGING}*"):
        if path.is_symlink() or not path.is_dir() or os.lstat(path).st_uid != os.geteuid():
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
        discard(path)
