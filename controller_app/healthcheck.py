"""Container health check: ``python -m controller_app.healthcheck`` asks ``/health`` over the controller's socket.

Uses the standard library alone, because the engine starts it every few seconds.
"""

from __future__ import annotations

import http.client
import os
import socket
import sys

TIMEOUT_SECONDS = 3.0
_DEFAULT_SOCKET = "/run/operator/controller.sock"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def check(path: str) -> str | None:
    """Return ``None`` when the controller on socket ``path`` is healthy, else what is wrong."""
    connection = _UnixConnection(path)
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"{path}: {error}"
    finally:
        connection.close()
    return None if status == http.client.OK else f"/health answered {status}"


def main() -> int:
    """Check once; return the exit code."""
    problem = check(os.environ.get("CONTROLLER_SOCKET") or _DEFAULT_SOCKET)
    if problem:
        sys.stderr.write(f"{problem}\n")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
