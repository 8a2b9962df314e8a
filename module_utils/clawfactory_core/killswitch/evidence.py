"""What ran when a bot was locked: taken while it is frozen, written down when it is dead.

Read from the kernel and the engine's log files alone, and bounded: what is not there in time is left out.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import time
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..files import write_atomic
from .containers import Container
from .processes import Process

#: All bots together.
SECONDS = 0.5
_LOG_BYTES = 32 << 10
_LOG_LINES = 60
_COMMAND_BYTES = 4096
_MAX_PROCESSES = 400
_MAX_CONNECTIONS = 400
_TABLES = ("tcp", "tcp6", "udp", "udp6")


def take(
    bot: str, containers: Iterable[Container], processes: Iterable[Process], deadline: float, proc: Path = Path("/proc")
) -> dict[str, Any]:
    """Look at a bot.

    :param deadline: of the monotonic clock; what comes after it is left out.
    """
    listed = list(processes)
    taken: dict[str, Any] = {"bot": bot, "time": _now(), "complete": True, "containers": []}
    for container in containers:
        if container.bot != bot:
            continue
        entry: dict[str, Any] = {"id": container.id, "name": container.name, "service": container.service}
        own = [process for process in listed if container.id in process.containers]
        if time.monotonic() < deadline:
            entry["processes"] = [_process(process, proc) for process in own[:_MAX_PROCESSES]]
            entry["processes_in_all"] = len(own)
            entry["connections"] = _connections(own[0].pid, proc) if own else []
            entry["log"] = _tail(container.log) if own else []
        else:
            taken["complete"] = False
        taken["containers"].append(entry)
    return taken


def evidence_path(root: Path, bot: str) -> Path:
    """Where evidence that is taken now goes."""
    return root / "audit" / "incidents.d" / bot / f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S.%fZ}.json"


def write(root: Path, bot: str, taken: dict[str, Any]) -> Path:
    """Write evidence down, for root alone.

    :raises OSError: nothing has been written.
    """
    path = evidence_path(root, bot)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(taken, indent=1) + "\n").encode(), mode=0o600)
    return path


def _process(process: Process, proc: Path) -> dict[str, Any]:
    directory = proc / str(process.pid)
    try:
        # No more than is kept: a process may call anything its command line, also what makes memory as it is read.
        with (directory / "cmdline").open("rb", buffering=0) as handle:
            command = (handle.read(_COMMAND_BYTES) or b"").replace(b"\0", b" ").decode("utf-8", "replace").strip()
        name = (directory / "comm").read_text(errors="replace").strip()
    except OSError:
        return {"pid": process.pid, "uid": process.uid, "ended": True}
    return {"pid": process.pid, "uid": process.uid, "name": name, "command": command}


def _connections(pid: int, proc: Path) -> list[dict[str, str]]:
    """Sockets of the network namespace of a process: protocol, addresses, state as the kernel numbers it."""
    found: list[dict[str, str]] = []
    for table in _TABLES:
        try:
            rows = (proc / str(pid) / "net" / table).read_text(errors="replace").splitlines()[1:]
        except OSError:
            continue  # it has ended, or the kernel lacks the protocol
        for row in rows[: _MAX_CONNECTIONS - len(found)]:
            fields = row.split()
            found.append(
                {"protocol": table, "local": _address(fields[1]), "remote": _address(fields[2]), "state": fields[3]}
            )
    return found


def _address(text: str) -> str:
    """``0100007F:1F90`` of the kernel's tables as ``127.0.0.1:8080``; words are in the byte order of this machine."""
    digits, port = text.split(":")
    words = [int(digits[index : index + 8], 16) for index in range(0, len(digits), 8)]
    raw = struct.pack(f"={len(words)}I", *words)
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    host = socket.inet_ntop(family, raw)
    return f"{host}:{int(port, 16)}" if family == socket.AF_INET else f"[{host}]:{int(port, 16)}"


def _tail(path: str) -> list[str]:
    """Last lines of a container's log, printable."""
    if not path:
        return []
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    with os.fdopen(descriptor, "rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        handle.seek(max(0, size - _LOG_BYTES))
        lines = handle.read(_LOG_BYTES).decode("utf-8", "replace").split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    if size > _LOG_BYTES:
        lines = lines[1:]  # cut short at its start
    return [re.sub(r"[^ -~]", "?", _said(line)) for line in lines[-_LOG_LINES:]]


def _said(line: str) -> str:
    """A line of the engine's ``json-file`` log as ``TIME TEXT``."""
    try:
        entry = json.loads(line)
        return f"{entry['time']} {str(entry['log']).rstrip()}"
    except (ValueError, TypeError, KeyError, RecursionError):
        return line


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
