"""OpenClaw's security audit. Only its command line does it, in twenty seconds of a processor: the result is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime

from clawfactory_core.jobs.protocol import Refusal

from ..schemas.gateway import AuditReport, SecurityAudit
from .broker import Broker
from .devices import parse_answer
from .gateway_link import GatewayMisbehaves

_COMMAND = ("openclaw", "security", "audit", "--json")
_SECONDS = 120.0
_USUAL_SECONDS = 30.0


class SecurityAuditService:
    """Keeps the last report, and makes another when it is too old.

    :param broker: runs the command.
    :param clock: wall clock in seconds since the epoch.
    """

    def __init__(self, broker: Broker, clock: Callable[[], float]) -> None:
        self._broker = broker
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._started = 0.0
        self._report: AuditReport | None = None
        self._took = _USUAL_SECONDS
        self._problem: str | None = None

    def read(self, max_age: int) -> SecurityAudit:
        """Return the last report, and begin another one if it is older than it may be.

        :param max_age: seconds; a failure counts as a report.
        """
        if self._task is None or self._clock() - self._started > max_age:
            self.begin()
        found = self.last()
        if found is None:
            raise RuntimeError("none was begun")
        return found

    def begin(self) -> None:
        """Begin another one, unless one is being made."""
        if self._task is None or self._task.done():
            self._started = self._clock()
            self._task = asyncio.create_task(self._run(), name="security audit")

    @property
    def progress(self) -> tuple[float, float]:
        """Seconds since the last one was begun, and that it takes as a rule: those of the one before."""
        return max(0.0, self._clock() - self._started), self._took

    def last(self) -> SecurityAudit | None:
        """The one that is being made or was made last, ``None`` if none was since the controller was started."""
        if self._task is None:
            return None
        running = not self._task.done()
        return SecurityAudit(
            state="running" if running else "failed" if self._problem else "done",
            started=datetime.fromtimestamp(self._started, tz=UTC).replace(microsecond=0),
            report=self._report,
            problem=None if running else self._problem,
        )

    async def settle(self) -> None:
        """Wait for the one that runs."""
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        try:
            done = await self._broker.run(_COMMAND, seconds=_SECONDS)
            self._report, self._problem = parse_answer(AuditReport, _parse(done.text)), None
            self._took = max(1.0, self._clock() - self._started)
        except Refusal as refusal:
            self._problem = str(refusal)


def _parse(text: str) -> object:
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        raise GatewayMisbehaves("'openclaw security audit' did not print a report") from None
    return found
