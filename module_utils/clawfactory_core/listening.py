"""Which TCP ports of a machine are taken, and by whom."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import Conflict

_COMMAND_BYTES = 4096


def check_ports_free(
    allocation: Mapping[str, Any], before: Mapping[str, Any] | None, listening: Mapping[str, str]
) -> None:
    """:raises Conflict: a port the bot is about to get is held by another process."""
    own = allocation["addresses"]["proxy_edge"]
    for variable in ("gateway_port", "controller_port"):
        port = allocation[variable]
        owner = listening.get(str(port))
        if owner is None or (before or {}).get(variable) == port:
            continue
        if f"-container-ip {own} " in f"{owner} ":
            continue  # Docker's own forwarder for this bot
        raise Conflict(
            f"{allocation['name']}: {variable} {port} is in use by {owner.split(' ')[0] or 'another process'}; stop it "
            f"or set another {variable} for {allocation['name']} in the inventory"
        )


def listening_ports() -> dict[str, str]:
    """TCP ports in state LISTEN, and the command line of the process when it can be seen (else empty)."""
    inodes: dict[str, str] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == "0A":
                inodes[fields[9]] = str(int(fields[1].rsplit(":", 1)[1], 16))
    owners = _socket_owners(set(inodes))
    ports: dict[str, str] = {}
    for inode, port in inodes.items():
        ports[port] = owners.get(inode) or ports.get(port, "")
    return ports


def _socket_owners(wanted: set[str]) -> dict[str, str]:
    owners: dict[str, str] = {}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            links = [_link(entry.path) for entry in os.scandir(process / "fd")]
            # Bounded: a process may call anything its command line, also what makes memory as it is read.
            with (process / "cmdline").open("rb", buffering=0) as handle:
                command = (handle.read(_COMMAND_BYTES) or b"").replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            continue  # the process ended, or is not ours to look at
        for link in links:
            if link.startswith("socket:[") and link[8:-1] in wanted:
                owners[link[8:-1]] = command
    return owners


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""  # closed in the meantime; the process still has its others
