"""The cut of a whole machine: ``<root>/locks/.machine`` says who, when, why, and whom it lets in."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InvalidInput
from ..files import write_atomic
from ..locks import read_data
from .network import Exceptions, parse_allowed
from .operator import Session

_SSH_PORT = 22


@dataclass(frozen=True)
class MachineLock:
    """:param allowed: who is let in, and where."""

    actor: str
    time: str
    reason: str
    allowed: Exceptions


def exceptions(allow: Iterable[str], session: Session | None, ports: Iterable[int] = ()) -> Exceptions:
    """Whom a cut of the machine lets in: the operator's session, and what they name.

    :raises InvalidInput: an address or port cannot be used.
    """
    addresses = parse_allowed([*allow, *([session.address] if session else [])])
    wanted = sorted({*ports, *([session.port] if session else [])}) or [_SSH_PORT]
    wrong = next((port for port in wanted if not 1 <= port <= 65535), None)
    if wrong is not None:
        raise InvalidInput(f"SSH port {wrong} is not between 1 and 65535")
    return Exceptions(addresses, tuple(wanted))


def read_machine(root: Path) -> MachineLock | None:
    """The cut of the machine; one that cannot be understood lets nobody in."""
    path = _path(root)
    if not os.path.lexists(path):
        return None
    data = read_data(path)

    def listed(key: str, kind: type) -> list[Any]:
        found = data.get(key)
        return [item for item in found if type(item) is kind] if isinstance(found, list) else []

    try:
        allowed = exceptions(listed("addresses", str), None, listed("ports", int))
    except InvalidInput:
        allowed = Exceptions()
    return MachineLock(str(data.get("actor", "")), str(data.get("time", "")), str(data.get("reason", "")), allowed)


def write_machine(root: Path, lock: MachineLock) -> None:
    """:raises OSError: it is not written down; a reboot would open the machine."""
    path = _path(root)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    data = {
        "actor": lock.actor,
        "time": lock.time,
        "reason": lock.reason,
        "addresses": list(lock.allowed.addresses),
        "ports": list(lock.allowed.ports),
    }
    write_atomic(path, (json.dumps(data, indent=1) + "\n").encode(), mode=0o600)


def remove_machine(root: Path) -> None:
    """Forget it; the rules are another matter."""
    _path(root).unlink(missing_ok=True)


def _path(root: Path) -> Path:
    return root / "locks" / ".machine"
