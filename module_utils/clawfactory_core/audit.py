"""The audit log: one JSON line per event, each with the hash of the line before it.

The chain shows a line that was changed, taken out or put in between. That lines are missing at the end shows by
``<path>.head``, which has the hash of the line written last. Neither stops somebody who may write both files from
making all of it anew; their directory is for that.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .errors import Conflict, InvalidInput
from .files import sync_directory

#: What the first line of a log names as the hash of the line before.
NO_PREVIOUS = "0" * 64
#: The event of the line that follows one that was cut short; it names the hash of that and of the last whole line.
TORN = "audit.torn"
LINE_BYTES = 65536
#: Bytes after which a bot's log of decisions is rotated.
DECISION_BYTES = 64 << 20
_MODE = 0o640
_RESERVED = frozenset({"time", "bot", "event", "previous"})


@dataclass(frozen=True)
class Verification:
    """What was found.

    :param lines: how many were read, the rotated file's included.
    :param problems: one text each; none means that the chain is whole.
    """

    lines: int
    problems: tuple[str, ...]


def append(path: Path, event: str, bot: str, fields: Mapping[str, Any], *, max_bytes: int) -> None:
    """Add one line and wait until it is on the disk; several processes may do so at the same time.

    :param fields: what JSON can say; ``time``, ``bot``, ``event`` and ``previous`` are not theirs to give.
    :param max_bytes: a file that would grow beyond it becomes ``<path>.1``, in place of the one before.
    :raises InvalidInput: a reserved field, or a line of more than 64 KiB.
    :raises Conflict: something that is not a regular file is at ``path``.
    :raises OSError: the line may be incomplete; the next call closes it off.
    """
    taken = sorted(_RESERVED & set(fields))
    if taken:
        raise InvalidInput(f"audit field {taken[0]!r} is reserved; give it another name")
    while True:
        with _locked(path) as descriptor:
            if descriptor is None:
                continue  # rotated by another process while we waited
            size = os.fstat(descriptor).st_size
            before, torn = _tail(descriptor, size)
            if torn:
                closing = _line(TORN, bot, {"before": before or _end_of_rotated(path), "bytes": len(torn)}, _hash(torn))
                _write(descriptor, b"\n" + closing)
                continue
            line = _line(event, bot, fields, before or _end_of_rotated(path))
            if size and size + len(line) > max_bytes:
                os.replace(path, rotated(path))
                sync_directory(path.parent)
                continue
            _write(descriptor, line)
            _write_head(path, line)
            if not size:
                sync_directory(path.parent)
            return


def verify(path: Path) -> Verification:
    """Read the rotated file and the present one and check every link. A log that does not exist yet is whole.

    A log without the hash of its last line is one from before there was that: its end is taken as it is.

    :raises Conflict: something that is not a regular file is at ``path``.
    :raises OSError: a file cannot be read.
    """
    while os.path.lexists(path):
        with _locked(path, write=False) as descriptor:
            if descriptor is not None:
                return _verify([file for file in (rotated(path), path) if file.exists()], _read_head(path))
    return _verify([rotated(path)] if rotated(path).exists() else [], _read_head(path))


def rotated(path: Path) -> Path:
    """Where the lines before those in ``path`` are."""
    return path.with_name(f"{path.name}.1")


def head_of(path: Path) -> Path:
    """Where the hash of the last line in ``path`` is."""
    return path.with_name(f"{path.name}.head")


@contextlib.contextmanager
def _locked(path: Path, *, write: bool = True) -> Iterator[int | None]:
    """The open and locked log; ``None`` if it was renamed before the lock was had."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND if write else os.O_RDONLY
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, _MODE)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Conflict(f"{path} is not a regular file; move it away")
        fcntl.flock(descriptor, fcntl.LOCK_EX if write else fcntl.LOCK_SH)
        yield descriptor if _is_at(descriptor, path) else None
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    ours = os.fstat(descriptor)
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)


