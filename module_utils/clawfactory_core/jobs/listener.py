"""The socket of a bot, and lines on it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import struct
import time
from collections import deque
from pathlib import Path

from ..errors import CoreError
from .protocol import REQUEST_BYTES, REQUEST_SECONDS, SOCKET_NAME, Refusal, encode

BACKLOG = 128
_SEND_SECONDS = 10.0
_LEAVING_SECONDS = 1.0
_MAX_LEAVING = 64
_PEER = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)


def open_listener(directory: Path, uid: int) -> tuple[socket.socket, int]:
    """A listening socket, which only root and the group ``uid`` may connect to, in place of whatever is there.

    :returns: it, and its inode.
    :raises CoreError: the directory is not root's.
    :raises OSError: it cannot be made.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(directory, flags)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # By the descriptor: a path may be longer than an address can be. No moment in which others may connect.
    temporary = f".{SOCKET_NAME}.{os.urandom(4).hex()}"
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or found.st_mode & stat.S_IWOTH or found.st_mode & stat.S_IWGRP:
            raise CoreError(f"{directory} is not root's alone to write; run site.yml, which sets it right")
        for left in directory.glob(f".{SOCKET_NAME}.*"):
            left.unlink(missing_ok=True)
        listener.bind(f"/proc/self/fd/{descriptor}/{temporary}")
        os.chmod(temporary, 0o600, dir_fd=descriptor)
        if os.geteuid() == 0:
            os.chown(temporary, 0, uid, dir_fd=descriptor)
        os.chmod(temporary, 0o660, dir_fd=descriptor)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        os.rename(temporary, SOCKET_NAME, src_dir_fd=descriptor, dst_dir_fd=descriptor)
        return listener, inode(directory / SOCKET_NAME)
    except BaseException:
        listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=descriptor)
        raise
    finally:
        os.close(descriptor)


def inode(path: Path) -> int:
    """Number of what is at a path, 0 if there is nothing."""
    try:
        return os.lstat(path).st_ino
    except (FileNotFoundError, NotADirectoryError):
        return 0


def receive(connection: socket.socket) -> bytes:
    """The request's line. What is sent after it has 10 seconds.

    :raises Refusal: 408, 413, or 400 if it ends without an end of line.
    """
    deadline = time.monotonic() + REQUEST_SECONDS
    received = bytearray()
    while b"\n" not in received:
        if len(received) >= REQUEST_BYTES:
            raise Refusal(413, "Request too long", f"a request has at most {REQUEST_BYTES} bytes")
        left = deadline - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
            piece = connection.recv(REQUEST_BYTES - len(received))
        except TimeoutError:
            text = f"the request did not arrive within {REQUEST_SECONDS:.0f} seconds"
            raise Refusal(408, "Too slow", text) from None
        if not piece:
            raise Refusal(400, "Not a request", "the connection ended before the line did")
        received += piece
    connection.settimeout(_SEND_SECONDS)
    line, _, rest = bytes(received).partition(b"\n")
    if rest:
        raise Refusal(400, "Not a request", "a connection carries one request")
    return line


def send(connection: socket.socket, answer: bytes) -> None:
    """Answer, and see that it arrives.

    :raises ConnectionError, TimeoutError: the other side left, or does not listen.
    """
    connection.settimeout(_SEND_SECONDS)
    connection.sendall(answer)
    # Closing with something unread would reach the other side as an error, perhaps before the answer.
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(1.0)
    drained = 0
    while drained < 16 * REQUEST_BYTES:
        piece = connection.recv(REQUEST_BYTES)
        if not piece:
            return
        drained += len(piece)


class Leaving:
    """Connections that were turned away and are closed a moment later.

    Closed at once, the other side would find out while it still asks, and some clients then forget the answer.
    """

    def __init__(self) -> None:
        self._connections: deque[tuple[float, socket.socket]] = deque()

    def turn_away(self, connection: socket.socket, refusal: Refusal) -> None:
        """Answer without waiting for anything: this is for the thread that everybody waits for."""
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.send(encode(refusal.to_dict()))
            connection.shutdown(socket.SHUT_WR)
        self._connections.append((time.monotonic() + _LEAVING_SECONDS, connection))
        if len(self._connections) > _MAX_LEAVING:
            self._connections.popleft()[1].close()

    def close(self, *, all_of_them: bool = False) -> None:
        """Close those whose moment is over."""
        while self._connections and (all_of_them or self._connections[0][0] <= time.monotonic()):
            self._connections.popleft()[1].close()


def peer_uid(connection: socket.socket) -> int:
    """User who connected, as the kernel saw it then."""
    found: int = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[1]
    return found


def has_left(connection: socket.socket) -> bool:
    """Whether the other side closed."""
    watch = select.poll()
    watch.register(connection, 0)  # what is always told: an error, or that it hung up
    return bool(watch.poll(0))
