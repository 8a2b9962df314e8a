"""What somebody asks for, and what the next snapshot builds upon."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from ..adapters.age import check_recipients
from ..errors import Conflict, CoreError, InvalidInput
from ..locks import LOCKED, read_lock
from ..names import check_bot_name
from .capture import Limits
from .chains import chain_of, list_snapshots
from .index import IndexHeader, UnusableIndex, open_index
from .names import new_id, parse_file_name
from .records import SnapshotRecord
from .rules import Rules

_AUTO_KINDS = ("auto", "full")


@dataclass(frozen=True)
class SnapshotRequest:
    """One snapshot that somebody asks for.

    :param root: clawfactory_root; a file of the bot's name in its ``locks/`` refuses the request.
    :param state: the bot's state directory; what owns it is what reads it.
    :param directory: where the bot's snapshots are, an existing directory.
    :param owner: user and group that the files there get.
    :param recipients: age public keys, at least one.
    :param kind: ``auto`` for an incremental one where that makes sense, or ``full``.
    :param exclude: patterns as in :data:`.rules.LEFT_OUT`; ``include`` wins over them and over the table.
    :param max_chain: archives of a chain, after which a full one follows.
    :param max_delta_ratio: bytes of a chain's incremental archives against those of its full one, the same.
    :param min_free_bytes: what must stay free where the snapshots are.
    :param of_locked: also of a locked bot, once everything of it is dead: to keep what it was locked for.
    :param index: file of the local index; ``None`` for ``<root>/secrets/<bot>/snapshot.index``.
    """

    root: Path
    bot: str
    state: Path
    directory: Path
    owner: int
    recipients: tuple[str, ...]
    label: str = ""
    kind: str = "auto"
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    max_chain: int = 30
    max_delta_ratio: float = 0.30
    min_free_bytes: int = 1 << 30
    index: Path | None = None
    of_locked: bool = False


@dataclass(frozen=True)
class SnapshotPlan:
    """What a snapshot would be.

    :param id: the id, if it were made this second.
    :param kind: ``full`` or ``inc``; ``why`` says why.
    :param parent: id of the parent, empty for a full one.
    :param free_bytes: free now; ``needed_bytes`` of them by the size of the last one of this kind.
    """

    id: str
    kind: str
    why: str
    parent: str
    free_bytes: int
    needed_bytes: int


def check_request(request: SnapshotRequest) -> None:
    """:raises InvalidInput: a value is refused. :raises Conflict: the bot is locked."""
    check_bot_name(request.bot)
    lock = read_lock(request.root, request.bot)
    if lock is not None and not (request.of_locked and lock.state == LOCKED):
        raise Conflict(lock.refusal)
    if request.kind not in _AUTO_KINDS:
        raise InvalidInput(f"kind {request.kind!r} is unknown; use 'auto' or 'full'")
    check_recipients(request.recipients)
    Rules(request.exclude, request.include)
    for path, what in ((request.state, "state"), (request.directory, "snapshots")):
        try:
            found = os.lstat(path)
        except OSError as error:
            raise InvalidInput(f"{what} directory {path}: {error.strerror}; deploy the bot first") from error
        if not stat.S_ISDIR(found.st_mode):
            raise InvalidInput(f"{what} directory {path} is not a directory")


def index_path(request: SnapshotRequest) -> Path:
    """File of the local index."""
    return request.index or request.root / "secrets" / request.bot / "snapshot.index"


class Basis:
    """What the next snapshot builds upon. :ivar index: descriptor of the parent's index, ``None`` for a full one."""

    def __init__(self, request: SnapshotRequest) -> None:
        self._request = request
        self.now_ns = time.time_ns()
        self.now = datetime.fromtimestamp(self.now_ns / 10**9, timezone.utc)
        self.records = list_snapshots(request.directory)
        self.index: int | None = None
        self.header: IndexHeader | None = None
        self.why = "a full one was asked for"
        if request.kind != "full":
            try:
                self.index, self.header = open_index(index_path(request), request.bot)
                self.why = "changes are few, the chain is short"
                self._check_parent(self.header)
            except CoreError as error:
                self.why = str(error)
                self.close()

    def __enter__(self) -> Basis:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the index."""
        descriptor, self.index, self.header = self.index, None, None
        if descriptor is not None:
            os.close(descriptor)

    def _check_parent(self, header: IndexHeader) -> None:
        if header.started_ns > self.now_ns:
            raise UnusableIndex(f"the clock is before {header.id}, the last snapshot")
        record = next((one for one in self.records if (one.id, one.kind) == (header.id, header.kind)), None)
        if record is None:
            raise UnusableIndex(f"the archive of {header.id}, the last snapshot, is gone")
        if (record.sha256, record.size) != (header.sha256, header.archive_size):
            raise UnusableIndex(f"the archive of {header.id} is not the one that the index is of")
        if set(record.recipients) != set(self._request.recipients):
            raise UnusableIndex(f"the recipients are not those of {header.id}")
        own = parse_file_name(record.file_name)
        for other in self.records:
            file = parse_file_name(other.file_name)
            # One that is from the future was made while the clock was wrong.
            if file and own and file.kind != "legacy" and own.time < file.time <= self.now:
                raise UnusableIndex(f"the index is of {header.id}, not of {other.id}, the last snapshot")
        self._check_chain(chain_of(self.records, record))

    def _check_chain(self, chain: Sequence[SnapshotRecord]) -> None:
        if len(chain) >= self._request.max_chain:
            raise UnusableIndex(f"the chain has {len(chain)} archives already")
        deltas = sum(record.size for record in chain[1:])
        if deltas >= self._request.max_delta_ratio * chain[0].size:
            raise UnusableIndex(f"the changes since {chain[0].id} have {deltas} bytes already")

    def plan(self) -> SnapshotPlan:
        """:raises Conflict: there is too little room."""
        kind = "full" if self.header is None else "inc"
        taken = {record.id for record in self.records}
        last = next((record.size for record in self.records if record.kind == kind), 0)
        needed = self._request.min_free_bytes + last
        found = os.statvfs(self._request.directory)
        free = found.f_bavail * found.f_frsize
        if free < needed:
            raise Conflict(
                f"{free} bytes are free in {self._request.directory}, a snapshot needs {needed} (the last one of its "
                f"kind had {last}, {self._request.min_free_bytes} must stay free); prune snapshots or make room"
            )
        snapshot_id = new_id(self._request.label, self.now, taken)
        return SnapshotPlan(snapshot_id, kind, self.why, self.header.id if self.header else "", free, needed)
