"""Tries the ways out of a container's network from within it, with code that nothing in the container can touch."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .errors import CoreError

_CLONE_NEWNET = 0x40000000
_SECONDS = 3.0
_STATUS_LINE = 64

Target = tuple[str, int]


@dataclass(frozen=True)
class WayOut:
    """What came of the attempts.

    :param reached: ``host:port`` that took a connection without the proxy.
    :param answers: ``host:port`` to the status that the proxy gave to a ``CONNECT``; 0 if it gave none.
    """

    reached: tuple[str, ...]
    answers: dict[str, int]


def try_way_out(namespace: Path, direct: Iterable[Target], proxy: Target, through: Iterable[Target]) -> WayOut:
    """Connect from within a network namespace.

    :param namespace: ``/proc/<pid>/ns/net`` of a process of the container.
    :param direct: targets to connect to without a proxy.
    :param proxy: of the container.
    :param through: targets to ask the proxy for.
    :raises CoreError: the namespace cannot be entered.
    """

    def attempts() -> WayOut:
        _enter(namespace)
        return WayOut(
            tuple(_named(target) for target in direct if _connects(target)),
            {_named(target): _status(proxy, target) for target in through},
        )

    # A namespace is a thread's: this one ends with what it was entered for.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(attempts).result()


def _enter(namespace: Path) -> None:
    try:
        descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CoreError(f"the network of {namespace} cannot be entered: {error}") from error


def _connects(target: Target) -> bool:
    try:
        socket.create_connection(target, _SECONDS).close()
    except OSError:
        return False
    return True


def _status(proxy: Target, target: Target) -> int:
    try:
        with socket.create_connection(proxy, _SECONDS) as connection:
            connection.sendall(f"CONNECT {_named(target)} HTTP/1.1\r\nHost: {_named(target)}\r\n\r\n".encode())
            return int(connection.recv(_STATUS_LINE).split(b" ", 2)[1])
    except (OSError, IndexError, ValueError):
        return 0


def _named(target: Target) -> str:
    host, port = target
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
