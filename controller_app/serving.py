"""Serves the application on the unix socket that the proxy shares."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import stat
import sys
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from clawfactory_core.errors import Conflict

SOCKET_MODE = 0o660
_STOP_SECONDS = 5
_PROBE_SECONDS = 1.0

_logger = logging.getLogger(__name__)


def serve(app: FastAPI, path: Path) -> None:
    """Serve ``app`` on ``path`` until SIGTERM or SIGINT, then remove the socket.

    :raises Conflict: the path cannot be used; see :func:`bind_operator_socket`.
    """
    listener = bind_operator_socket(path)
    identity = path.stat().st_ino
    _logger.info("listening on %s", path)
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # it would log query strings
        proxy_headers=False,  # the application reads them itself, strictly
        server_header=False,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    # The server raises the signal that stopped it once more; by default that would end us before the cleanup below.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit_quietly)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        if path.exists() and path.stat().st_ino == identity:
            path.unlink()


def _exit_quietly(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


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
