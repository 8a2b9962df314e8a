"""The one kept connection to the gateway's WebSocket, and calls over it.

The gateway counts as taken over. Every frame has a largest size, every answer a deadline and an id that cannot be
guessed; whoever breaks the protocol is hung up on and left alone for a while. Nothing it says leads anywhere else:
redirects and proxies are not followed, and the token it hands out is not kept.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

import clawfactory_core
from clawfactory_core.errors import CoreError
from clawfactory_core.jobs.protocol import Refusal

from .device import PROTOCOL, ROLE, SCOPES, read_device
from .gateway_frames import BadFrame, Response, encode_request, is_event, parse_challenge, parse_response, printable

CALL_SECONDS = 10.0
CONNECT_SECONDS = 5.0
#: The command line that approves takes a few seconds of a gateway that may be starting.
PAIR_SECONDS = 60.0
#: Largest answer in bytes, where the caller names no other; and largest at all: the schema has 2.1 MB.
LARGEST_ANSWER = 1 << 20
LARGEST_FRAME = 4 << 20
_LARGEST_EVENT = 256 << 10
_MOST_EVENTS, _EVENT_SECONDS = 3000, 10.0
_MOST_CALLS = 32
#: Bytes that may wait for the gateway to read them; our questions are small, so more are answers to its pings.
_MOST_UNREAD, _UNREAD_SECONDS = 1 << 20, 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
#: Until a gateway that broke the protocol, or does not know us, is asked again.
_DISTRUST_SECONDS = 30.0
_REQUEST_ID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_logger = logging.getLogger(__name__)

#: Approves a pending request by its id, on the gateway's own command line.
Approve = Callable[[str], Awaitable[None]]


class GatewayUnavailable(Refusal):
    """The gateway is down, starting, or does not take us."""

    def __init__(self, detail: str) -> None:
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, "The gateway does not answer", detail)


class GatewayMisbehaves(Refusal):
    """The gateway says what it must not."""

    def __init__(self, detail: str) -> None:
        super().__init__(HTTPStatus.BAD_GATEWAY, "The gateway does not keep to its protocol", detail)


class GatewayRefused(Refusal):
    """The gateway refuses what it was asked.

    :param code: the gateway's, for example ``INVALID_REQUEST``.
    :param message: the gateway's.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(HTTPStatus.BAD_GATEWAY, "The gateway refuses", message or code or "it does not say why")
        self.code = code
        self.message = message


class _Connect(connect):
    """Connects to the address it was given, and nowhere else."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Follow nothing."""
        return exc


@dataclass
class _Call:
    answer: asyncio.Future[Response]
    largest: int


class _Connection:
    """One connection that the gateway has accepted.

    :param version: the gateway's, as it says.
    """

    def __init__(self, socket: ClientConnection, version: str) -> None:
        self.version = version
        self._socket = socket
        self._calls: dict[str, _Call] = {}
        self._abandoned: dict[str, None] = {}
        self._numbers = itertools.count(1)
        self.reader = asyncio.create_task(self._read(), name="gateway link")
        self.reader.add_done_callback(_retrieve)

    @property
    def is_open(self) -> bool:
        """Whether answers can still come."""
        return not self.reader.done()

    async def call(self, method: str, params: dict[str, Any], largest: int) -> Response:
        """Ask, and wait for the answer for as long as the caller does."""
        if len(self._calls) >= _MOST_CALLS:
            raise GatewayUnavailable(f"{_MOST_CALLS} questions wait for its answers already; ask again in a moment")
        identity = f"{secrets.token_hex(8)}-{next(self._numbers)}"
        call = self._calls[identity] = _Call(asyncio.get_running_loop().create_future(), largest)
        try:
            await self._socket.send(encode_request(identity, method, params))
            return await call.answer
        except ConnectionClosed:
            raise GatewayUnavailable("the connection to it ended; ask again in a moment") from None
        finally:
            del self._calls[identity]
            if not call.answer.done() or call.answer.cancelled():
                # Its answer may still come, and is no offence then.
                self._abandoned[identity] = None
                if len(self._abandoned) > _MOST_CALLS:
                    del self._abandoned[next(iter(self._abandoned))]

    async def close(self) -> None:
        """Hang up."""
        self.reader.cancel()
        await asyncio.gather(self.reader, return_exceptions=True)

    async def _read(self) -> None:
        error: Refusal = GatewayUnavailable("the connection to it ended; ask again in a moment")
        watcher = asyncio.create_task(self._watch_unread(), name="gateway link, what it does not read")
        try:
            await self._read_frames()
        except BadFrame as problem:
            error = GatewayMisbehaves(str(problem))
            raise error from None
        except ConnectionClosed as closed:
            if closed.rcvd is None and closed.sent is not None and closed.sent.code in (1002, 1007, 1009):
                error = GatewayMisbehaves(f"a frame is too large or malformed ({closed.sent.code})")
                raise error from None
        finally:
            watcher.cancel()
            for call in self._calls.values():
                if not call.answer.done():
                    call.answer.set_exception(error)
            self._socket.transport.abort()

    async def _watch_unread(self) -> None:
        """Hang up on a gateway that sends pings and never reads: websockets answers each of them, without a limit."""
        while self._socket.transport.get_write_buffer_size() <= _MOST_UNREAD:
            await asyncio.sleep(_UNREAD_SECONDS)
        _logger.warning("the gateway does not read what it is sent; the connection is ended")
        self._socket.transport.abort()

    async def _read_frames(self) -> None:
        events, since = 0, time.monotonic()
        while True:
            text = await self._socket.recv()
            if not isinstance(text, str):
                raise BadFrame("a frame is binary")
            if len(text) > max([_LARGEST_EVENT, *(call.largest for call in self._calls.values())]):
                raise BadFrame(f"a frame has {len(text)} characters, more than anything that was asked for")
            response = None if is_event(text) else parse_response(text)
            if response is not None:
                self._deliver(response, len(text))
                continue
            events += 1
            if events > _MOST_EVENTS:
                if time.monotonic() - since < _EVENT_SECONDS:
                    raise BadFrame(f"it sent {events} events in {_EVENT_SECONDS:g} seconds")
                events, since = 0, time.monotonic()

    def _deliver(self, response: Response, size: int) -> None:
        call = self._calls.get(response.id)
        if call is None or call.answer.done():
            if response.id in self._abandoned:
                del self._abandoned[response.id]
                return
            raise BadFrame("it answered what nobody asked")
        if size > call.largest:
            raise BadFrame(f"an answer has {size} characters, more than the {call.largest} it may have")
        call.answer.set_result(response)


