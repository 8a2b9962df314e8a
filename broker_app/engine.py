"""Client of the Docker engine's unix socket: a new connection for every call, and nothing of a client's bytes in it.

Paths and queries are made by the callers from validated values. The engine is trusted to mean well, not to answer:
sizes and times are bounded all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import h11

CALL_SECONDS = 30.0
ANSWER_BYTES = 4 * 1024 * 1024
_VERSION = "/v1.41"
_RECEIVE_BYTES = 128 * 1024
_HEAD_BYTES = 64 * 1024


class EngineError(Exception):
    """The engine does not answer, not in time, or not as the API says; the text is for the log, not for clients."""


@dataclass(frozen=True)
class Answer:
    """What the engine answered."""

    status: int
    body: bytes

    def json(self) -> Any:
        """:raises EngineError: it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise EngineError("the engine's answer is not JSON") from error

    def message(self) -> str:
        """The engine's error text; empty if it gave none."""
        try:
            message = json.loads(self.body)["message"]
        except (ValueError, KeyError, TypeError):
            return ""
        return message if isinstance(message, str) else ""


@dataclass(frozen=True)
class Upgraded:
    """A call that became a stream: the socket is the receiver's to close.

    :param early: what the engine has already sent of the stream.
    """

    sock: socket.socket
    early: bytes


class Engine:
    """:param path: of the engine's socket."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        seconds: float | None = None,
        limit: int = ANSWER_BYTES,
    ) -> Answer:
        """One call and its whole answer.

        :param path: without the API's version.
        :param seconds: for everything, from the connection to the last byte; ``None`` is :data:`CALL_SECONDS`.
        :param limit: of the answer's bytes.
        :raises EngineError: no answer, not in time, too large, or not HTTP.
        """
        seconds = CALL_SECONDS if seconds is None else seconds
        sock = _new_socket()
        try:
            async with asyncio.timeout(seconds):
                exchange = await self._send(sock, method, path, query, body)
                status = await exchange.head()
                parts, size = [], 0
                async for data in exchange.body():
                    size += len(data)
                    if size > limit:
                        raise EngineError(f"the answer to {method} {path} has more than {limit} bytes")
                    parts.append(data)
                return Answer(status, b"".join(parts))
        except TimeoutError:
            raise EngineError(f"{method} {path} took more than {seconds:g} s") from None
        except (OSError, h11.ProtocolError) as error:
            raise EngineError(f"{method} {path}: {error}") from error
        finally:
            sock.close()

    async def upgrade(self, path: str, body: Mapping[str, Any]) -> Upgraded | Answer:
        """Start a stream with ``POST path``; an :class:`Answer` where the engine does not switch.

        :raises EngineError: as of :meth:`call`.
        """
        sock = _new_socket()
        keep = False
        try:
            async with asyncio.timeout(CALL_SECONDS):
                exchange = await self._send(sock, "POST", path, None, body, upgrade=True)
                status = await exchange.head()
                if status == 101:
                    keep = True
                    return Upgraded(sock, exchange.rest())
                data = b""
                async for part in exchange.body():
                    data += part
                    if len(data) > _HEAD_BYTES:
                        raise EngineError(f"POST {path} answered {status} with more than an error")
                return Answer(status, data)
        except TimeoutError:
            raise EngineError(f"POST {path} took more than {CALL_SECONDS:g} s") from None
        except (OSError, h11.ProtocolError) as error:
            raise EngineError(f"POST {path}: {error}") from error
        finally:
            if not keep:
                sock.close()

    @contextlib.asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, str]) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """``GET path`` whose answer comes in parts, when it pleases the engine: status, and the parts.

        :raises EngineError: as of :meth:`call`, but only the head has to come in time.
        """
        sock = _new_socket()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                exchange = await self._send(sock, "GET", path, query, None)
                status = await exchange.head()
            yield status, exchange.body()
        except TimeoutError:
            raise EngineError(f"GET {path} took more than {CALL_SECONDS:g} s") from None
        except (OSError, h11.ProtocolError) as error:
            raise EngineError(f"GET {path}: {error}") from error
        finally:
            sock.close()

    async def _send(
        self,
        sock: socket.socket,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        *,
        upgrade: bool = False,
    ) -> _Exchange:
        loop = asyncio.get_running_loop()
        target = _VERSION + path + (f"?{urlencode(query)}" if query else "")
        content = b"" if body is None else json.dumps(body, separators=(",", ":"), ensure_ascii=True).encode()
        headers = [("Host", "docker")]
        headers += [("Connection", "Upgrade"), ("Upgrade", "tcp")] if upgrade else [("Connection", "close")]
        if body is not None:
            headers.append(("Content-Type", "application/json"))
        if method == "POST":
            headers.append(("Content-Length", str(len(content))))
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)
        parts = [http.send(h11.Request(method=method, target=target, headers=headers))]
        if content:
            parts.append(http.send(h11.Data(data=content)))
        parts.append(http.send(h11.EndOfMessage()))
        await loop.sock_connect(sock, self._path)
        await loop.sock_sendall(sock, b"".join(part for part in parts if part))
        return _Exchange(sock, http)


class _Exchange:
    """The answer's side of one call."""

    def __init__(self, sock: socket.socket, http: h11.Connection) -> None:
        self._sock = sock
        self._http = http
        self._loop = asyncio.get_running_loop()
        self._head_bytes = 0

    async def head(self) -> int:
        """The answer's status; 101 for a switch, other interim answers are skipped."""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                # Counted, so that an endless row of interim answers ends.
                self._head_bytes += await self._receive()
                if self._head_bytes > 4 * _HEAD_BYTES + _RECEIVE_BYTES:
                    raise EngineError("the engine's answer does not begin")
            elif isinstance(event, h11.Response):
                return event.status_code
            elif isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    return 101
            else:
                raise EngineError("the engine's answer is not HTTP")

    async def body(self) -> AsyncIterator[bytes]:
        """The parts of the answer's body as they come."""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                await self._receive()
            elif isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return
            else:
                raise EngineError("the engine's answer is not HTTP")

    def rest(self) -> bytes:
        """What came after the answer that switched."""
        return bytes(self._http.trailing_data[0])

    async def _receive(self) -> int:
        data = await self._loop.sock_recv(self._sock, _RECEIVE_BYTES)
        self._http.receive_data(data)
        return len(data)


def _new_socket() -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    return sock
