"""A container's log as server-sent events."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing

from clawfactory_core.jobs.protocol import Refusal

from .broker import Broker, Part

#: The operator's open pages, all together; each holds a stream of the broker.
MOST_FOLLOWERS = 8
#: After this long without a line something is sent, so that both sides notice when the other is gone.
HEARTBEAT_SECONDS = 15.0
HEARTBEAT = ": still here\n\n"
_AHEAD = 256
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?Z", re.ASCII)


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
        async with aclosing(self.read(part, tail)) as batches:
            async for batch in batches:
                if isinstance(batch, Refusal):
                    yield event("problem", json.dumps(batch.to_dict()))
                    return
                for line in batch:
                    yield event("line", json.dumps({"text": line}))
                if not batch:
                    yield HEARTBEAT
        yield event("end", "{}")

    async def read(self, part: Part, tail: int) -> AsyncGenerator[list[str] | Refusal]:
        """Lines as they come, those that wait together; none of them after a while without. A refusal is the last."""
        self.check_room()
        self._followers += 1
        # A listener that does not read holds the log up, and fills no memory.
        lines: asyncio.Queue[str | Refusal | None] = asyncio.Queue(_AHEAD)
        pump = asyncio.create_task(self._pump(part, tail, lines), name=f"log of {part}")
        try:
            while True:
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        found = [await lines.get()]
                except TimeoutError:
                    yield []
                    continue
                while not lines.empty():
                    found.append(lines.get_nowait())
                batch = [line for line in found if isinstance(line, str)]
                if batch:
                    yield batch
                if isinstance(found[-1], Refusal):
                    yield found[-1]
                if not isinstance(found[-1], str):
                    return
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


def event(name: str, data: str) -> str:
    """A server-sent event."""
    return f"event: {name}\n" + "".join(f"data: {line}\n" for line in data.splitlines() or [""]) + "\n"


def split_time(line: str) -> tuple[str, str]:
    """The time in front of a line, to the second, and the rest; no time where the line has none."""
    time, blank, text = line.partition(" ")
    match = _TIME.fullmatch(time)
    return (f"{match[1]} {match[2]}", text) if blank and match else ("", line)
