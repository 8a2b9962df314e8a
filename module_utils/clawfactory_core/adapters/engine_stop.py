"""Stops a container for good over the Docker engine's socket, with the standard library alone."""

from __future__ import annotations

import http.client
import json
from urllib.parse import quote

from ..errors import CoreError
from .engine_socket import SOCKET, EngineSocket, EngineUnavailable, _UnixConnection


class EngineStopper(EngineSocket):
    """:param path: of the engine's socket. :param timeout: seconds for each answer."""

    def __init__(self, path: str = SOCKET, timeout: float = 5.0) -> None:
        super().__init__(path, timeout)

    def stop_for_good(self, container: str) -> bool:
        """Take the restart policy away, then send SIGKILL.

        :returns: whether it ran.
        :raises EngineUnavailable: nothing answers, or not in time.
        :raises CoreError: the engine answers with an error.
        """
        name = quote(container, safe="")
        found = self.get(f"/containers/{name}/json")
        if found is None:
            return False
        if not found["State"]["Running"] and found["HostConfig"]["RestartPolicy"]["Name"] in ("", "no"):
            return False
        # In this order: a killed container whose policy is still there starts again at once.
        self._post(f"/containers/{name}/update", {"RestartPolicy": {"Name": "no"}}, {200, 404})
        return self._post(f"/containers/{name}/kill", {}, {204, 404, 409}) == 204

    def _post(self, path: str, body: object, expected: set[int]) -> int:
        connection = _UnixConnection(self._path, self._timeout)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnavailable(f"the Docker engine does not answer on {self._path}: {error}") from error
        finally:
            connection.close()
        if response.status not in expected:
            raise CoreError(f"the Docker engine answered {response.status} to POST {path}: {answer[:200]!r}")
        return response.status
