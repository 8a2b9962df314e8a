"""A real HTTP server on a Unix socket that answers what a test tells it to, in place of a Docker engine."""

from __future__ import annotations

import json
import re
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

# The SDK asks for a version of the API, we do not.
_VERSION = re.compile(r"^/v[0-9.]+(?=/)")


class _Handler(BaseHTTPRequestHandler):
    server: EngineServer

    def address_string(self) -> str:
        return "unix"

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        self._answer("")

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.posted[self._path()] = json.loads(raw) if raw else None
        self._answer("POST ")

    def do_DELETE(self) -> None:
        self.server.requests.append(f"DELETE {self._path()}")
        self._answer("DELETE ")

    def _path(self) -> str:
        return _VERSION.sub("", self.path.partition("?")[0])

    def _answer(self, method: str) -> None:
        time.sleep(self.server.delay)
        status, body = self.server.answers.get(method + self._path(), (404, {"message": "page not found"}))
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)
        except BrokenPipeError:
            pass  # the client has given up waiting, which is what a delay is for

    def log_message(self, format: str, *args: Any) -> None:
        pass


class EngineServer(socketserver.ThreadingUnixStreamServer):
    """``answers`` maps a path without its query to ``(status, JSON value or bytes)``.

    Other methods than GET come before the path: ``"POST /containers/create"``; their JSON is kept in ``posted``.
    """

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.answers: dict[str, tuple[int, Any]] = {}
        self.requests: list[str] = []
        self.posted: dict[str, Any] = {}
        self.delay = 0.0


@contextmanager
def engine_server(path: Path) -> Iterator[EngineServer]:
    with EngineServer(path) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def container_inspection(bot: str, service: str, **state: Any) -> dict[str, Any]:
    """What the engine says of a running container, cut down to what is read."""
    return {
        "Id": f"{bot}{service}",
        "Name": f"/clawfactory-{bot}-{service}",
        "Image": "sha256:aa",
        "RestartCount": 2,
        "Config": {
            "Image": "clawfactory-gateway:2026.9.6-0123456789ab",
            "Labels": {"clawfactory.bot": bot, "clawfactory.service": service, "clawfactory.spec": "s"},
        },
        "State": {"Status": "running", "StartedAt": "2026-01-01T00:00:00Z", **state},
        "HostConfig": {
            "RestartPolicy": {"Name": "unless-stopped"},
            "Memory": 2**30,
            "NanoCpus": 10**9,
            "PidsLimit": None,
        },
        "NetworkSettings": {"Networks": {"inside": {"IPAMConfig": {"IPv4Address": "10.213.0.3"}}}},
    }
