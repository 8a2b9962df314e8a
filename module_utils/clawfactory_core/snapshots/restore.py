"""Restores a bot's state from a snapshot: verified and complete beside the live one first, then swapped.

In order: :func:`stage_restore`, the bot is stopped, :func:`swap`, the bot is started, :func:`keep` or :func:`put_back`.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import Conflict
from ..locks import check_unlocked
from . import swap as swap_steps
from .chains import chain_of, find_to_restore, list_snapshots
from .journal import Journal, write_journal
from .progress import Meter, Progress
from .records import SnapshotRecord
from .swap import discard_staged, is_swapped, keep, put_back, recover, swap
from .tar_reader import ReadLimits
from .tree_writer import remove_tree
from .unpack import Target, Unpacked, unpack_chain

__all__ = [
    "RestorePlan",
    "RestoreRequest",
    "Staged",
    "discard_staged",
    "is_swapped",
    "keep",
    "plan_restore",
    "put_back",
    "recover",
    "stage_restore",
    "swap",
]


def offsite_directory(root: Path, bot: str) -> Path:
    """Where copies lie that were fetched to be restored as ``bot``, each other's in a directory of its bot's name."""
    return root / "offsite" / bot


@dataclass(frozen=True)
class RestoreRequest:
    """What to restore, and where.

    :param root: ``clawfactory_root``.
    :param bot: whose state is replaced.
    :param state: the live state directory; its parent is root's.
    :param directory: where the snapshots are.
    :param name: ``latest``, an id, a file name, a label or the start of an id.
    :param identities: age private keys; secret.
    :param uid: user that gets every file, and ``gid`` its group.
    :param destination: of :func:`.extract.extract_paths`.
    :param paths: of :func:`.extract.extract_paths`, relative to the state.
    """

    root: Path
    bot: str
    state: Path
    directory: Path
    name: str
    identities: tuple[str, ...] = field(repr=False)
    uid: int
    gid: int
    destination: Path | None = None
    paths: tuple[str, ...] = ()
    limits: ReadLimits = field(default_factory=ReadLimits)

    @property
    def source_bot(self) -> str:
        """Whose snapshots they must be: the one whose directory they are in; empty if that is no bot's."""
        known = (self.root / "snapshots", offsite_directory(self.root, self.bot))
        return self.directory.name if self.directory.parent in known else ""


@dataclass(frozen=True)
class RestorePlan:
    """What a restore would read, as far as can be told without a key.

    :param chain: archives, the full one first.
    :param count: entries of the state, ``bytes`` those of its files; -1 if unknown.
    :param size: bytes of the archives.
    """

    chain: tuple[SnapshotRecord, ...]
    count: int
    bytes: int
    size: int

    @property
    def record(self) -> SnapshotRecord:
        """The snapshot itself."""
        return self.chain[-1]


@dataclass(frozen=True)
class Staged:
    """A restored state, complete and verified, that is not live yet.

    :param path: its directory.
    :param id: the snapshot's.
    """

    path: Path
    id: str
    unpacked: Unpacked


def plan_restore(request: RestoreRequest) -> RestorePlan:
    """Find the snapshot and what it builds upon; reads only, and no archive.

    :raises Conflict: the bot is locked.
    :raises InvalidInput: there is no such snapshot.
    :raises BrokenChain: something that it builds upon is missing.
    """
    check_unlocked(request.root, request.bot)
    records = list_snapshots(request.directory)
    chain = chain_of(records, find_to_restore(records, request.name))
    return RestorePlan(tuple(chain), chain[-1].count, chain[-1].bytes, sum(link.size for link in chain))


