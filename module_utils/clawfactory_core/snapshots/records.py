"""The record beside an archive: what can be listed without a key."""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..errors import CoreError
from ..files import sync_directory, write_atomic
from .names import SnapshotFile, parse_file_name, record_name

SCHEMA = 1
LATEST = "latest"
_MAX_RECORD_BYTES = 1 << 20
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class SnapshotRecord:
    """One snapshot.

    :param kind: ``full``, ``inc``, or ``legacy`` for an archive of the original.
    :param parent: id of the snapshot it builds upon, empty for a full one.
    :param parent_sha256: SHA-256 of that one's archive, 64 hex digits.
    :param started: UTC, ``YYYY-MM-DDTHH:MM:SS.ffffffZ``.
    :param size: bytes of the archive; ``sha256`` is its digest, 64 hex digits, empty if unknown.
    :param count: entries of the whole state, ``bytes`` those of its regular files; -1 if unknown.
    :param disk: bytes that these take on disk, without holes; -1 if unknown.
    :param left_out: number of entries that were left out.
    :param recipients: age public keys that it is encrypted for.
    :param verified: time as ``started``, empty if it never was; ``verified_how`` is ``digest`` or ``content``.
    :param problem: why the record is not to be trusted, empty if it is.
    """

    id: str
    kind: str
    bot: str = ""
    label: str = ""
    parent: str = ""
    parent_sha256: str = ""
    started: str = ""
    finished: str = ""
    size: int = 0
    sha256: str = ""
    count: int = -1
    bytes: int = -1
    disk: int = -1
    left_out: int = 0
    recipients: tuple[str, ...] = ()
    verified: str = ""
    verified_how: str = ""
    schema: int = SCHEMA
    file_name: str = ""
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the record; unset ``parent`` is null, unset ``verified`` and ``disk`` are not there."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        for name in ("file_name", "problem"):
            del data[name]
        for name in ("verified", "verified_how"):
            if not data[name]:
                del data[name]
        if self.disk < 0:
            del data["disk"]
        data["parent"] = self.parent or None
        data["parent_sha256"] = self.parent_sha256 or None
        data["recipients"] = list(self.recipients)
        return data


def timestamp(moment: datetime) -> str:
    """A moment as records and manifests have it: ``YYYY-MM-DDTHH:MM:SS.ffffffZ``."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def read_record(directory: Path, file: SnapshotFile) -> SnapshotRecord:
    """The record of an archive.

    Without a readable one: what the archive's name and size tell, and why in ``problem``.

    :raises OSError: the archive itself is not there.
    """
    found = os.lstat(directory / file.name)
    plain = SnapshotRecord(
        id=file.id,
        kind=file.kind,
        label=file.label,
        started=timestamp(file.time),
        finished=timestamp(file.time),
        size=found.st_size,
        file_name=file.name,
    )
    if not stat.S_ISREG(found.st_mode):
        return replace(plain, size=0, problem=f"{file.name} is not a regular file")
    if file.kind == "legacy":
        return plain
    name = record_name(file.id, file.kind)
    try:
        record = _parse(_read(directory / name), file)
    except FileNotFoundError:
        return replace(plain, problem=f"its record {name} is missing")
    except (OSError, ValueError) as error:
        return replace(plain, problem=f"its record {name} cannot be read: {error}")
    if record.size != found.st_size:
        problem = f"{file.name} has {found.st_size} bytes, its record says {record.size}"
        return replace(record, problem=problem)
    return record


def write_record(directory: Path, record: SnapshotRecord, owner: int) -> None:
    """Write a record, 0600 and of ``owner`` (user and group), so that a reader sees the old one or the new one.

    :raises OSError: nothing has been replaced.
    """
    data = json.dumps(record.to_dict(), indent=1, sort_keys=True).encode() + b"\n"
    write_atomic(directory / record_name(record.id, record.kind), data, mode=0o600, owner=owner, group=owner)


def link_latest(directory: Path, file_name: str) -> None:
    """Point ``latest`` at an archive of the same directory, in one step.

    :raises OSError: the link is as it was.
    """
    if parse_file_name(file_name) is None:
        raise CoreError(f"{file_name!r} is not the name of an archive; 'latest' must point at one")
    temporary = directory / f".latest.{os.urandom(4).hex()}"
    os.symlink(file_name, temporary)
    try:
        os.replace(temporary, directory / LATEST)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(directory)


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as handle:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a regular file")
        data = handle.read(_MAX_RECORD_BYTES + 1)
    if len(data) > _MAX_RECORD_BYTES:
        raise ValueError(f"larger than {_MAX_RECORD_BYTES} bytes")
    return data


def _parse(data: bytes, file: SnapshotFile) -> SnapshotRecord:
    raw = json.loads(data)
    if not isinstance(raw, dict):
        raise ValueError("not an object")
    schema = raw.get("schema")
    if type(schema) is not int or schema < 1:
        raise ValueError(f"schema {schema!r} is not a number")
    if schema > SCHEMA:
        raise ValueError(f"schema {schema} was written by a newer ClawFactory; update this one")
    values: dict[str, Any] = {"file_name": file.name}
    for item in fields(SnapshotRecord):
        if item.name in ("file_name", "problem") or raw.get(item.name) is None:
            continue
        values[item.name] = _value(item.name, str(item.type), raw[item.name])
    record = SnapshotRecord(**{"id": "", "kind": "", **values})
    if (record.id, record.kind) != (file.id, file.kind):
        raise ValueError(f"it is of {record.id!r} ({record.kind!r})")
    if not _SHA256.fullmatch(record.sha256):
        raise ValueError(f"sha256 {record.sha256!r} is not 64 hex digits")
    if record.kind == "inc" and not (record.parent and _SHA256.fullmatch(record.parent_sha256)):
        raise ValueError("an incremental snapshot without parent or parent_sha256")
    return record


def _value(name: str, kind: str, value: Any) -> Any:
    if kind == "str" and isinstance(value, str):
        return value
    if kind == "int" and type(value) is int:
        return value
    if kind.startswith("tuple") and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ValueError(f"{name} {value!r} has the wrong type")
