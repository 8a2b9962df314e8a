"""Makes snapshots: a full one, or what changed since the last."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import Conflict, CoreError
from ..files import sync_directory
from . import swap as swap_steps
from .basis import Basis, SnapshotPlan, SnapshotRequest, check_request, index_path
from .capture import Limits
from .digests import BLOCK_SIZE, KEY_SIZE
from .index import IndexHeader, body_digest, write_header
from .names import file_name, sanitise_label
from .pipeline import Outcome, Task, run_pipeline
from .progress import Meter, Progress
from .progress_file import PREFIX as PROGRESS
from .records import SCHEMA, SnapshotRecord, link_latest, timestamp, write_record
from .rules import Rules

__all__ = ["Limits", "Progress", "SnapshotPlan", "SnapshotRequest", "SnapshotResult", "apply_snapshot", "plan_snapshot"]

_LOCK = ".lock"
_PATIENCE = 2.0  # seconds
# As write_atomic names it. Whoever still writes it does so for no longer.
_TEMPORARY_RECORD = re.compile(r"\.(.+\.json)\.[0-9a-f]{8}\.partial")
_SECONDS_FOR_A_RECORD = 600
_MAX_LOCK_TEXT = 200
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class SnapshotResult:
    """A snapshot that was made.

    :param left_out: ``{"path", "reason"}`` of what was left out, at most 1000, most important first.
    :param left_out_count: number of entries by reason.
    :param warnings: texts for the operator.
    :param seconds: how long it took.
    """

    record: SnapshotRecord
    left_out: list[dict[str, str]]
    left_out_count: dict[str, int]
    warnings: list[str]
    seconds: float


def plan_snapshot(request: SnapshotRequest) -> SnapshotPlan:
    """What a snapshot would be; reads only.

    :raises InvalidInput: a value of the request is refused.
    :raises Conflict: the bot is locked, or there is too little room.
    """
    check_request(request)
    with Basis(request) as basis:
        return basis.plan()


def apply_snapshot(request: SnapshotRequest, progress: Callable[[Progress], None] | None = None) -> SnapshotResult:
    """Make a snapshot. It is there completely, or not at all.

    :raises InvalidInput: a value of the request is refused.
    :raises Conflict: the bot is locked, another snapshot of it is being made, a restore of it is being prepared or
        swapped in, or there is too little room.
    :raises CoreError: it could not be made; earlier ones are as they were.
    """
    begun = time.monotonic()
    check_request(request)
    index = index_path(request)
    try:
        with _locked(request) as lock, swap_steps.locked(request.state, shared=True):
            _sweep(request.directory, index)
            swap_steps.sweep_checks(request.state, request.directory)
            with Basis(request) as basis:
                record, outcome = _make(request, basis, index, lock, progress)
    except OSError as error:
        raise CoreError(f"a snapshot of {request.bot} could not be made: {error}") from error
    read = outcome.read
    warnings = [f"{path} went on changing while it was read" for path in read["changed"]] + read["warnings"]
    return SnapshotResult(
        record, read["left_out"], read["left_out_count"], warnings, round(time.monotonic() - begun, 3)
    )


def snapshot_is_being_made(directory: Path) -> bool:
    """Whether a snapshot is being made now.

    :param directory: where the bot's snapshots are.
    """
    try:
        descriptor = os.open(directory / _LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def _locked(request: SnapshotRequest) -> Iterator[int]:
    """Hold the lock of the bot's snapshots. :raises Conflict: another one holds it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(request.directory / _LOCK, flags, 0o600)
    try:
        if not _lock_soon(descriptor):
            since = os.pread(descriptor, _MAX_LOCK_TEXT, 0).decode("ascii", "replace")
            since = since if since.isprintable() else "?"
            raise Conflict(
                f"another snapshot of {request.bot} is being made (since {since or 'just now'}); wait for it"
            )
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise Conflict(f"{request.directory / _LOCK} is not a lock file; remove it")
        os.fchown(descriptor, request.owner, request.owner)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, timestamp(datetime.now(timezone.utc)).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock_soon(descriptor: int) -> bool:
    """Take the lock; processes of a run that was killed hold it until they are gone, which takes a moment."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        else:
            return True


def _sweep(directory: Path, index: Path) -> None:
    """Remove what a killed run left, and nothing of a verification, which runs without the lock."""
    left = [path for path in directory.glob(".*") if path.name != _LOCK and not path.name.startswith(PROGRESS)]
    left += index.parent.glob(f".{index.name}.*")
    for path in left:
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(found.st_mode) and not _is_being_noted(path, found):
            path.unlink(missing_ok=True)


def _is_being_noted(path: Path, found: os.stat_result) -> bool:
    """Whether a verification may be writing its result: to a record that is there, unlike that of a new snapshot."""
    match = _TEMPORARY_RECORD.fullmatch(path.name)
    return bool(
        match and os.path.lexists(path.with_name(match[1])) and time.time() - found.st_mtime < _SECONDS_FOR_A_RECORD
    )


def _reported(report: Callable[[Progress], None] | None) -> Callable[[int, int], None]:
    meters = {0: Meter(report, "looking through the state")}

    def count(done: int, total: int) -> None:
        if total not in meters:
            meters[total] = Meter(report, "archiving", total)
        meters[total].count(done, last=0 < total <= done)

    return count


def _make(
    request: SnapshotRequest, basis: Basis, index: Path, lock: int, progress: Callable[[Progress], None] | None
) -> tuple[SnapshotRecord, Outcome]:
    plan = basis.plan()
    started = timestamp(basis.now)
    name = file_name(plan.id, plan.kind)
    partial = request.directory / f".{name}.{os.urandom(4).hex()}.partial"
    index.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new_index = index.with_name(f".{index.name}.{os.urandom(4).hex()}")
    key = bytes.fromhex(basis.header.key) if basis.header else os.urandom(KEY_SIZE)
    try:
        with (
            _opened(request.state, _DIRECTORY) as state,
            _opened(partial, _NEW) as target,
            _opened(new_index, _NEW) as index_file,
        ):
            owner = os.fstat(state)
            task = Task(
                header=_header(request, plan, basis, started, key, owner),
                state=state,
                uid=owner.st_uid,
                gid=owner.st_gid,
                key=key,
                rules=Rules(request.exclude, request.include),
                limits=request.limits,
                started_ns=basis.now_ns,
                parent_started_ns=basis.header.started_ns if basis.header else 0,
                index=basis.index,
                new_index=index_file,
                target=target,
                recipients=request.recipients,
                min_free_bytes=request.min_free_bytes,
                private=(lock,),
            )
            outcome = run_pipeline(task, _reported(progress))
            os.fchown(target, request.owner, request.owner)
            os.fsync(target)
            record = _record(request, plan, basis, started, outcome)
            _publish(request, record, partial, index_file, new_index, index, basis.now_ns, key)
    finally:
        partial.unlink(missing_ok=True)
        new_index.unlink(missing_ok=True)
    return record, outcome


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _publish(
    request: SnapshotRequest,
    record: SnapshotRecord,
    partial: Path,
    index_file: int,
    new_index: Path,
    index: Path,
    started_ns: int,
    key: bytes,
) -> None:
    """The index last: what was not reached before a crash makes the next snapshot a full one."""
    os.rename(partial, request.directory / record.file_name)
    sync_directory(request.directory)
    write_record(request.directory, record, request.owner)
    link_latest(request.directory, record.file_name)
    header = IndexHeader(
        bot=request.bot,
        id=record.id,
        kind=record.kind,
        archive_size=record.size,
        sha256=record.sha256,
        started_ns=started_ns,
        key=key.hex(),
        body_sha256=body_digest(index_file),
    )
    write_header(index_file, header)
    os.rename(new_index, index)
    sync_directory(index.parent)


def _header(
    request: SnapshotRequest,
    plan: SnapshotPlan,
    basis: Basis,
    started: str,
    key: bytes,
    owner: os.stat_result,
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "id": plan.id,
        "kind": plan.kind,
        "bot": request.bot,
        "label": sanitise_label(request.label),
        "parent": plan.parent or None,
        "parent_sha256": basis.header.sha256 if basis.header else None,
        "started": started,
        "uid": owner.st_uid,
        "gid": owner.st_gid,
        "block_size": BLOCK_SIZE,
        "digest_key": key.hex(),
        "program": f"clawfactory {__version__}",
    }


def _record(
    request: SnapshotRequest, plan: SnapshotPlan, basis: Basis, started: str, outcome: Outcome
) -> SnapshotRecord:
    return SnapshotRecord(
        id=plan.id,
        kind=plan.kind,
        bot=request.bot,
        label=sanitise_label(request.label),
        parent=plan.parent,
        parent_sha256=basis.header.sha256 if basis.header else "",
        started=started,
        finished=outcome.read["finished"],
        size=outcome.written["size"],
        sha256=outcome.written["sha256"],
        count=outcome.read["count"],
        bytes=outcome.read["bytes"],
        disk=outcome.read["disk"],
        left_out=sum(outcome.read["left_out_count"].values()),
        recipients=request.recipients,
        file_name=file_name(plan.id, plan.kind),
    )
