"""Asking the broker as the gateway: who asks, what is asked, and what an answer may be."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clawfactory_core.refusal import SOCKET, Answer, try_privileged

#: Root becomes the gateway's user; anybody else can only stay who they are.
UID = 20001 if os.geteuid() == 0 else os.geteuid()


@contextmanager
def broker(directory: Path, answer: bytes) -> Iterator[list[tuple[int, bytes]]]:
    """Answers one request; gives the user who asked, and the request."""
    directory.mkdir(mode=0o750)
    if os.geteuid() == 0:
        os.chown(directory, 0, UID)
    asked: list[tuple[int, bytes]] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / SOCKET))
        (directory / SOCKET).chmod(0o666)
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
                asked.append((struct.unpack("3i", peer)[1], connection.recv(65536)))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield asked
        thread.join()


def test_the_gateway_s_user_asks_for_one_privileged_container(tmp_path: Path) -> None:
    # The way there is closed to that user, as it is on a machine.
    tmp_path.chmod(0o700)
    with broker(tmp_path / "run", b'HTTP/1.1 403 Forbidden\r\nA: b\r\n\r\n{"message": "no"}') as asked:
        assert try_privileged(tmp_path / "run", UID, "clawfactory-bot1-sbx-verify", "image:1") == Answer(
            403, '{"message": "no"}'
        )
    [(user, request)] = asked
    head, _, body = request.partition(b"\r\n\r\n")
    assert user == UID
    assert head.startswith(b"POST /v1.41/containers/create?name=clawfactory-bot1-sbx-verify HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body)["HostConfig"]["Privileged"] is True


@pytest.mark.parametrize("said", [b"", b"nonsense", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 yes\r\n\r\n"])
def test_what_is_no_answer_is_none(tmp_path: Path, said: bytes) -> None:
    with broker(tmp_path / "run", said):
        assert try_privileged(tmp_path / "run", UID, "name", "image").status == 0


def test_an_answer_without_end_is_cut(tmp_path: Path) -> None:
    with broker(tmp_path / "run", b"HTTP/1.1 403 Forbidden\r\n\r\n" + b"x" * 50_000):
        found = try_privileged(tmp_path / "run", UID, "name", "image")
    assert found.status == 403
    assert len(found.text) < 5000


def test_where_nobody_listens_there_is_no_answer(tmp_path: Path) -> None:
    assert try_privileged(tmp_path, UID, "name", "image") == Answer(0, "")
    assert try_privileged(tmp_path / "gone", UID, "name", "image") == Answer(0, "")
