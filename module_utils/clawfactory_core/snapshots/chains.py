"""Snapshots of a bot as a list and as chains; which of them may go."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ..errors import Conflict, CoreError, InvalidInput
from ..files import sync_directory
from ..locks import check_unlocked
from .names import parse_file_name, record_name
from .records import LATEST, SCHEMA, SnapshotRecord, read_record

# A clock may be a little ahead; a snapshot from further ahead was made while it was wrong.
_AHEAD = timedelta(days=1)
#: Label of the snapshot of what a restore replaces.
BEFORE_RESTORE = "before-restore"


class BrokenChain(CoreError):
    """A snapshot cannot be restored because one that it builds upon is missing or not what it was."""


@dataclass(frozen=True)
class Retention:
    """How many snapshots stay: the ``last`` ones, and the newest one of that many days, weeks and months (UTC)."""

    last: int = 7
    daily: int = 7
    weekly: int = 4
    monthly: int = 6


def list_snapshots(directory: Path) -> list[SnapshotRecord]:
    """All snapshots in ``directory``, those of the original too; newest first.

    The one that ``latest`` points at comes first whatever its time says: a clock can be set back.

    :raises InvalidInput: ``directory`` cannot be read.
    """
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise InvalidInput(f"snapshots in {directory} cannot be listed: {error.strerror}") from error
    records = []
    for name in names:
        file = parse_file_name(name)
        if file is not None:
            with contextlib.suppress(FileNotFoundError):
                records.append(read_record(directory, file))
    latest = _latest(directory)
    return sorted(records, key=lambda record: (record.file_name == latest, _moment(record), record.id), reverse=True)


def _latest(directory: Path) -> str:
    try:
        return os.readlink(directory / LATEST)
    except OSError:
        return ""


def _moment(record: SnapshotRecord) -> datetime:
    try:
        return datetime.fromisoformat(record.started.replace("Z", "+00:00")).astimezone(timezone.utc)
    except ValueError:
        file = parse_file_name(record.file_name)
        return file.time if file else datetime.min.replace(tzinfo=timezone.utc)


def find(records: Sequence[SnapshotRecord], name: str) -> SnapshotRecord:
    """The snapshot that ``name`` means: ``latest``, an id, a file name, a label (its newest), or the start of one id.

    :param records: as :func:`list_snapshots` gives them.
    :raises InvalidInput: there is none, or ``name`` starts several ids.
    """
    if not records:
        raise InvalidInput("there is no snapshot yet; make one first")
    if name == LATEST:
        return records[0]
    for attribute in ("id", "file_name", "label"):
        for record in records:
            if getattr(record, attribute) == name:
                return record
    ids = [record.id for record in records]
    started = [record for record in records if name and record.id.startswith(name)]
    if len(started) == 1:
        return started[0]
    if started:
        raise InvalidInput(f"snapshot {name!r} could be any of {_some([one.id for one in started])}; give the whole id")
    near = difflib.get_close_matches(name, ids, 3, 0.5) or ids[:3]
    raise InvalidInput(f"there is no snapshot {name!r}; near it are {_some(near)}, or 'latest'")


def find_to_restore(records: Sequence[SnapshotRecord], name: str) -> SnapshotRecord:
    """As :func:`find`, but ``latest`` is none of a state that a restore replaced: a second try would bring that back.

    :raises InvalidInput: as :func:`find`, or there are no others.
    """
    if name != LATEST or not records:
        return find(records, name)
    found = next((record for record in records if record.label != BEFORE_RESTORE), None)
    if found is None:
        some = _some([record.id for record in records])
        raise InvalidInput(f"every snapshot is one of what a restore replaced; name one: {some}")
    return found


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")


def chain_of(records: Sequence[SnapshotRecord], record: SnapshotRecord) -> list[SnapshotRecord]:
    """What is needed to restore ``record``, the full snapshot first and ``record`` last.

    :raises BrokenChain: a link is missing, cannot be used, loops, or is not the archive that its child was made for.
    """
    by_id = {one.id: one for one in records if one.kind != "legacy"}
    chain = [record]
    _check_record(record, record)
    while chain[0].kind == "inc":
        child = chain[0]
        parent = by_id.get(child.parent)
        if parent is None:
            raise BrokenChain(f"snapshot {record.id} needs {child.parent}, the parent of {child.id}, which is missing")
        if any(parent.id == one.id for one in chain):
            raise BrokenChain(f"the chain of snapshot {record.id} loops: {parent.id} comes twice")
        _check_record(parent, record)
        if parent.sha256 and parent.sha256 != child.parent_sha256:
            raise BrokenChain(
                f"{parent.file_name} is not the archive that {child.id} was made for; restore the right one"
            )
        chain.insert(0, parent)
    return chain


def _check_record(link: SnapshotRecord, record: SnapshotRecord) -> None:
    if link.schema > SCHEMA:
        raise BrokenChain(f"{link.file_name} was written by a newer ClawFactory (schema {link.schema}); update first")
    # A full snapshot needs nothing of its record; of an incremental one it tells the parent.
    if link.problem and not (link.kind != "inc" and link.size and not link.sha256):
        raise BrokenChain(f"snapshot {record.id} cannot be restored: {link.problem}")


def plan_prune(records: Sequence[SnapshotRecord], retention: Retention, now: datetime) -> list[SnapshotRecord]:
    """What may go: whole chains of which no snapshot is to stay; children before what they build upon.

    The chain of the newest snapshot and that of the newest verified one always stay, and so does what is broken (a
    missing link may come back) and what says that it is from the future.

    :param records: as :func:`list_snapshots` gives them.
    :raises InvalidInput: a number of ``retention`` is negative.
    """
    kept = _kept(records, retention, now)
    kept.update(record.id for record in records[:1])
    verified = [record for record in records if record.verified]
    kept.update(record.id for record in verified[:1])
    chains: dict[str, list[SnapshotRecord]] = {}
    for record in records:
        try:
            chain = chain_of(records, record)
        except BrokenChain:
            # Whatever it builds upon is needed once the link is back.
            kept.update(_ancestors(records, record))
            continue
        chains.setdefault(f"{chain[0].kind}/{chain[0].id}", []).append(record)
    going = []
    for members in chains.values():
        if not any(record.id in kept for record in members):
            going += sorted(members, key=lambda record: len(chain_of(records, record)), reverse=True)
    return going


def _ancestors(records: Sequence[SnapshotRecord], record: SnapshotRecord) -> set[str]:
    by_id = {one.id: one for one in records}
    found: set[str] = set()
    while record.id not in found:
        found.add(record.id)
        record = by_id.get(record.parent, record)
    return found


def _kept(records: Sequence[SnapshotRecord], retention: Retention, now: datetime) -> set[str]:
    rules = (
        ("last", retention.last, None),
        ("daily", retention.daily, "%Y-%m-%d"),
        ("weekly", retention.weekly, "%G-%V"),
        ("monthly", retention.monthly, "%Y-%m"),
    )
    future = [record for record in records if _moment(record) > now + _AHEAD]
    present = sorted((record for record in records if record not in future), key=_moment, reverse=True)
    kept = {record.id for record in future}
    for name, count, pattern in rules:
        if count < 0:
            raise InvalidInput(f"retention {name} is {count}; give 0 or more")
        slots: dict[str, str] = {}
        for record in present:
            slots.setdefault(_moment(record).strftime(pattern) if pattern else record.id, record.id)
        kept.update(list(slots.values())[:count])
    return kept


def apply_prune(directory: Path, records: Sequence[SnapshotRecord]) -> None:
    """Delete snapshots in the order given, each archive before its record. What is gone already is no error.

    :param directory: ``<clawfactory_root>/snapshots/<bot>``.
    :raises Conflict: the bot is locked, or ``latest`` points at one of them; nothing has been deleted.
    :raises OSError: from the file system; those before are gone.
    """
    check_unlocked(directory.parent.parent, directory.name)
    latest = _latest(directory)
    for record in records:
        if record.file_name == latest:
            raise Conflict(f"{latest} is the latest snapshot and stays; list the snapshots again")
    for record in records:
        (directory / record.file_name).unlink(missing_ok=True)
        # The record of an archive that came back after a power cut would be gone otherwise.
        sync_directory(directory)
        if record.kind != "legacy":
            (directory / record_name(record.id, record.kind)).unlink(missing_ok=True)
    sync_directory(directory)


def table(records: Sequence[SnapshotRecord]) -> str:
    """Snapshots as lines of text, in the order given."""
    lines = [f"{'id':<48} {'kind':<6} {'started':<20} {'size':>12} {'verified':<28} problem"]
    for record in records:
        verified = f"{record.verified[:19]} {record.verified_how}".strip()
        start = f"{record.id:<48} {record.kind:<6} {record.started[:19]:<20}"
        lines.append(f"{start} {record.size:>12} {verified:<28} {record.problem}")
    return "\n".join(line.rstrip() for line in lines) + "\n"
