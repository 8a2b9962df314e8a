"""Restarts the gateway. It takes longer than somebody wants to look at a page that loads: so it goes on beside that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from clawfactory_core.jobs.protocol import Refusal

from .broker import Broker
from .decisions import Decisions


@dataclass(frozen=True)
class Restart:
    """The last one.

    :param problem: why it failed.
    """

    state: Literal["running", "done", "failed"]
    started: datetime
    problem: str | None = None


class RestartService:
    """One restart at a time; the last one is remembered.

    :param broker: restarts the container.
    :param decisions: writes it down.
    :param clock: wall clock in seconds since the epoch.
    :param after: is called when one has ended, however.
    """

    def __init__(
        self, broker: Broker, decisions: Decisions, clock: Callable[[], float], after: Callable[[], None]
    ) -> None:
        self._broker = broker
        self._decisions = decisions
        self._clock = clock
        self._after = after
        self._last: Restart | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def last(self) -> Restart | None:
        """The one that goes on, or was the last since the controller was started."""
        return self._last

    def begin(self) -> None:
        """Restart it beside this; ``last`` says what became of it. One that goes on is enough."""
        if self._last is None or self._last.state != "running":
            self._task = asyncio.create_task(self._run(self._start()), name="restart of the gateway")

    async def restart(self) -> None:
        """Restart it, and wait for the new process.

        :raises Refusal: 409, one goes on; or it is not done.
        """
        if self._last is not None and self._last.state == "running":
            raise Refusal(409, "Going on", "the gateway is being restarted already")
        await self._restart(self._start())

    async def settle(self) -> None:
        """Wait for the one that goes on."""
        if self._task is not None:
            await self._task

    def _start(self) -> datetime:
        started = datetime.fromtimestamp(self._clock(), tz=UTC).replace(microsecond=0)
        self._last = Restart("running", started)
        return started

    async def _restart(self, started: datetime) -> None:
        last = Restart("failed", started, "it was broken off")
        try:
            async with self._decisions.written("gateway.restart"):
                await self._broker.restart_gateway()
            last = Restart("done", started)
        except Refusal as refusal:
            last = Restart("failed", started, str(refusal))
            raise
        finally:
            self._last = last
            self._after()

    async def _run(self, started: datetime) -> None:
        try:
            await self._restart(started)
        except Refusal:
            return  # whoever looks at the page reads why
