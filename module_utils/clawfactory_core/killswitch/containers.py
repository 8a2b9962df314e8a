"""The bots' containers as the engine keeps them on disk: they are known also when no engine answers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import write_atomic

BOT_LABEL, SERVICE_LABEL = "clawfactory.bot", "clawfactory.service"
DAEMON_FILE = Path("/etc/docker/daemon.json")
DATA_ROOT = Path("/var/lib/docker")
_READ_BYTES = 4 << 20


@dataclass(frozen=True)
class Container:
    """One container.

    :param bot: the bot its label names, empty for one that is not ClawFactory's.
    :param service: its part, ``sandbox`` for a sandbox.
    :param log: file with what it said, if the engine keeps one.
    """

    id: str
    name: str
    bot: str
    service: str
    log: str


class EngineFiles:
    """:param data_roots: where engines may keep their data; ``None``: as their configuration says, and the default."""

    def __init__(self, data_roots: Iterable[Path] | None = None) -> None:
        self._roots = list(data_roots) if data_roots is not None else [*_configured_roots(DAEMON_FILE), DATA_ROOT]
        self._labels: dict[str, tuple[str, str, str, str]] = {}

    def containers(self) -> list[Container]:
        """All there are; one that is just being made or removed may be missing."""
        found = []
        for directory in self._directories():
            known = self._labels.get(directory.name) or self._read_labels(directory)
            if known is None:
                continue
            self._labels[directory.name] = known
            name, bot, service, log = known
            found.append(Container(directory.name, name, bot, service, log))
        return found

    def policy(self, container: Container) -> str:
        """A container's restart policy; empty for none, or if it is gone."""
        return next((_policy(path) for path in self._directories() if path.name == container.id), "")

    def is_active(self, container: Container) -> bool:
        """Whether the engine takes a container for running, or is about to start it again."""
        for directory in self._directories():
            if directory.name == container.id:
                state = (_read(directory / "config.v2.json") or {}).get("State")
                return isinstance(state, dict) and bool(state.get("Running") or state.get("Restarting"))
        return False

    def set_policy(self, container: Container, policy: str) -> None:
        """Write a container's restart policy where an engine that starts reads it.

        :raises OSError: the old one is still there.
        :raises ValueError: the file is not what an engine writes.
        """
        for directory in self._directories():
            if directory.name == container.id:
                path = directory / "hostconfig.json"
                data = json.loads(path.read_bytes())
                data["RestartPolicy"] = {"Name": policy or "no", "MaximumRetryCount": 0}
                write_atomic(path, json.dumps(data).encode())

    def _directories(self) -> list[Path]:
        found: dict[str, Path] = {}
        for root in self._roots:
            # With user namespaces the engine has its data below <uid>.<gid>.
            for parent in (root / "containers", *root.glob("[0-9]*.[0-9]*/containers")):
                try:
                    found |= {name: parent / name for name in os.listdir(parent) if len(name) == 64}
                except (FileNotFoundError, NotADirectoryError):
                    continue
        return [found[name] for name in sorted(found)]

    def _read_labels(self, directory: Path) -> tuple[str, str, str, str] | None:
        data = _read(directory / "config.v2.json")
        if data is None:
            return None
        configuration = data.get("Config")
        labels = configuration.get("Labels") if isinstance(configuration, dict) else None
        labels = labels if isinstance(labels, dict) else {}
        name = str(data.get("Name", "")).lstrip("/")
        return (
            name, str(labels.get(BOT_LABEL, "")), str(labels.get(SERVICE_LABEL, "")), str(data.get("LogPath") or "")
        )  # fmt: skip


def _policy(directory: Path) -> str:
    data = _read(directory / "hostconfig.json") or {}
    policy = data.get("RestartPolicy")
    name = str(policy.get("Name", "")) if isinstance(policy, dict) else ""
    return "" if name == "no" else name


def _read(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as handle:
            data = json.loads(handle.read(_READ_BYTES))
    except (OSError, ValueError):
        return None  # in the making, going, or damaged: its processes are still known by the bot's users
    return data if isinstance(data, dict) else None


def _configured_roots(daemon_file: Path) -> list[Path]:
    data = _read(daemon_file) or {}
    return [Path(data[key]) for key in ("data-root", "graph") if isinstance(data.get(key), str)]
