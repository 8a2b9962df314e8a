"""Asks the bot's broker for the little that it does for the controller: restart, logs, and a list of fixed commands.

See the table in docs/security.md. What comes out of a command or a log is the bot's own words.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx

from clawfactory_core.jobs.protocol import Refusal

Part = Literal["gateway", "proxy", "egress", "controller", "broker"]
#: Seconds that OpenClaw gets to end its turns, and the restart as a whole.
STOP_SECONDS, RESTART_SECONDS = 20, 60.0
_CALL_SECONDS = 15.0
_LARGEST_ANSWER = 256 << 10
_LARGEST_OUTPUT = 2 << 20
#: Longest piece of a log that the engine passes on is 16 KiB; a bad one must not make us wait for gigabytes.
_LARGEST_PIECE = 1 << 20
_PREFIX = "http://broker/v1.41"
_EXEC_ID = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Output:
    """What a command did.

    :param text: standard output, cut to 2 MiB; of the bot's making.
    """

    code: int
    text: str


class Broker:
    """The client of the broker's socket.

    :param socket: path of it.
    :param bot: name of the bot.
    :param transport: replaces the socket, in tests.
    """

    def __init__(self, socket: Path, bot: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._socket = socket
        self._bot = bot
        self._transport = transport
        self._command = asyncio.Lock()

    async def restart_gateway(self) -> None:
        """Restart the gateway's container; returns when the new process has been started.

        :raises Refusal: the broker does not do it, or does not answer.
        """
        path = f"{self._container('gateway')}/restart?t={STOP_SECONDS}"
        async with self._client(RESTART_SECONDS) as client:
            response = await _bounded(client, "POST", path)
        _expect(response, 204)

    async def logs(self, part: Part, *, tail: int, follow: bool = False) -> AsyncIterator[str]:
        """Lines of a container's log, each with its time in front.

        :param tail: lines from before now.
        :param follow: go on for as long as the container runs.
        :raises Refusal: as with :meth:`restart_gateway`.
        """
        query = f"stdout=1&stderr=1&timestamps=1&tail={tail}&follow={int(follow)}"
        seconds = None if follow else _CALL_SECONDS
        async with self._client(seconds) as client:
            try:
                async with client.stream("GET", f"{self._container(part)}/logs?{query}") as response:
                    if response.status_code != 200:
                        raise _refused(response.status_code, await _read(response, _LARGEST_ANSWER))
                    async for line in _lines(_pieces(response.aiter_raw())):
                        yield line
            except httpx.TimeoutException:
                raise Refusal(504, "No answer", "the broker did not send the log in time") from None

    async def run(self, command: Sequence[str], *, seconds: float) -> Output:
        """Run one of the fixed commands in the gateway; one at a time, because each costs a processor for seconds.

        :raises Refusal: it cannot be started, or does not end in time.
        """
        try:
            async with asyncio.timeout(seconds), self._command, self._client(seconds) as client:
                return await self._run(client, command)
        except TimeoutError:
            raise Refusal(504, "No answer", f"'{' '.join(command[:3])}' did not end within {seconds:g} s") from None

    async def _run(self, client: httpx.AsyncClient, command: Sequence[str]) -> Output:
        body = {"AttachStdout": True, "AttachStderr": True, "Cmd": list(command)}
        created = _document(_expect(await _bounded(client, "POST", f"{self._container('gateway')}/exec", body), 201))
        identity = created.get("Id")
        if not isinstance(identity, str) or not _EXEC_ID.fullmatch(identity):
            raise Refusal(502, "No answer", "the broker started a command, but does not name it")
        text = await _attached(client, f"{_PREFIX}/exec/{identity}/start")
        state = _document(_expect(await _bounded(client, "GET", f"{_PREFIX}/exec/{identity}/json"), 200))
        code = state.get("ExitCode")
        return Output(code if type(code) is int else -1, text)

    def _container(self, part: Part) -> str:
        return f"{_PREFIX}/containers/clawfactory-{self._bot}-{part}"

    @asynccontextmanager
    async def _client(self, seconds: float | None) -> AsyncIterator[httpx.AsyncClient]:
        """A client for one errand: the broker bounds how many connections there are."""
        transport = self._transport or httpx.AsyncHTTPTransport(uds=str(self._socket))
        timeout = httpx.Timeout(seconds, connect=2.0)
        try:
            async with httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False) as client:
                yield client
        except httpx.ConnectError as error:
            text = f"{self._socket}: nobody answers; on the machine, clawfactory-{self._bot}-broker has to run"
            raise Refusal(503, "The broker does not answer", text) from error
        except httpx.TimeoutException:
            raise Refusal(504, "No answer", "the broker did not answer in time") from None
        except httpx.HTTPError as error:
            text = f"the broker's answer broke off ({type(error).__name__})"
            raise Refusal(502, "No answer", text) from error


async def _bounded(client: httpx.AsyncClient, method: str, url: str, body: Any = None) -> tuple[int, bytes]:
    async with client.stream(method, url, json=body) as response:
        return response.status_code, await _read(response, _LARGEST_ANSWER)


async def _attached(client: httpx.AsyncClient, url: str) -> str:
    """Start a command, and read what it prints to its end."""
    headers = {"Connection": "Upgrade", "Upgrade": "tcp"}
    body = {"Detach": False, "Tty": False}
    async with client.stream("POST", url, json=body, headers=headers) as response:
        if response.status_code != 101:
            raise _refused(response.status_code, await _read(response, _LARGEST_ANSWER))
        stream = response.extensions["network_stream"]

        async def read() -> AsyncIterator[bytes]:
            while data := await stream.read(65536, timeout=None):
                yield data

        output, errors = bytearray(), bytearray()
        async for kind, piece in _pieces(read()):
            target = output if kind == 1 else errors
            target += piece[: _LARGEST_OUTPUT - len(target)]
        return (bytes(output) or bytes(errors)).decode("utf-8", "replace")


async def _pieces(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    """Pieces of standard output (1) and standard error (2) (Docker API, 'Attach to a container')."""
    buffer = b""
    async for chunk in chunks:
        buffer += chunk
        while len(buffer) >= 8:
            kind, size = buffer[0], int.from_bytes(buffer[4:8], "big")
            if kind not in (0, 1, 2) or size > _LARGEST_PIECE:
                raise Refusal(502, "No answer", "the broker sent what is no log")
            if len(buffer) < 8 + size:
                break
            yield kind, buffer[8 : 8 + size]
            buffer = buffer[8 + size :]


async def _lines(pieces: AsyncIterator[tuple[int, bytes]]) -> AsyncIterator[str]:
    """Whole lines; a very long one is cut."""
    rest = {0: b"", 1: b"", 2: b""}
    async for kind, piece in pieces:
        *whole, rest[kind] = (rest[kind] + piece).split(b"\n")
        for line in whole:
            yield _text(line)
        if len(rest[kind]) > _LARGEST_PIECE:
            yield _text(rest[kind])
            rest[kind] = b""
    for line in rest.values():
        if line:
            yield _text(line)


def _text(line: bytes) -> str:
    # What steers a terminal or breaks a line is none of a log's business.
    text = line[:16384].decode("utf-8", "replace").rstrip("\r")
    return "".join(character if character.isprintable() or character == "\t" else "�" for character in text)


async def _read(response: httpx.Response, largest: int) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > largest:
            raise Refusal(502, "No answer", f"the broker answered more than {largest} bytes")
    return bytes(body)


def _expect(answer: tuple[int, bytes], status: int) -> bytes:
    if answer[0] != status:
        raise _refused(*answer)
    return answer[1]


def _refused(status: int, body: bytes) -> Refusal:
    try:
        message = json.loads(body).get("message")
    except (ValueError, AttributeError, RecursionError):
        message = None
    detail = message if isinstance(message, str) else "it does not say why"
    known = status if status in (404, 409, 429) else 502
    return Refusal(known, "The broker refuses", f"{detail[:300]} ({status})")


def _document(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Refusal(502, "No answer", "the broker did not answer with a JSON object")
    return found
