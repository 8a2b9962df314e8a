"""Asks a bot's broker as its gateway would, with code that nothing in the gateway can touch."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

SOCKET = "docker.sock"
_SECONDS = 30.0
#: Of the broker's answer; the rest says nothing new.
_MOST = 4096


@dataclass(frozen=True)
class Answer:
    """What the broker said.

    :param status: of HTTP; 0 if there was none.
    :param text: the start of its body.
    """

    status: int
    text: str


def try_privileged(directory: Path, uid: int, name: str, image: str) -> Answer:
    """Ask for a privileged container.

    :param directory: of the socket for the gateway, which tells its clients by their user.
    :param uid: user and group of the gateway.
    :param name: of the container, should it be made.
    :param image: one that the bot may have for a sandbox.
    """
    body = json.dumps(
        {
            "Image": image,
            "Cmd": ["sleep", "infinity"],
            "HostConfig": {"Privileged": True, "NetworkMode": "none"},
        }
    ).encode()
    head = (
        f"POST /v1.41/containers/create?name={name} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return _parsed(_as_user(directory, uid, head.encode() + body))


def _as_user(directory: Path, uid: int, request: bytes) -> bytes:
    """Send a request from a process of another user; the start of what came back."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, _talk(directory, uid, request))
        finally:
            os._exit(0)
    os.close(writing)
    try:
        with open(reading, "rb") as answer:
            return answer.read()
    finally:
        os.waitpid(child, 0)


def _talk(directory: Path, uid: int, request: bytes) -> bytes:
    """:returns: nothing where nobody answers."""
    try:
        # The way there is root's alone; the directory is its group's too.
        os.chdir(directory)
        if os.geteuid() != uid:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_SECONDS)
            connection.connect(SOCKET)
            connection.sendall(request)
            answer = b""
            while len(answer) < _MOST and (data := connection.recv(_MOST)):
                answer += data
            return answer[:_MOST]
    except OSError:
        return b""


def _parsed(answer: bytes) -> Answer:
    head, _, body = answer.partition(b"\r\n\r\n")
    try:
        status = int(head.split(b" ", 2)[1])
    except (IndexError, ValueError):
        return Answer(0, "")
    return Answer(status, body.decode("utf-8", "replace"))
