"""In real network namespaces, which needs root as the module itself does."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from clawfactory_core.errors import CoreError
from clawfactory_core.way_out import try_way_out

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace")
HOST = "127.0.0.1"


@pytest.fixture
def namespace() -> Iterator[Path]:
    """Of a process with a network of its own, in which nothing is up."""
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield Path(f"/proc/{process.pid}/ns/net")
        finally:
            process.kill()


@pytest.fixture
def proxy() -> Iterator[tuple[str, int]]:
    """Refuses what is not for port 443, and says nothing sensible about ``odd``."""

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                request = connection.recv(1024)
                if not request:
                    continue
                asked = request.split(b" ")[1]
                status = b"200" if asked.endswith(b":443") else b"403"
                connection.sendall(b"nonsense" if asked.startswith(b"odd") else b"HTTP/1.1 " + status + b" x\r\n\r\n")

    with socket.create_server((HOST, 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()


def test_says_what_answers_with_and_without_the_proxy(proxy):
    with socket.socket() as closed:
        closed.bind((HOST, 0))
        silent = closed.getsockname()
        through = [("a.test", 443), ("192.0.2.1", 80), ("odd.test", 443), ("::1", 443)]
        found = try_way_out(Path("/proc/self/ns/net"), [proxy, silent], proxy, through)
    assert found.reached == (f"{HOST}:{proxy[1]}",)
    assert found.answers == {"a.test:443": 200, "192.0.2.1:80": 403, "odd.test:443": 0, "[::1]:443": 200}


def test_looks_from_within_the_namespace_and_stays_outside_itself(namespace, proxy):
    found = try_way_out(namespace, [proxy], proxy, [("a.test", 443)])
    assert (found.reached, found.answers) == ((), {"a.test:443": 0})
    assert try_way_out(Path("/proc/self/ns/net"), [proxy], proxy, []).reached != ()


def test_namespace_that_is_gone_is_an_error():
    with pytest.raises(CoreError, match="cannot be entered"):
        try_way_out(Path("/proc/0/ns/net"), [], (HOST, 1), [])
