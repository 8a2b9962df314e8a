from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from clawfactory_core.readiness import ready_status


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Has one connection answered as a test says; the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def start(answer: Callable[[socket.socket], None]) -> int:
        def accept() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                with contextlib.suppress(OSError):  # nobody listens any more
                    answer(connection)

        threads.append(threading.Thread(target=accept, daemon=True))
        threads[-1].start()
        return int(listener.getsockname()[1])

    yield start
    listener.close()
    for thread in threads:
        thread.join(10)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
        (b"HTTP/1.0 503\r\n\r\n", 503),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", 100),
    ],
)
def test_the_first_status_counts(serve, said: bytes, status: int) -> None:
    assert ready_status(serve(lambda connection: connection.sendall(said)), 5) == status


@pytest.mark.parametrize("said", [b"", b"hello\n", b"x" * 10_000, b"HTTP/1.1 abc\r\n"])
def test_what_is_no_answer_is_none(serve, said: bytes) -> None:
    with pytest.raises(OSError, match=r"does not speak HTTP|without an answer|reset"):
        ready_status(serve(lambda connection: connection.sendall(said)), 5)


def test_the_time_is_that_of_all_of_it(serve) -> None:
    """One byte at a time, each well in time."""

    def drip(connection: socket.socket) -> None:
        for _ in range(200):
            connection.sendall(b"H")
            time.sleep(0.1)

    started = time.monotonic()
    with pytest.raises(OSError, match="timed out"):
        ready_status(serve(drip), 1)
    assert time.monotonic() - started < 5


def test_nobody_there() -> None:
    with pytest.raises(ConnectionRefusedError):
        ready_status(1, 5)