class GatewayLink:
    """Keeps the connection, and makes it anew when it is gone.

    :param url: ``http://host:port`` of the gateway.
    :param device_dir: see :func:`.device.read_device`.
    :param approve: has the controller's own device approved; called when the gateway does not know it.
    """

    def __init__(self, url: str, device_dir: Path, approve: Approve) -> None:
        self._url = "ws" + url.removeprefix("http")
        self._device_dir = device_dir
        self._approve = approve
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[_Connection] | None = None
        self._pause = 0.0
        self._closed_until = 0.0
        self._failure: Refusal | None = None
        #: Grows with each connection: what was read over one may be outdated with the next.
        self.generation = 0

    @property
    def connected(self) -> bool:
        """Whether the gateway has accepted us and is there still."""
        return self._connection is not None and self._connection.is_open

    async def call(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        largest: int = LARGEST_ANSWER,
        seconds: float = CALL_SECONDS,
    ) -> Any:
        """Ask the gateway.

        :param method: of the protocol.
        :param largest: bytes that the answer may have.
        :param seconds: for all of it.
        :returns: the payload, of any form: it is the caller's to check.
        :raises GatewayUnavailable: it cannot be reached, or not in time.
        :raises GatewayMisbehaves: it answers what is no answer.
        :raises GatewayRefused: it says no.
        """
        connection = None
        try:
            async with asyncio.timeout(seconds):
                connection = await self._connected()
                response = await connection.call(method, params or {}, largest)
        except TimeoutError:
            if connection is not None:
                # A gateway that accepts and does not answer would hold every later question up as long.
                await connection.close()
            raise GatewayUnavailable(f"it did not answer {method} within {seconds:g} s") from None
        if not response.ok:
            raise GatewayRefused(response.code, response.message)
        return response.payload

    async def server_version(self) -> str:
        """The gateway's version, as it says.

        :raises Refusal: as with :meth:`call`.
        """
        async with asyncio.timeout(CALL_SECONDS):
            return (await self._connected()).version

    async def run(self) -> None:
        """Keep the connection for as long as the application is up, so that the first question need not wait for it."""
        try:
            while True:
                try:
                    connection = await self._connected()
                    await asyncio.wait([connection.reader])
                except Refusal:
                    pass  # said in the log where it happened
                await asyncio.sleep(max(_FIRST_PAUSE, self._closed_until - time.monotonic()))
        finally:
            await self.close()

    async def close(self) -> None:
        """Hang up."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._connection is not None:
            await self._connection.close()

    async def _connected(self) -> _Connection:
        connection = self._connection
        if connection is not None and connection.is_open:
            return connection
        if connection is not None:
            self._connection = None
            self._note_end(connection)
        if self._connecting is None:
            if self._failure is not None and time.monotonic() < self._closed_until:
                raise self._failure
            self._connecting = asyncio.create_task(self._connect(), name="gateway connect")
            self._connecting.add_done_callback(self._settle)
        # Shielded: who asked first may give up, others wait for the same connection.
        return await asyncio.shield(self._connecting)

    def _note_end(self, connection: _Connection) -> None:
        error = None if connection.reader.cancelled() else connection.reader.exception()
        if isinstance(error, GatewayMisbehaves):
            self._fail(error)

    def _settle(self, task: asyncio.Task[_Connection]) -> None:
        self._connecting = None
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._connection, self._failure, self._pause = task.result(), None, 0.0
            self.generation += 1
            _logger.info("connected to the gateway (OpenClaw %s)", task.result().version)
        elif isinstance(error, Refusal):
            self._fail(error)

    def _fail(self, error: Refusal) -> None:
        self._pause = min(max(_FIRST_PAUSE, 2 * self._pause), _LONGEST_PAUSE)
        distrusted = isinstance(error, (GatewayMisbehaves, GatewayRefused))
        self._closed_until = time.monotonic() + (_DISTRUST_SECONDS if distrusted else self._pause)
        if self._failure is None or self._failure.detail != error.detail:
            _logger.warning("%s", error)
        self._failure = error

    async def _connect(self) -> _Connection:
        try:
            found = await self._shake_hands()
            if isinstance(found, str):
                _logger.info("the gateway does not know this controller yet; request %s is approved", found)
                async with asyncio.timeout(PAIR_SECONDS):
                    await self._approve(found)
                found = await self._shake_hands()
        except TimeoutError:
            raise GatewayUnavailable(f"{self._url} does not finish the handshake in time") from None
        except (OSError, InvalidHandshake, InvalidURI) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise GatewayUnavailable(f"nothing speaks WebSocket at {self._url} ({reason})") from None
        except ConnectionClosed as error:
            raise GatewayUnavailable(f"{self._url} hung up in the handshake ({type(error).__name__})") from None
        except BadFrame as error:
            raise GatewayMisbehaves(str(error)) from None
        except Refusal:
            raise
        except CoreError as error:
            raise GatewayUnavailable(str(error)) from None
        if isinstance(found, str):
            raise GatewayRefused("PAIRING_REQUIRED", "it does not know this controller although it was approved")
        return found

    async def _shake_hands(self) -> _Connection | str:
        """Connect.

        :returns: the connection, or the id of the request that has to be approved first.
        """
        device = read_device(self._device_dir)
        async with asyncio.timeout(CONNECT_SECONDS):
            socket = await _Connect(
                self._url, proxy=None, compression=None, user_agent_header=None, max_size=LARGEST_FRAME, max_queue=1,
                open_timeout=CONNECT_SECONDS, close_timeout=1, ping_interval=20, ping_timeout=20,
            )  # fmt: skip
            try:
                challenge = parse_challenge(await _receive(socket))
                params = device.connect_params(
                    nonce=challenge.nonce, signed_at=challenge.time, version=clawfactory_core.__version__
                )
                identity = secrets.token_hex(8)
                await socket.send(encode_request(identity, "connect", params))
                response = await _first_answer(socket, identity)
                if not response.ok:
                    request = _pending_request(response)
                    socket.transport.abort()  # nobody would read or watch it any more
                    return request
                return _Connection(socket, _check_hello(response.payload))
            except BaseException:
                socket.transport.abort()
                raise


def _retrieve(task: asyncio.Task[None]) -> None:
    """Have its error looked at by somebody; whoever waits for an answer gets it, too."""
    if not task.cancelled():
        task.exception()


async def _receive(socket: ClientConnection) -> str:
    text = await socket.recv()
    if not isinstance(text, str) or len(text) > _LARGEST_EVENT:
        raise BadFrame("a frame of the handshake is binary or too large")
    return text


async def _first_answer(socket: ClientConnection, identity: str) -> Response:
    for _ in range(16):  # events that come between
        response = parse_response(await _receive(socket))
        if response is not None:
            if response.id != identity:
                raise BadFrame("it answered what nobody asked")
            return response
    raise BadFrame("it does not answer the handshake")


def _pending_request(response: Response) -> str:
    """Id of the request to approve.

    :raises Refusal: that is not what is missing.
    """
    request = response.details.get("requestId")
    code = printable(response.details.get("code"), 64) or response.code
    if code == "PAIRING_REQUIRED" and isinstance(request, str) and _REQUEST_ID.fullmatch(request):
        return request
    if response.code == "UNAVAILABLE":
        raise GatewayUnavailable("OpenClaw is still starting")
    if code == "AUTH_TOKEN_MISMATCH":
        raise GatewayRefused(code, "the gateway has another token than the controller; run 'site.yml' for this bot")
    raise GatewayRefused(code, f"{response.message} ({code})")


def _check_hello(payload: Any) -> str:
    """The gateway's version, out of what it says when it has accepted us.

    :raises BadFrame: it has accepted something else.
    """
    try:
        accepted = (payload["type"], payload["protocol"], payload["auth"]["role"])
        granted = set(payload["auth"]["scopes"]) >= set(SCOPES)
        version = payload["server"]["version"]
    except (KeyError, TypeError):
        raise BadFrame("its hello lacks something") from None
    if accepted != ("hello-ok", PROTOCOL, ROLE) or not granted:
        raise BadFrame("its hello grants something else than what was asked for")
    return printable(version, 64)