def _line(event: str, bot: str, fields: Mapping[str, Any], previous: str) -> bytes:
    time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    entry = {"time": time, "bot": bot, "event": event, **fields, "previous": previous}
    line = json.dumps(entry, separators=(",", ":"), allow_nan=False).encode()
    if len(line) > LINE_BYTES:
        raise InvalidInput(f"an audit line of event {event!r} would have {len(line)} bytes; at most {LINE_BYTES}")
    return line + b"\n"


def _tail(descriptor: int, size: int) -> tuple[str | None, bytes]:
    """Hash of the last whole line (``None`` if there is none), and what stands after it without an end."""
    # Twice the longest line: it holds the last whole one, and a torn one after it.
    start = max(0, size - 2 * (LINE_BYTES + 1))
    whole, newline, torn = os.pread(descriptor, size - start, start).rpartition(b"\n")
    if not newline:
        return None, torn
    return _hash(whole.rpartition(b"\n")[2]), torn


def _end_of_rotated(path: Path) -> str:
    """Hash that the first line of a new file links to."""
    try:
        descriptor = os.open(rotated(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return NO_PREVIOUS
    try:
        return _tail(descriptor, os.fstat(descriptor).st_size)[0] or NO_PREVIOUS  # nothing torn is ever rotated
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)


def _write_head(path: Path, line: bytes) -> None:
    """Keep the hash of a line that is on the disk. In place and not synced: after a crash an older one is true, too."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(head_of(path), flags, _MODE)
    try:
        os.pwrite(descriptor, _hash(line[:-1]).encode() + b"\n", 0)
    finally:
        os.close(descriptor)


def _read_head(path: Path) -> str | None:
    """Hash of the line written last; ``None`` where none was kept, or a crash came before it was on the disk."""
    try:
        descriptor = os.open(head_of(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return os.read(descriptor, 256).strip(b"\n\0").decode("ascii", "backslashreplace") or None
    finally:
        os.close(descriptor)


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _verify(files: list[Path], head: str | None) -> Verification:
    problems: list[str] = []
    count = 0
    found = head is None
    where = "the whole log"
    previous: str | None = None  # of the first line: what was before a rotated file is gone
    if files and not files[0].name.endswith(".1"):
        previous = NO_PREVIOUS
    for file in files:
        entries = _read(file)
        for number, (line, whole) in enumerate(entries, start=1):
            count += 1
            where = f"{file}, line {number}"
            following = entries[number][0] if number < len(entries) else b""
            problem = _check(line, whole, previous, following)
            if problem:
                problems.append(f"{where}: {problem}")
            previous = _hash(line)
            found = found or previous == head
    if not found and not (problems and problems[-1].startswith(f"{where}: ")):
        problems.append(f"{where}: the line that was written last is not there: it was changed, or cut off")
    return Verification(count, tuple(problems))


def _read(file: Path) -> list[tuple[bytes, bool]]:
    """Every line without its end, and whether it had one.

    :raises Conflict: it is not a regular file.
    """
    # Whoever reads it may be root, and whoever wrote it not.
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Conflict(f"{file} is not a regular file; move it away")
        whole, newline, rest = stream.read().rpartition(b"\n")
    lines = [(line, True) for line in whole.split(b"\n")] if newline else []
    return [*lines, (rest, False)] if rest else lines


def _check(line: bytes, whole: bool, previous: str | None, following: bytes) -> str | None:
    if not whole:
        return "it was cut short"
    after = _parse(following)
    if after is not None and after.get("event") == TORN:
        # What was cut short says nothing of its own; the line that closes it off names what was before.
        if after.get("previous") == _hash(line) and previous in (None, after.get("before")):
            return None
        return "it is not the one that was cut short"
    entry = _parse(line)
    if entry is None:
        return "it is not a JSON object"
    missing = sorted(_RESERVED - set(entry))
    if missing:
        return f"it has no {missing[0]!r}"
    if previous is not None and entry["previous"] != previous:
        return "the line before it is not the one it was written after"
    return None


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
