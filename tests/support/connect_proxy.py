"""An HTTP proxy for tests that knows nothing but CONNECT, as egress does towards the controller."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class ConnectProxy:
    """A proxy that runs.

    :ivar asked: targets of all requests so far.
    :ivar answer: status line instead of a connection, empty connects.
    :ivar cut: end after the status line, without the empty one.
    """

    port: int
    asked: list[str] = field(default_factory=list)
    answer: str = ""
    cut: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self, client: socket.socket) -> None:
        """One connection to its end."""
        with client, suppress(OSError):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                byte = client.recv(1)
                if not byte:
                    return
                head += byte
            method, target, _ = head.decode().split(" ", 2)
            self.asked.append(f"{method} {target}")
            if self.answer:
                client.sendall(f"{self.answer}\r\n{'' if self.cut else chr(13) + chr(10)}".encode())
                return
            host, _, port = target.rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                other = threading.Thread(target=_copy, args=(server, client), daemon=True)
                other.start()
                _copy(client, server)
                other.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def connect_proxy() -> Iterator[ConnectProxy]:
    """A proxy on a free port of 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = ConnectProxy(listener.getsockname()[1])

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=proxy.serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield proxy
        # A blocked accept() does not see that its socket is closed.
        listener.shutdown(socket.SHUT_RDWR)
