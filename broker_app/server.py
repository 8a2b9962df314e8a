"""Serves one unix socket per client, and knows who calls by the socket and by the kernel's word on the peer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

from clawfactory_core.locks import way_out

from .clients import MAX_CONNECTIONS, AuditLog, Client
from .engine import Engine, EngineError, Upgraded
from .http import ClientGone, Connection, Reply, Request
from .queries import parse_query
from .refusal import Refused
from .routes import Call, Logs, Outcome, Routes, error_body
from .sandboxes import Missing, Sandboxes
from .settings import Client as ClientSettings
from .settings import Profile, Settings
from .streams import carry, while_connected

SOCKET_MODE = 0o660
#: A log that is not followed has at most so many bytes; the oldest lines come first.
LOG_BYTES = 32 * 1024 * 1024
#: How long a start that is under way keeps a broker that was told to end.
SETTLE_SECONDS = 25.0
_ABOUT_ALL = ("/containers/json", "/info")
_ACCEPT_PAUSE_SECONDS = 0.2
_RECOVER_PAUSE_SECONDS = 1.0

_logger = logging.getLogger(__name__)


class Broker:
    """:param settings: see :mod:`.settings`. Listens from :meth:`run` on, until it is told to end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine = Engine(settings.engine_socket)
        self._sandboxes = Sandboxes(settings, self._engine)
        self._routes = Routes(settings, self._engine, self._sandboxes)
        self._log = AuditLog(Path(settings.audit_file), settings.bot)
        self._connections: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        #: Set when clients are being served.
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Serve until :meth:`stop`. Sandboxes go on running.

        :raises OSError: a socket cannot be bound.
        """
        loop = asyncio.get_running_loop()
        stopped = loop.create_task(self._stop.wait())
        serving = loop.create_task(self._serve())
        await asyncio.wait({stopped, serving}, return_when=asyncio.FIRST_COMPLETED)
        for task in (stopped, serving, *self._connections):
            task.cancel()
        await self._sandboxes.settle(SETTLE_SECONDS)
        results = await asyncio.gather(serving, *self._connections, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]

    def stop(self) -> None:
        """End :meth:`run`."""
        self._stop.set()

    async def _serve(self) -> None:
        clients: list[tuple[Profile, ClientSettings]] = [
            ("gateway", self._settings.clients.gateway),
            ("controller", self._settings.clients.controller),
        ]
        listeners: list[socket.socket] = []
        try:
            # Bound before the engine is asked, so that the paths are there to be mounted; served after.
            for _, client in clients:
                listeners.append(bind(Path(client.socket)))
            await self._recover()
            self.ready.set()
            async with asyncio.TaskGroup() as group:
                for (profile, client), listener in zip(clients, listeners, strict=True):
                    group.create_task(self._accept(listener, client.uid, Client(profile, self._log)))
        finally:
            for listener in listeners:
                listener.close()

    async def _recover(self) -> None:
        while True:
            try:
                return await self._sandboxes.recover()
            except EngineError as error:
                _logger.error("the engine cannot be asked, trying again: %s", error)
                await asyncio.sleep(_RECOVER_PAUSE_SECONDS)

    async def _accept(self, listener: socket.socket, uid: int, client: Client) -> None:
        loop = asyncio.get_running_loop()
        while True:
            # A client with too many waits in its own queue, and costs nothing there.
            await client.connections.acquire()
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError as error:
                client.connections.release()
                _logger.error("cannot accept a connection: %s", error)
                await asyncio.sleep(_ACCEPT_PAUSE_SECONDS)
                continue
            except asyncio.CancelledError:
                client.connections.release()
                raise
            task = loop.create_task(self._connection(sock, uid, client))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _connection(self, sock: socket.socket, uid: int, client: Client) -> None:
        connection = Connection(sock)
        upgraded: Upgraded | None = None
        try:
            peer = _peer_uid(sock)
            if peer == uid:
                upgraded = await self._requests(connection, client)
            elif peer == os.geteuid():
                await self._health(connection)
            else:
                await client.refused(("-", "-"), 403, f"uid {peer} is not the client's")
                await connection.refuse(_refusal(403, "the socket is not for this user"))
        except ClientGone:
            pass
        except Exception:
            _logger.exception("a connection of %s failed", client.profile)
        finally:
            if upgraded is None:
                await connection.close()
            # A stream has a place of its own: those that last must not keep calls out.
            client.connections.release()
        if upgraded is not None:
            await self._stream(connection, upgraded, client)

    async def _requests(self, connection: Connection, client: Client) -> Upgraded | None:
        """Answer one request after another, until there are no more or the connection is to be a stream."""
        while True:
            try:
                request = await connection.read_request()
                if request is None:
                    return None
                outcome = await self._respond(connection, request, client)
            except Refused as refused:
                await client.refused(connection.said, refused.status, refused.reason)
                await connection.refuse(_refusal(refused.status, refused.reason))
                return None
            except Missing as missing:
                if missing.foreign:
                    await client.refused(connection.said, 404, "what it names is not this client's")
                else:
                    await client.missing()
                outcome = await connection.send(Reply(404, error_body(str(missing))))
            except EngineError as error:
                _logger.error("%s %s failed: %s", *connection.said, error)
                outcome = await connection.send(Reply(502, error_body("the engine does not answer as it should")))
            if isinstance(outcome, Upgraded):
                return outcome
            if isinstance(outcome, Logs):
                outcome = await self._logs(connection, outcome, client)
            if not outcome:
                return None

    async def _respond(self, connection: Connection, request: Request, client: Client) -> Upgraded | Logs | bool:
        """Answer a request; a stream or a log is left to the caller, else whether the connection is good for more."""
        # What is told of all containers may be large, and is held until it has been read.
        async with client.answers if request.path.endswith(_ABOUT_ALL) else contextlib.nullcontext():
            outcome = await self._answer(connection, request, client)
            return await connection.send(outcome) if isinstance(outcome, Reply) else outcome

    async def _answer(self, connection: Connection, request: Request, client: Client) -> Outcome:
        if os.path.lexists(self._settings.lock_file):
            raise Refused(423, f"{self._settings.bot} is locked; to end that: {way_out(self._settings.bot)}")
        route, path = self._routes.find(client.profile, request)
        query = parse_query(route.query, request.query or "")
        body = await connection.read_body(request, route.body)
        if route.body and not request.json:
            raise Refused(415, "the content type is not application/json")
        return await route.handler(self._routes, Call(client, path, query, body, request.upgrade))

    async def _stream(self, connection: Connection, upgraded: Upgraded, client: Client) -> None:
        try:
            early = await connection.switch()
            await carry(
                connection.sock,
                upgraded.sock,
                early=(early, upgraded.early),
                seconds=self._settings.stream_seconds,
            )
        except ClientGone:
            pass
        except Exception:
            _logger.exception("a stream of %s failed", client.profile)
        finally:
            upgraded.sock.close()
            try:
                await connection.close()
            finally:
                client.streams -= 1

    async def _logs(self, connection: Connection, logs: Logs, client: Client) -> bool:
        client.streams += logs.follow
        try:
            path = f"/containers/{logs.container}/logs"
            async with (
                asyncio.timeout(self._settings.stream_seconds),
                self._engine.stream(path, logs.query) as (status, parts),
            ):
                if status != 200:
                    return await connection.send(Reply(502, error_body("the engine failed")))
                await connection.begin(200, "application/vnd.docker.multiplexed-stream")
                limit = None if logs.follow else LOG_BYTES
                await while_connected(connection.sock, _pass(connection, parts, limit))
                return await connection.end()
        except (TimeoutError, EngineError):
            return False  # the answer has begun: all that is left is to end it early
        finally:
            client.streams -= logs.follow

    async def _health(self, connection: Connection) -> None:
        """Answer this container's own health check, which runs as the broker's own user: does the engine answer?"""
        request = await connection.read_request()
        if request is not None and (request.method, request.path) == ("GET", "/_ping"):
            await connection.read_body(request, 0)
            try:
                status = (await self._engine.call("GET", "/_ping", seconds=5.0)).status
            except EngineError:
                status = 503
            await connection.send(Reply(status, b"OK", "text/plain"))


def bind(path: Path) -> socket.socket:
    """Listen on ``path`` with mode 0660 and, its directory being setgid, the directory's group.

    The path never goes away when a socket is there already, so a client that has it mounted sees the new one.

    :raises OSError: the directory is missing or not ours.
    """
    temporary = path.with_name(f".{secrets.token_hex(4)}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        mask = os.umask(0o777 & ~SOCKET_MODE)
        try:
            listener.bind(str(temporary))
        finally:
            os.umask(mask)
        try:
            temporary.chmod(SOCKET_MODE)
            listener.listen(MAX_CONNECTIONS)
            listener.setblocking(False)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except BaseException:
        listener.close()
        raise
    return listener


def _peer_uid(sock: socket.socket) -> int:
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)


def _refusal(status: int, reason: str) -> Reply:
    return Reply(status, error_body(f"refused by the broker: {reason}"))


async def _pass(connection: Connection, parts: AsyncIterator[bytes], limit: int | None) -> None:
    sent = 0
    async for data in parts:
        await connection.chunk(data)
        sent += len(data)
        if limit is not None and sent >= limit:
            return
