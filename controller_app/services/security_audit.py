"""OpenClaw's security audit. Only its command line does it, in twenty seconds of a processor: the result is kept.

It is kept in a file, to be there when the controller was restarted. One that was being made then has failed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from clawfactory_core.files import write_atomic
from clawfactory_core.jobs.protocol import Refusal

from ..schemas.gateway import AuditReport, SecurityAudit
from .broker import Broker
from .devices import parse_answer
from .gateway_link import GatewayMisbehaves

_COMMAND = ("openclaw", "security", "audit", "--json")
_SECONDS = 120.0
_USUAL_SECONDS = 30.0
_LARGEST = 8 << 20  # bytes; a report is made of 2 MiB at most
_CUT_SHORT = "the controller was restarted in the middle of it; look again"
_logger = logging.getLogger(__name__)


class SecurityAuditService:
    """Keeps the last report, and makes another when it is too old.

    :param broker: runs the command.
    :param clock: wall clock in seconds since the epoch.
    :param path: where the last one is kept; its directory is the controller's to write.
    """

    def __init__(self, broker: Broker, clock: Callable[[], float], path: Path) -> None:
        self._broker = broker
        self._clock = clock
        self._path = path
        self._task: asyncio.Task[None] | None = None
        self._took = _USUAL_SECONDS
        self._last = _load(path)

    def read(self, max_age: int) -> SecurityAudit:
        """Return the last report, and begin another one if it is older than it may be.

        :param max_age: seconds; a failure counts as a report.
        """
        last = self._last
        return self.begin() if last is None or self._clock() - last.started.timestamp() > max_age else last

    def begin(self) -> SecurityAudit:
        """Begin another one, unless one is being made."""
        if self._last is not None and self._last.state == "running":
            return self._last
        started = datetime.fromtimestamp(self._clock(), tz=UTC).replace(microsecond=0)
        report = self._last.report if self._last else None
        self._last = SecurityAudit(state="running", started=started, report=report, problem=None)
        self._task = asyncio.create_task(self._run(self._last), name="security audit")
        return self._last

    @property
    def progress(self) -> tuple[float, float]:
        """Seconds since the last one was begun, and that it takes as a rule: those of the one before."""
        since = self._clock() - self._last.started.timestamp() if self._last else 0.0
        return max(0.0, since), self._took

    def last(self) -> SecurityAudit | None:
        """The one that is being made or was made last, ``None`` if none was yet."""
        return self._last

    async def settle(self) -> None:
        """Wait for the one that runs."""
        if self._task is not None:
            await self._task

    async def _run(self, begun: SecurityAudit) -> None:
        last = begun.model_copy(update={"state": "failed", "problem": "it was broken off"})
        try:
            await self._keep(begun)
            done = await self._broker.run(_COMMAND, seconds=_SECONDS)
            report = parse_answer(AuditReport, _parse(done.text))
            last = begun.model_copy(update={"state": "done", "report": report})
            self._took = max(1.0, self._clock() - begun.started.timestamp())
        except Refusal as refusal:
            last = begun.model_copy(update={"state": "failed", "problem": str(refusal)})
        finally:
            self._last = last
        await self._keep(last)

    async def _keep(self, audit: SecurityAudit) -> None:
        try:
            await asyncio.to_thread(write_atomic, self._path, audit.model_dump_json().encode(), mode=0o600)
        except OSError as error:
            # Whoever is here sees it all the same.
            _logger.error("the security audit cannot be kept in %s: %s", self._path, error.strerror)


def _load(path: Path) -> SecurityAudit | None:
    try:
        with path.open("rb") as file:
            found = SecurityAudit.model_validate_json(file.read(_LARGEST))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _logger.error("the last security audit cannot be read from %s: %s", path, type(error).__name__)
        return None
    if found.state == "running":
        return found.model_copy(update={"state": "failed", "problem": _CUT_SHORT})
    return found


def _parse(text: str) -> object:
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        raise GatewayMisbehaves("'openclaw security audit' did not print a report") from None
    return found
