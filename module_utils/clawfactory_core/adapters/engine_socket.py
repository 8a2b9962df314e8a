"""Read-only questions to the Docker engine over its socket, with the standard library alone.

The first look at a machine happens before the target's venv (and so the Docker SDK) exists.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from typing import Any
from urllib.parse import quote

from ..errors import CoreError

SOCKET = "/var/run/docker.sock"
# No version in the paths: the engine answers in its own, and new ones refuse those of old ones.


class EngineUnavailable(CoreError):
    """No engine answers on the socket."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class EngineSocket:
    """:param path: of the engine's socket. :param timeout: seconds for each answer."""

    def __init__(self, path: str = SOCKET, timeout: float = 10.0) -> None:
        self._path = path
        self._timeout = timeout

    def get(self, path: str) -> Any:
        """Decoded JSON of ``GET path``; ``None`` when the engine says 404.

        :raises EngineUnavailable: nothing answers, or not in time.
        :raises CoreError: the engine answers with another error.
        """
        connection = _UnixConnection(self._path, self._timeout)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnavailable(f"the Docker engine does not answer on {self._path}: {error}") from error
        finally:
            connection.close()
        if response.status == 404:
            return None
        if response.status != 200:
            raise CoreError(f"the Docker engine answered {response.status} to GET {path}: {body[:200]!r}")
        try:
            return json.loads(body)
        except ValueError as error:
            raise EngineUnavailable(f"what answers on {self._path} is not a Docker engine: {body[:200]!r}") from error

    def version(self) -> dict[str, Any]:
        """Answer of ``GET /version``."""
        result = self.get("/version")
        if not isinstance(result, dict):
            raise EngineUnavailable(f"what answers on {self._path} is not a Docker engine")
        return result

    def group(self) -> int:
        """Group that may use the socket."""
        return os.stat(self._path).st_gid

    def containers(self, label: str) -> list[dict[str, Any]]:
        """``docker inspect`` of every container, running or not, that carries the label."""
        filters = quote(json.dumps({"label": [label]}))
        listed = self.get(f"/containers/json?all=true&filters={filters}") or []
        inspected = (self.get(f"/containers/{item['Id']}/json") for item in listed)
        return [item for item in inspected if item is not None]

    def networks(self, label: str) -> list[dict[str, Any]]:
        """Every network that carries the label."""
        found: list[dict[str, Any]] = self.get(f"/networks?filters={quote(json.dumps({'label': [label]}))}") or []
        return found

    def image_tags(self) -> dict[str, str]:
        """``{"name:tag": "sha256:…"}`` of every tagged image."""
        return {tag: image["Id"] for image in self.get("/images/json") or [] for tag in image.get("RepoTags") or []}
