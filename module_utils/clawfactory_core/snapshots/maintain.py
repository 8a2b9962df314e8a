"""Renames and deletes one snapshot, as the operator asks; what others build upon stays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import audit as audit_log
from ..errors import Conflict, InvalidInput
from ..locks import check_unlocked
from .chains import apply_prune, list_snapshots
from .records import SnapshotRecord, write_record
from .settings import bot_directories, read_settings

#: As the log of decisions has it everywhere.
AUDIT_BYTES = 64 << 20
_LABEL = re.compile("[A-Za-z0-9_-]{1,64}")


def rename_snapshot(root: Path, bot: str, snapshot_id: str, label: str, *, actor: str) -> None:
    """Give a snapshot another label. Its id, its file and what is encrypted in it stay: others build upon them.

    :raises Conflict: the bot is locked.
    :raises InvalidInput: there is no such snapshot, it has no record to write in, or the label is none.
    """
    check_unlocked(root, bot)
    if not _LABEL.fullmatch(label):
        raise InvalidInput(f"label {label!r} is refused; give 1 to 64 letters, digits, - and _")
    directory = bot_directories(root, bot)[1]
    record = _find(list_snapshots(directory), snapshot_id)
    if record.kind == "legacy" or record.problem:
        raise InvalidInput(f"{snapshot_id} has no record that could be renamed: {record.problem or 'it is an old one'}")
    write_record(directory, replace(record, label=label), read_settings(root, bot).controller_uid)
    note(root, bot, "snapshot.rename", {"actor": actor, "snapshot": snapshot_id, "from": record.label, "to": label})


def delete_snapshot(root: Path, bot: str, snapshot_id: str, *, actor: str) -> None:
    """Delete a snapshot for good.

    :raises Conflict: the bot is locked, it is the newest, or others build upon it.
    :raises InvalidInput: there is no such snapshot.
    """
    directory = bot_directories(root, bot)[1]
    records = list_snapshots(directory)
    record = _find(records, snapshot_id)
    if records[0].id == snapshot_id:
        raise Conflict(f"{snapshot_id} is the newest snapshot, which the next one builds upon; make another one first")
    children = [one.id for one in records if one.parent == snapshot_id]
    if children:
        raise Conflict(f"{children[0]} builds upon {snapshot_id} and could not be restored without it; delete it first")
    apply_prune(directory, [record])
    note(root, bot, "snapshot.delete", {"actor": actor, "snapshot": snapshot_id, "label": record.label})


def note(root: Path, bot: str, event: str, fields: Mapping[str, Any]) -> None:
    """Add a line to the log of decisions."""
    audit_log.append(root / "audit" / f"{bot}.jsonl", event, bot, fields, max_bytes=AUDIT_BYTES)


def _find(records: list[SnapshotRecord], snapshot_id: str) -> SnapshotRecord:
    # By its id alone: a label may be that of several.
    for record in records:
        if record.id == snapshot_id:
            return record
    raise InvalidInput(f"there is no snapshot {snapshot_id}; list them again")
