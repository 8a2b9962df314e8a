"""From where the operator came, so that a machine that is cut off as a whole still lets them in."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

_DEPTH = 64


@dataclass(frozen=True)
class Session:
    """The operator's SSH session.

    :param address: theirs.
    :param port: of this machine.
    """

    address: str
    port: int


def find_session(proc: Path = Path("/proc"), pid: int | None = None) -> Session | None:
    """The SSH session this process was started in, however many shells and ``sudo`` are between; ``None`` for none."""
    current = pid or os.getpid()
    for _ in range(_DEPTH):
        process = proc / str(current)
        try:
            environment = (process / "environ").read_bytes()
            parent = int((process / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            return None
        for entry in environment.split(b"\0"):
            if entry.startswith(b"SSH_CONNECTION="):
                session = parse_session(entry.partition(b"=")[2].decode("ascii", "replace"))
                if session is not None:
                    return session
        if parent <= 1:
            return None
        current = parent
    return None


def parse_session(text: str) -> Session | None:
    """``SSH_CONNECTION``: the client's address and port, the server's address and port."""
    fields = text.split()
    if len(fields) != 4 or not fields[3].isdigit():
        return None
    try:
        address = ipaddress.ip_address(fields[0].partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return Session(str(address), int(fields[3]))
