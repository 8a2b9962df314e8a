"""Stops a bot's containers for good over the Docker engine's socket, with the standard library alone."""

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
        self._send("POST", f"/containers/{name}/update", {"RestartPolicy": {"Name": "no"}}, {200, 404})
        return self._send("POST", f"/containers/{name}/kill", {}, {204, 404, 409}) == 204

    def stop_bot(self, gateway: str, bot: str) -> bool:
        """Stop a bot's gateway for good, then end its sandboxes: in this order, or it would make new ones.

        :returns: whether any of them was there.
        :raises CoreError: as :meth:`stop_for_good`; the sandboxes are ended in any case.
        """
        ended = 0
        try:
            ran = self.stop_for_good(gateway)
        finally:
            ended = self.end_sandboxes(bot)
        return ran or ended > 0

    def end_sandboxes(self, bot: str) -> int:
        """Kill and remove every sandbox of a bot, as their labels tell.

        :returns: how many there were.
        :raises CoreError: as :meth:`stop_for_good`.
        """
        filters = json.dumps({"label": [f"clawfactory.bot={bot}", "clawfactory.service=sandbox"]})
        found = self.get(f"/containers/json?all=true&filters={quote(filters)}") or []
        for item in found:
            # 409: the engine is removing it already.
            self._send("DELETE", f"/containers/{item['Id']}?force=true&v=true", None, {204, 404, 409})
        return len(found)

    def _send(self, method: str, path: str, body: object, expected: set[int]) -> int:
        connection = _UnixConnection(self._path, self._timeout)
        try:
            if body is None:
                connection.request(method, path)
            else:
                connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnavailable(f"the Docker engine does not answer on {self._path}: {error}") from error
        finally:
            connection.close()
        if response.status not in expected:
            raise CoreError(f"the Docker engine answered {response.status} to {method} {path}: {answer[:200]!r}")
        return response.status
