"""A container's log as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

from clawfactory_core.jobs.protocol import Refusal

from .broker import Broker, Part

#: The operator's open pages, all together; each holds a stream of the broker.
MOST_FOLLOWERS = 8
#: After this long without a line something is sent, so that both sides notice when the other is gone.
HEARTBEAT_SECONDS = 15.0
_AHEAD = 256


class LogStreams:
    """Follows logs for as long as somebody listens.

    :param broker: has the logs.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._followers = 0

    def check_room(self) -> None:
        """:raises Refusal: 429, too many follow already."""
        if self._followers >= MOST_FOLLOWERS:
            raise Refusal(429, "Too many", f"{MOST_FOLLOWERS} pages follow logs already; close some")

    async def follow(self, part: Part, tail: int) -> AsyncGenerator[str]:
        """Events: ``line`` with one line each; at last ``end``, or ``problem`` with a problem document."""
        self.check_room()
        self._followers += 1
        # A listener that does not read holds the log up, and fills no memory.
        lines: asyncio.Queue[str | Refusal | None] = asyncio.Queue(_AHEAD)
        pump = asyncio.create_task(self._pump(part, tail, lines), name=f"log of {part}")
        try:
            while True:
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        line = await lines.get()
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                if line is None:
                    yield _event("end", {})
                    return
                if isinstance(line, Refusal):
                    yield _event("problem", line.to_dict())
                    return
                yield _event("line", {"text": line})
        finally:
            self._followers -= 1
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)

    async def _pump(self, part: Part, tail: int, lines: asyncio.Queue[str | Refusal | None]) -> None:
        try:
            async for line in self._broker.logs(part, tail=tail, follow=True):
                await lines.put(line)
        except Refusal as refusal:
            await lines.put(refusal)
        else:
            await lines.put(None)


def _event(name: str, document: dict[str, object]) -> str:
    return f"event: {name}\ndata: {json.dumps(document)}\n\n"