def stage_restore(request: RestoreRequest, progress: Callable[[Progress], None] | None = None) -> Staged:
    """Unpack and verify the whole chain beside the state; the state itself is not touched.

    What an earlier restore left is cleaned up first.

    :raises Conflict: the bot is locked, a restore runs or waits for its bot, or the disk is too full.
    :raises InvalidInput: there is no such snapshot or no key.
    :raises BrokenChain, BadArchive, WrongKey, Damaged: what is wrong with which archive; nothing is left of it.
    """
    plan = plan_restore(request)
    with swap_steps.locked(request.state):
        if swap_steps.recover_locked(request.state) == "waiting":
            raise Conflict(
                f"a restore of {request.bot} was not finished: its new state is in place, the old beside it; decide "
                f"first: ansible-playbook playbooks/restore.yml -l {request.bot} -e restore_decide=kept (or put_back)"
            )
        staging = swap_steps.staging_of(request.state, plan.record.id)
        unpacked = unpack_beside(request, plan.chain, staging, progress)
        write_journal(request.state, Journal("staged", plan.record.id, os.path.lexists(request.state)))
        return Staged(staging / "state", plan.record.id, unpacked)


def unpack_beside(
    request: RestoreRequest,
    chain: Sequence[SnapshotRecord],
    staging: Path,
    progress: Callable[[Progress], None] | None,
    *,
    checking: bool = False,
    listed: bytes | None = None,
) -> Unpacked:
    """Unpack a chain to ``<staging>/state``, which is on disk when this returns; after an error ``staging`` is gone.

    :param staging: is made; root's alone, so that the bot cannot reach what becomes its own.
    :param checking: it is only looked at and thrown away: the disk is not waited for, and where the manifest will tell
        the databases, no other files are written.
    :param listed: nothing is written, and this directory is told of.
    :raises Conflict, BrokenChain, BadArchive, WrongKey, Damaged, InvalidInput: as :func:`stage_restore`.
    """
    if listed is None:
        check_room(staging.parent, chain[-1], request.limits)
    os.mkdir(staging, 0o700)
    try:
        path = staging / "state"
        os.mkdir(path, 0o700)
        if os.geteuid() == 0:
            os.chown(path, request.uid, request.gid)
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with tempfile.TemporaryFile(dir=staging) as spool:
                databases_only = checking and listed is None and chain[-1].kind != "legacy"
                wanted = None if listed is None else _nothing
                target = Target(
                    root, spool, request.uid, request.gid, wanted, databases_only=databases_only, listed=listed
                )
                unpacked = unpack_chain(
                    request.directory,
                    chain,
                    request.identities,
                    target,
                    request.limits,
                    bot=request.source_bot,
                    progress=progress,
                )
            if not checking:
                os.fchmod(root, _mode_of(request.state))
                Meter(progress, "writing to disk").count(0)
                swap_steps.sync_tree(root)
        finally:
            os.close(root)
    except BaseException:
        discard(staging)
        raise
    return unpacked


def _nothing(_path: bytes, _directory: bool) -> bool:
    return False


def check_room(directory: Path, record: SnapshotRecord, limits: ReadLimits) -> None:
    """See early whether the disk of ``directory`` has room for the state of ``record``.

    What the record says may be too little, by holes smaller than those that are kept; while files are written,
    ``min_free_bytes`` stay free whatever it says (:meth:`.tree_writer.TreeWriter.spend`).

    :raises Conflict: it has not.
    """
    found = os.statvfs(directory)
    free = found.f_bavail * found.f_frsize
    state = record.bytes if record.disk < 0 else min(record.disk, record.bytes)
    needed = max(state, record.size if record.kind != "inc" else 0, 0)
    if free < needed + limits.min_free_bytes:
        raise Conflict(
            f"{record.id} needs {needed} bytes and {limits.min_free_bytes} are to stay free, "
            f"the disk of {directory} has {free}; make room"
        )


def discard(staging: Path) -> None:
    """Remove a directory with all that is in it."""
    parent = os.open(staging.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_tree(parent, os.fsencode(staging.name))
    finally:
        os.close(parent)


def _mode_of(state: Path) -> int:
    try:
        found = os.lstat(state)
    except FileNotFoundError:
        return 0o700
    return found.st_mode & 0o777 if stat.S_ISDIR(found.st_mode) else 0o700
