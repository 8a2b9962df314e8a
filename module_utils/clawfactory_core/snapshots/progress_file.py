"""Progress in a file beside a bot's snapshots, for whoever shows it meanwhile (docs/snapshots.md describes it)."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .progress import Progress
from .records import timestamp

SCHEMA = 1
#: Start of its names and of nothing else's.
PREFIX = ".progress-"
MAX_BYTES = 4096
_SECONDS_BETWEEN = 0.5
_PHASE = re.compile(r"[a-z][a-z ]{0,39}")
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def progress_path(directory: Path, operation: str) -> Path:
    """Where an operation writes.

    :param directory: of the bot's snapshots.
    :param operation: ``snapshot``, ``verify``, ``restore`` or ``extract``.
    """
    return directory / f"{PREFIX}{operation}.json"


class ProgressFile:
    """Takes reports and keeps the last one in a file while an operation lasts (``with``).

    That nobody can be told is no reason for an operation to fail: errors of the file system are swallowed.

    :param directory: of the bot's snapshots.
    :param operation: as for :func:`progress_path`.
    :param owner: user and group that may read it.
    """

    def __init__(self, directory: Path, operation: str, bot: str, owner: int) -> None:
        self._path = progress_path(directory, operation)
        self._constant = {"schema": SCHEMA, "operation": operation, "bot": bot, "pid": os.getpid()}
        self._constant["began"] = timestamp(datetime.now(timezone.utc))
        self._owner = owner
        self._last = -math.inf
        self._phase = ""
        self._written = False

    def __enter__(self) -> ProgressFile:
        with contextlib.suppress(OSError):
            _sweep(self._path.parent)
        return self

    def __exit__(self, *_: object) -> None:
        if self._written:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def __call__(self, progress: Progress) -> None:
        """Write a report, unless one of the same phase was written just now."""
        now = time.monotonic()
        if progress.phase == self._phase and now - self._last < _SECONDS_BETWEEN:
            return
        self._last, self._phase = now, progress.phase
        event = {
            **self._constant,
            "updated": timestamp(datetime.now(timezone.utc)),
            "phase": progress.phase,
            "done": progress.done,
            "total": progress.total,
            "rate": round(progress.rate),
            "remaining": round(progress.remaining, 1),
        }
        with contextlib.suppress(OSError):
            self._replace(json.dumps(event).encode() + b"\n")

    def _replace(self, data: bytes) -> None:
        # Not fsynced: after a power cut nobody wants it.
        temporary = self._path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(temporary, _NEW, 0o600)
        try:
            try:
                os.write(descriptor, data)
                os.fchown(descriptor, self._owner, self._owner)
            finally:
                os.close(descriptor)
            os.replace(temporary, self._path)
            self._written = True
        finally:
            temporary.unlink(missing_ok=True)


def parse_progress(data: bytes) -> Progress | None:
    """The report in a progress file; ``None`` for anything that is none, whoever wrote it."""
    event = _parse(data)
    if event is None:
        return None
    phase = event.get("phase")
    numbers: list[Any] = [event.get(name) for name in ("done", "total", "rate", "remaining")]
    if not isinstance(phase, str) or not _PHASE.fullmatch(phase):
        return None
    if not all(type(number) in (int, float) and 0 <= number < 1 << 62 for number in numbers):
        return None
    return Progress(phase, *numbers)


def _parse(data: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and event.get("schema") == SCHEMA else None


def _sweep(directory: Path) -> None:
    """Remove what runs left that were killed."""
    for path in directory.glob(f"{PREFIX}*"):
        suffix = path.suffix.removeprefix(".")
        if not _runs(int(suffix) if suffix.isdecimal() else _writer(path)):
            path.unlink(missing_ok=True)


def _writer(path: Path) -> int:
    try:
        descriptor = os.open(path, _READ)
    except OSError:
        return 0
    try:
        event = _parse(os.read(descriptor, MAX_BYTES)) or {}
    except OSError:
        return 0
    finally:
        os.close(descriptor)
    pid = event.get("pid")
    return pid if type(pid) is int else 0


def _runs(pid: int) -> bool:
    if not 0 < pid < 1 << 31:
        return False
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True
