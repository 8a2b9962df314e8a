"""A bot's gateway container: restarted, and made anew with other mounts, over the Docker engine's socket.

The Docker SDK could do the same, but importing it takes longer than the rest of a promotion.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..container import entry_mounts, spec_digest
from ..errors import Conflict, CoreError
from ..files import write_atomic
from ..locks import read_lock_at
from ..readiness import ready_status
from .container_log import demultiplexed
from .engine_socket import SOCKET, EngineUnavailable, _UnixConnection
from .engine_stop import EngineStopper

SPEC_LABEL = "clawfactory.spec"
_ENGINE_SECONDS = 30.0
#: A gateway that has ended so often since it was started will not get ready.
_MAX_RESTARTS = 3
_LOG_LINES = 30
_MAX_ANSWER = 8 << 20


class GatewayContainer(EngineStopper):
    """The gateway of one bot; a :class:`..promotion.gateway.GatewayControl`.

    :param definition: file with the role's ``host_container``; it follows what is made here.
    :param approved: checkout whose top-level workspace entries are mounted.
    :param lockfile: nothing is started while it exists.
    :param port: on 127.0.0.1, where the proxy hands on to the gateway.
    :param stop_seconds: that the gateway gets to end before it is killed.
    """

    def __init__(
        self,
        bot: str,
        *,
        definition: Path,
        approved: Path,
        lockfile: Path,
        port: int,
        stop_seconds: int,
        path: str = SOCKET,
    ) -> None:
        super().__init__(path, _ENGINE_SECONDS + stop_seconds)
        self._bot = bot
        self._name = f"clawfactory-{bot}-gateway"
        self._definition = definition
        self._approved = approved
        self._lockfile = lockfile
        self._port = port
        self._stop_seconds = stop_seconds

    def running(self) -> bool:
        """Whether it runs, or is about to by its restart policy.

        :raises Conflict: there is none.
        """
        found = self._inspect(self._name) or self._inspect(self._next)
        if found is None:
            raise Conflict(f"{self._bot} has no container {self._name}; run: ansible-playbook site.yml -l {self._bot}")
        return found["State"]["Status"] in ("running", "restarting", "paused")

    def restart(self) -> None:
        """Stop it, end the bot's sandboxes, which hold the mounts of before, and start it."""
        self._complete()
        self._stop()
        self._start()

    def stop(self) -> None:
        """Stop it, and end the bot's sandboxes: nothing of the bot writes to its state after this."""
        self._complete()
        self._stop()

    def start(self) -> None:
        """Start it.

        :raises Conflict: the bot is locked.
        """
        self._start()

    def recreate(self, entries: Iterable[Mapping[str, str]], *, start: bool) -> None:
        """Stop it, end the bot's sandboxes, and make it anew from its own configuration with the mounts of ``entries``.

        :raises CoreError: the engine refuses; if it refused the new one, the old one is still there.
        """
        self._complete()
        live = self._inspect(self._name)
        if live is None:
            raise Conflict(f"{self._bot} has no container {self._name}; run: ansible-playbook site.yml -l {self._bot}")
        definition = self._read_definition()
        known = definition is not None and live["Config"]["Labels"].get(SPEC_LABEL) == spec_digest(definition)
        workspace = self._workspace(live)
        mounts = entry_mounts(entries, str(self._approved), workspace)
        wanted = with_entry_mounts(definition, mounts, str(self._approved)) if definition is not None else {}
        # One that was not made from this definition has to be made anew by its role, whatever we do.
        label = spec_digest(wanted) if known else "unknown"
        self._create(recreated(live, mounts, str(self._approved), label))
        self._stop()
        if known:
            text = json.dumps(wanted, indent=4, sort_keys=True)  # as the role's to_nice_json
            write_atomic(self._definition, text.encode())
        self._send("DELETE", f"/containers/{quote(self._name)}?force=true", None, {204, 404})
        self._complete()
        if start:
            self._start()

    def ready(self, seconds: float) -> bool:
        """Wait until it answers through its proxy that it is ready.

        :returns: whether it did within ``seconds``; false at once when it keeps ending, or the bot is locked.
        """
        deadline = time.monotonic() + seconds
        looked = time.monotonic()
        while not self._answers():
            now = time.monotonic()
            if now >= deadline or os.path.lexists(self._lockfile):
                return False
            if now - looked >= 1:
                looked = now
                found = self._inspect(self._name)
                if found is None or found.get("RestartCount", 0) >= _MAX_RESTARTS:
                    return False
            time.sleep(0.1)
        return True

    def last_words(self) -> str:
        """The last lines of its log; empty if there are none to be had."""
        try:
            raw = self._read(f"/containers/{quote(self._name)}/logs?stdout=true&stderr=true&tail={_LOG_LINES}")
        except CoreError:
            return ""  # what matters is the failure that they were to explain
        return demultiplexed(raw).decode("utf-8", "replace").strip()

    @property
    def _next(self) -> str:
        return f"{self._name}-next"

    def _inspect(self, name: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.get(f"/containers/{quote(name)}/json")
        return found

    def _complete(self) -> None:
        """Bring a crash in the middle of :meth:`recreate` to its end: the new one takes the name, or goes."""
        if self._inspect(self._next) is None:
            return
        if self._inspect(self._name) is None:
            self._send("POST", f"/containers/{quote(self._next)}/rename?name={quote(self._name)}", None, {204})
        else:
            self._send("DELETE", f"/containers/{quote(self._next)}?force=true", None, {204, 404})

    def _stop(self) -> None:
        """In this order, or it would make new sandboxes."""
        self._send("POST", f"/containers/{quote(self._name)}/stop?t={self._stop_seconds}", None, {204, 304, 404})
        self.end_sandboxes(self._bot)

    def _start(self) -> None:
        lock = read_lock_at(self._lockfile, self._bot)
        if lock is not None:
            raise Conflict(f"{lock.refusal}; its gateway is not started")
        self._send("POST", f"/containers/{quote(self._name)}/start", None, {204, 304})
        lock = read_lock_at(self._lockfile, self._bot)
        if lock is not None:  # between the look and the start
            self.stop_for_good(self._name)
            raise Conflict(f"{lock.refusal}; its gateway was just started, and has been stopped")

    def _create(self, body: Mapping[str, Any]) -> None:
        self._send("POST", f"/containers/create?name={quote(self._next)}", body, {201})

    def _read_definition(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self._definition.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _workspace(self, live: Mapping[str, Any]) -> str:
        """Where the workspace is in the container: the mount whose source is the live one."""
        source = str(self._approved.parent / "state" / "workspace")
        for mount in live["HostConfig"].get("Mounts") or []:
            if mount["Source"] == source:
                return str(mount["Target"])
        raise Conflict(f"{self._name} does not mount {source}; run: ansible-playbook site.yml -l {self._bot}")

    def _answers(self) -> bool:
        try:
            return ready_status(self._port, 5.0) == 200
        except OSError:
            return False

    def _read(self, path: str) -> bytes:
        connection = _UnixConnection(self._path, self._timeout)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            data = response.read(_MAX_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnavailable(f"the Docker engine does not answer on {self._path}: {error}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise CoreError(f"the Docker engine answered {response.status} to GET {path}")
        return data


def with_entry_mounts(
    definition: Mapping[str, Any], mounts: Iterable[Mapping[str, Any]], approved: str
) -> dict[str, Any]:
    """A role's ``host_container`` with other mounts of approved entries; they come last, as the role has them."""
    kept = [mount for mount in definition.get("mounts", []) if not _is_entry(mount["source"], approved)]
    return {**definition, "mounts": [*kept, *mounts]}


def recreated(
    live: Mapping[str, Any], mounts: Iterable[Mapping[str, Any]], approved: str, label: str
) -> dict[str, Any]:
    """What to ask the engine for, to get the container again that it describes, with other mounts of approved entries.

    :param live: as ``docker inspect`` says it.
    :param label: value of the label ``clawfactory.spec``.
    """
    kept = [mount for mount in live["HostConfig"].get("Mounts") or [] if not _is_entry(mount["Source"], approved)]
    new = [
        {"Type": mount["type"], "Source": mount["source"], "Target": mount["target"], "ReadOnly": mount["read_only"]}
        for mount in mounts
    ]
    own_names = {live["Id"][:12], live["Name"].lstrip("/")}
    networks = {
        name: {
            "IPAMConfig": endpoint.get("IPAMConfig"),
            "Aliases": [alias for alias in endpoint.get("Aliases") or [] if alias not in own_names],
        }
        for name, endpoint in (live["NetworkSettings"].get("Networks") or {}).items()
    }
    config = {**live["Config"], "Labels": {**(live["Config"].get("Labels") or {}), SPEC_LABEL: label}}
    return {
        **config,
        "HostConfig": {**live["HostConfig"], "Mounts": [*kept, *new]},
        "NetworkingConfig": {"EndpointsConfig": networks},
    }


def _is_entry(source: str, approved: str) -> bool:
    return source.startswith(f"{approved}/workspace/")
