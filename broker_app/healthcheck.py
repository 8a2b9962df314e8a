"""Container health check: ``python -m broker_app.healthcheck [settings file]`` asks ``/_ping`` on a client's socket.

Healthy means that the broker serves and that the engine answers it. Uses the standard library alone, because the engine
starts it every few seconds; the broker answers this one call to a process of its own user. The socket is the
controller's: a gateway may fill the places of its own, which says nothing about the broker.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
from pathlib import Path

TIMEOUT_SECONDS = 8.0
_SETTINGS = "/etc/clawfactory/broker.json"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("broker", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def check(path: str) -> str | None:
    """Return ``None`` when the broker on socket ``path`` is healthy, else what is wrong."""
    connection = _UnixConnection(path)
    try:
        connection.request("GET", "/_ping")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"{path}: {error}"
    finally:
        connection.close()
    return None if status == http.client.OK else f"/_ping answered {status}"


def main() -> int:
    """Check once; return the exit code."""
    settings = json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else _SETTINGS).read_bytes())
    problem = check(settings["clients"]["controller"]["socket"])
    if problem:
        sys.stderr.write(f"{problem}\n")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
