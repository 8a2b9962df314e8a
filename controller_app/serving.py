"""Serves the operator's application on the unix socket that the proxy shares, and the bot's on the inside network."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from clawfactory_core.errors import Conflict, CoreError

SOCKET_MODE = 0o660
_STOP_SECONDS = 5
_PROBE_SECONDS = 1.0
#: Of the bot, all together.
_AGENT_CONNECTIONS = 32
#: Until a new connection has to have sent a request's head.
_SILENCE_SECONDS = 15.0

_logger = logging.getLogger(__name__)


def serve(operator: FastAPI, path: Path, agent: FastAPI, address: str) -> None:
    """Serve both applications until SIGTERM or SIGINT, then remove the socket.

    :param operator: served on the unix socket ``path`` that only the proxy shares.
    :param agent: served on ``address`` (``IPv4:port``) of the inside network, where the bot is.
    :raises Conflict: path or address cannot be used.
    :raises CoreError: a server ended by itself.
    """
    on_address = bind_agent_address(address)
    on_path = bind_operator_socket(path)
    identity = path.stat().st_ino
    _logger.info("listening on %s, for the bot on %s", path, address)
    operators = _Server(_config(operator, lifespan="on", http="httptools"))
    agents = _Server(_config(agent, lifespan="off", http=BoundedProtocol, limit_concurrency=_AGENT_CONNECTIONS))
    try:
        asyncio.run(_serve_all([(operators, on_path), (agents, on_address)]))
    finally:
        if path.exists() and path.stat().st_ino == identity:
            path.unlink()


async def _serve_all(pairs: list[tuple[_Server, socket.socket]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks = [asyncio.create_task(server.serve(sockets=[listener])) for server, listener in pairs]
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait([*tasks, waiting], return_when=asyncio.FIRST_COMPLETED)
    for server, _ in pairs:
        server.should_exit = True
    waiting.cancel()
    await asyncio.gather(*tasks)
    if not stop.is_set():
        # One without the other would be half a controller; the container is started anew.
        raise CoreError("a server of the controller ended by itself; the lines before this one say why")


def _config(app: FastAPI, **settings: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        ws="none",
        log_config=None,
        access_log=False,  # it would log query strings
        proxy_headers=False,  # the application reads them itself, strictly
        server_header=False,
        timeout_graceful_shutdown=_STOP_SECONDS,
        **settings,
    )


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever started it, because there are two."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture nothing."""
        yield


class BoundedProtocol(H11Protocol):
    """HTTP for a client that may be hostile: what it leaves open must not use up what the operator's server needs."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the parent has it
        """Close a connection that is one too many, or that says nothing."""
        super().connection_made(transport)
        if len(self.connections) > _AGENT_CONNECTIONS:
            transport.abort()
            return
        self.loop.call_later(_SILENCE_SECONDS, self._end_silence)

    def _end_silence(self) -> None:
        if self.conn.their_state is h11.IDLE:
            self.transport.abort()


def bind_agent_address(address: str) -> socket.socket:
    """Bind one address for the bot.

    :param address: ``IPv4:port``.
    :raises Conflict: it is not ours, or another process has the port.
    """
    host, _, port = address.rpartition(":")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
    except OSError as error:
        listener.close()
        raise Conflict(f"cannot bind CONTROLLER_AGENT_ADDRESS {address}: {error.strerror or error}") from error
    return listener


def bind_operator_socket(path: Path) -> socket.socket:
    """Bind ``path`` with mode 0660 and the group of its directory; replace the socket of a process that is gone.

    :raises Conflict: something else is at ``path``, another controller answers there, or it cannot be bound.
    """
    try:
        _remove_stale_socket(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        previous_mask = os.umask(0o777 & ~SOCKET_MODE)  # never wider, not even until chmod
        try:
            listener.bind(str(path))
        finally:
            os.umask(previous_mask)
        path.chmod(SOCKET_MODE)
        _share_with_directory_group(path)
    except OSError as error:
        raise Conflict(
            f"cannot bind {path}: {error.strerror or error}; its directory must exist and belong to uid {os.geteuid()}"
        ) from error
    return listener


def _remove_stale_socket(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Conflict(f"{path} exists and is not a socket; remove it or set CONTROLLER_SOCKET")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        result = probe.connect_ex(str(path))
    if result != errno.ECONNREFUSED:
        raise Conflict(f"another process answers on {path}; stop it first")
    path.unlink()


def _share_with_directory_group(path: Path) -> None:
    # The proxy is in the group of the directory, and connecting to a socket needs write permission on it.
    group = path.parent.stat().st_gid
    if path.stat().st_gid == group:
        return
    try:
        os.chown(path, -1, group)
    except PermissionError:
        _logger.warning(
            "%s has group %d and its directory %d: the proxy cannot connect unless it is in group %d; "
            "set the setgid bit on the directory",
            *(path, path.stat().st_gid, group, path.stat().st_gid),
        )
