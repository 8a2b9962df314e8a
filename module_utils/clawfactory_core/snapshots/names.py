"""Ids, labels and file names of snapshots."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

KINDS = ("full", "inc", "legacy")
DEFAULT_LABEL = "snapshot"
_MAX_LABEL = 64
_TIME = "%Y-%m-%dT%H-%M-%SZ"
_ID = r"(?P<label>[A-Za-z0-9_-]+?)--(?P<time>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ)"
_CURRENT = re.compile(rf"(?P<id>{_ID})\.(?P<kind>full|inc)\.tar\.zst\.age")
# The original's: <label>--<time>.tar.age, and before it had labels snapshot-<time>.tar.age.
_LEGACY = re.compile(rf"(?P<id>{_ID}|snapshot-(?P<old_time>\d{{4}}-\d\d-\d\dT\d\d-\d\d-\d\dZ))\.tar\.age")


@dataclass(frozen=True)
class SnapshotFile:
    """What the name of an archive tells.

    :param kind: one of :data:`KINDS`.
    :param time: UTC, to the second.
    :param name: file name.
    """

    id: str
    kind: str
    label: str
    time: datetime
    name: str


def sanitise_label(label: str) -> str:
    """A label as it stands in a file name: letters, digits, ``-`` and ``_``, at most 64; empty becomes ``snapshot``."""
    clean = re.sub(r"-+", "-", re.sub(r"[^A-Za-z0-9_-]", "-", label))
    return clean.strip("-")[:_MAX_LABEL].strip("-") or DEFAULT_LABEL


def new_id(label: str, now: datetime, taken: Collection[str]) -> str:
    """An id that is not in ``taken``, a second later than ``now`` or more if it must.

    :param now: with a time zone.
    """
    moment = now.astimezone(timezone.utc)
    while True:
        candidate = f"{sanitise_label(label)}--{moment.strftime(_TIME)}"
        if candidate not in taken:
            return candidate
        moment += timedelta(seconds=1)


def file_name(snapshot_id: str, kind: str) -> str:
    """Name of an archive of kind ``full`` or ``inc``."""
    return f"{snapshot_id}.{kind}.tar.zst.age"


def record_name(snapshot_id: str, kind: str) -> str:
    """Name of the record beside an archive."""
    return f"{snapshot_id}.{kind}.json"


def parse_file_name(name: str) -> SnapshotFile | None:
    """What an archive's file name says; ``None`` for every other file."""
    match = _CURRENT.fullmatch(name)
    kind = match["kind"] if match else "legacy"
    match = match or _LEGACY.fullmatch(name)
    if match is None:
        return None
    groups = match.groupdict()
    text = groups["time"] or groups["old_time"]
    try:
        time = datetime.strptime(text, _TIME).replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return SnapshotFile(groups["id"], kind, groups["label"] or DEFAULT_LABEL, time, name)
