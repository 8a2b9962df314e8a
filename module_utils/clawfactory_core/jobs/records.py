"""Jobs as they are written down: ``<root>/jobs/<bot>/<id>.json``, which root alone reads."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..files import write_atomic
from ..snapshots.records import timestamp
from .protocol import ENDED, KINDS

SCHEMA = 1
KEPT = 200
_STATES = ("queued", "running", *ENDED)
_ID = re.compile("[0-9a-f]{24}")
_MAX_BYTES = 1 << 20
_LOG = logging.getLogger("clawfactory.jobs")


@dataclass(frozen=True)
class JobRecord:
    """A job; the fields are those of ``JOB`` in :mod:`.protocol`."""

    id: str
    kind: str
    actor: str
    source: str
    asked: str
    options: Mapping[str, str] = field(default_factory=dict)
    state: str = "queued"
    started: str | None = None
    ended: str | None = None
    progress: Mapping[str, Any] | None = None
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing changes any more."""
        return self.state in ENDED

    def to_dict(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)

    def to_answer(self) -> dict[str, Any]:
        """``JOB`` as answers have it."""
        return asdict(self.without_text())

    def without_text(self) -> JobRecord:
        """The same without what is long, and needed only until it is done."""
        return replace(self, options={name: value for name, value in self.options.items() if name != "text"})


def now() -> str:
    """The time as records have it."""
    return timestamp(datetime.now(timezone.utc))


def new_id(latest: str) -> str:
    """An id that sorts after ``latest`` (empty: there is none), also when the clock was set back."""
    moment = max(int(time.time() * 1000), int(latest[:12] or "0", 16) + 1)
    return f"{moment:012x}{os.urandom(6).hex()}"


class JobFiles:
    """The files of a bot's jobs.

    :param directory: is made, 0700, if it is not there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self) -> list[JobRecord]:
        """Every job that is kept, oldest first; a file that holds none is left out, and logged."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        for left in self._directory.glob(".*.partial"):
            left.unlink(missing_ok=True)
        found = []
        for path in self._paths():
            try:
                found.append(_parse(path))
            except (OSError, ValueError) as error:
                _LOG.error("%s is left out: %s", path, error)
        return found

    def write(self, record: JobRecord) -> None:
        """Write a job down, and let go of the oldest beyond :data:`KEPT`.

        :raises OSError: it is as it was.
        """
        data = json.dumps({"schema": SCHEMA, **record.to_dict()}, indent=1).encode() + b"\n"
        write_atomic(self._directory / f"{record.id}.json", data, mode=0o600)
        for path in self._paths()[:-KEPT]:
            path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        return sorted(path for path in self._directory.glob("*.json") if _ID.fullmatch(path.stem))


def _parse(path: Path) -> JobRecord:
    """:raises ValueError: it is not what :meth:`JobFiles.write` writes."""
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"it has more than {_MAX_BYTES} bytes")
    raw = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(raw, dict) or raw.pop("schema", None) != SCHEMA:
        raise ValueError(f"it has not schema {SCHEMA}")
    names = {item.name for item in fields(JobRecord)}
    if set(raw) != names or raw["id"] != path.stem or raw["kind"] not in KINDS or raw["state"] not in _STATES:
        raise ValueError("it is not a job of this version")
    return JobRecord(**raw)
