"""Restart policies: through the engine if it answers, in its files if it does not.

Whether an engine runs is asked of its process, never of its socket: where systemd listens on that for it, a question to
a stopped engine would start it, and with it every container that has a restart policy.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..adapters.engine_socket import SOCKET, _UnixConnection
from ..errors import CoreError
from .containers import Container, EngineFiles

ANSWERS, STOPPED, HANGS = "answers", "stopped", "hangs"
_PIDFILE = Path("/run/docker.pid")
_ANSWER_SECONDS = 1.0
#: For an engine that is busy: it changes nothing of a container that it is just starting or ending.
UPDATE_SECONDS = 5.0
_AT_ONCE = 8


@dataclass
class Policies:
    """What became of restart policies.

    :param engine: ``answers``, ``stopped`` or ``hangs``.
    :param set: names of the containers that have the wanted one now.
    :param problems: what did not work.
    :param pending: whether a running engine does not know all of them yet.
    """

    engine: str
    set: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    pending: bool = False


class Engine:
    """:param socket: the engine's. :param proc: ``/proc``. :param pidfile: the engine's own."""

    def __init__(self, socket: str = SOCKET, proc: Path = Path("/proc"), pidfile: Path = _PIDFILE) -> None:
        self._socket = socket
        self._proc = proc
        self._pidfile = pidfile

    def state(self) -> str:
        """Whether the engine answers, is stopped, or hangs; takes at most a second."""
        if not self._runs():
            return STOPPED
        try:
            return ANSWERS if self._ask("GET", "/_ping", None, _ANSWER_SECONDS)[0] == 200 else HANGS
        except OSError:
            return HANGS

    def set_policies(
        self, wanted: Mapping[Container, str], files: EngineFiles, seconds: float = UPDATE_SECONDS
    ) -> Policies:
        """Give containers restart policies; bounded in time whatever the engine does.

        :param seconds: for the engine's answer about one of them.
        """
        if not wanted:
            return Policies(self.state())
        done = Policies(self.state())
        if done.engine == ANSWERS:
            self._each(wanted, lambda container, policy: self._update(container, policy, seconds), done)
            return done
        # An engine that hangs has the old ones in memory, but the next one reads these.
        otherwise = {item: policy for item, policy in wanted.items() if files.policy(item) != policy}
        self._each(otherwise, files.set_policy, done)
        done.pending = done.engine == HANGS
        return done

    def _each(
        self, wanted: Mapping[Container, str], change: Callable[[Container, str], object], done: Policies
    ) -> None:
        def attempt(item: tuple[Container, str]) -> str:
            try:
                change(*item)
            except (OSError, ValueError, CoreError) as error:
                return f"restart policy of {item[0].name}: {error}"
            return ""

        from concurrent.futures import ThreadPoolExecutor  # it takes long to load, and the cut does not wait for it

        items: Sequence[tuple[Container, str]] = list(wanted.items())
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for (container, _), problem in zip(items, pool.map(attempt, items), strict=True):
                if problem:
                    done.problems.append(problem)
                    done.pending = True
                else:
                    done.set.append(container.name)

    def _update(self, container: Container, policy: str, seconds: float) -> None:
        body = {"RestartPolicy": {"Name": policy or "no"}}
        status, answer = self._ask("POST", f"/containers/{container.id}/update", body, seconds)
        if status not in (200, 404):  # 404: it is gone
            raise CoreError(f"the engine answered {status}: {answer[:200]!r}")

    def _ask(self, method: str, path: str, body: object, seconds: float) -> tuple[int, bytes]:
        connection = _UnixConnection(self._socket, seconds)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"} if text else {})
            response = connection.getresponse()
            return response.status, response.read()
        except http.client.HTTPException as error:
            raise OSError(f"the engine does not answer: {error}") from error
        finally:
            connection.close()

    def _runs(self) -> bool:
        """Whether there is an engine of this machine, and not only of a container on it."""
        try:
            pid = self._pidfile.read_text(errors="replace").strip()
        except OSError:
            pid = ""
        if pid.isdigit() and self._is_engine(pid):
            return True
        return any(self._is_engine(name) for name in os.listdir(self._proc) if name.isdigit())

    def _is_engine(self, pid: str) -> bool:
        process = self._proc / pid
        try:
            if (process / "comm").read_text(errors="replace").strip() != "dockerd":
                return False
            if (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] in "ZX":
                return False
            return os.readlink(process / "ns" / "pid") == os.readlink(self._proc / "self" / "ns" / "pid")
        except OSError:
            return False  # it has ended
