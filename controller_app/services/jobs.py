"""Asks the machine for what the controller may not do itself; see :mod:`clawfactory_core.jobs.protocol`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from clawfactory_core.jobs.protocol import (
    ANSWER_BYTES,
    CONTENTS_SECONDS,
    ENDED,
    HEARTBEAT_SECONDS,
    KINDS,
    Refusal,
    encode,
    parse_answer,
)

TIMEOUT_SECONDS = 15.0
#: Seconds for the answer of what takes long; the service gives up a little earlier.
_LONG = {"snapshot_contents": CONTENTS_SECONDS + 10}


class JobsClient:
    """The client of the bot's jobs socket. Nothing is kept open between two requests.

    :param path: the socket.
    :param timeout: seconds for a whole answer, of ``follow`` for each silence beyond the service's heartbeat.
    """

    def __init__(self, path: Path, *, timeout: float = TIMEOUT_SECONDS) -> None:
        self._path = path
        self._timeout = timeout
        self._unfinished: set[str] = set()
        self._on_change: list[Callable[[], None]] = []

    def on_change(self, told: Callable[[], None]) -> None:
        """Have ``told`` called when something was asked for that changes the bot, and when it is seen that it ended."""
        self._on_change.append(told)

    async def ask(self, op: str, **fields: str | None) -> dict[str, Any]:
        """Send one request.

        :param fields: of the request; those that are ``None`` are left out.
        :raises Refusal: what the service refused, with its status; 503 if nobody answers, 504 if too late.
        """
        async with self._connection(op, fields) as reader:
            answer = await self._read(reader, _LONG.get(op, self._timeout))
        if op in (*KINDS, "job"):
            self._note(answer["job"])
        elif op == "lock":
            self._tell()
        return answer

    async def follow(self, job: str) -> AsyncIterator[dict[str, Any]]:
        """Yield a job now and whenever it changes; the last is the one that ended.

        :raises Refusal: as with :meth:`ask`; 503 also when the service ends meanwhile.
        """
        async with self._connection("follow", {"id": job}) as reader:
            while True:
                state = (await self._read(reader, self._timeout + HEARTBEAT_SECONDS))["job"]
                self._note(state)
                yield state
                if state["state"] in ENDED:
                    return

    def _note(self, job: dict[str, Any]) -> None:
        """Tell of a job once when it is new, and once when it is over, however often it is asked for."""
        identity, ended = str(job.get("id")), job.get("state") in ENDED
        known = identity in self._unfinished
        if ended:
            self._unfinished.discard(identity)
        else:
            self._unfinished.add(identity)
        if known is ended:
            self._tell()

    def _tell(self) -> None:
        for told in self._on_change:
            told()

    @asynccontextmanager
    async def _connection(self, op: str, fields: dict[str, Any]) -> AsyncIterator[asyncio.StreamReader]:
        given = {name: value for name, value in fields.items() if value is not None}
        try:
            async with asyncio.timeout(self._timeout):
                reader, writer = await asyncio.open_unix_connection(str(self._path), limit=ANSWER_BYTES + 1)
        except (OSError, TimeoutError) as error:
            raise _nobody(self._path, error) from error
        try:
            writer.write(encode({"op": op, **given}))
            yield reader
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, seconds: float) -> dict[str, Any]:
        try:
            async with asyncio.timeout(seconds):
                line = await reader.readline()
        except TimeoutError:
            raise Refusal(504, "No answer", f"the jobs service did not answer within {seconds:g} s") from None
        except ValueError:
            raise Refusal(502, "No answer", f"the jobs service answered more than {ANSWER_BYTES} bytes") from None
        except OSError as error:
            raise _nobody(self._path, error) from error
        if not line.endswith(b"\n"):
            raise Refusal(503, "No answer", "the jobs service closed the connection; ask again in a moment")
        return parse_answer(line)


def _nobody(path: Path, error: Exception) -> Refusal:
    reason = getattr(error, "strerror", None) or "no connection in time"
    return Refusal(
        503, "Nobody answers", f"{path}: {reason}; on the machine, clawfactory-jobs has to run ('site.yml' starts it)"
    )
