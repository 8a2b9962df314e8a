"""What a bot gets on its machine: a slot, and from it user ids, ports, subnets and paths.

A slot is given once and kept in ``allocations.json``, so that a bot keeps its ports and files' owners when another one
leaves the inventory. Docker's own address pools end after about thirty networks; hence explicit small subnets.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import names
from .errors import Conflict, CoreError, InvalidInput
from .files import write_atomic

SCHEMA = 1
#: OpenClaw uses up to 110 ports above the gateway's (docs/gateway/multiple-gateways.md), so gateways stay 120 apart.
GATEWAY_PORT, GATEWAY_STEP = 18789, 120
CONTROLLER_PORT = 8080
_UIDS = {
    "gateway_uid": 20001, "controller_uid": 30001, "proxy_uid": 40001, "egress_uid": 50001, "broker_uid": 55001,
}  # fmt: skip
_MAX_SLOTS = 256
_KEYS = {"slot", "gateway_port", "controller_port"}


@dataclass(frozen=True)
class AllocationRequest:
    """What is asked for.

    :param root: ``clawfactory_root`` of the machine.
    :param bot: name of the bot.
    :param pool: network in CIDR form of which each bot gets a /24.
    :param gateway_port: fixed port, ``None`` takes the slot's.
    :param controller_port: fixed port, ``None`` takes the slot's.
    :param host_ports: TCP ports of the machine itself that the bot's egress may reach, for example Ollama's.
    """

    root: Path
    bot: str
    pool: str
    gateway_port: int | None = None
    controller_port: int | None = None
    host_ports: tuple[int, ...] = ()


@dataclass
class AllocationPlan:
    """The slot a bot has or would get, and everything that follows from it (see :func:`describe`)."""

    request: AllocationRequest
    entry: dict[str, Any]
    before: dict[str, Any] | None

    @property
    def changed(self) -> bool:
        """Whether the machine has another entry, or none."""
        return self.entry != self.before

    @property
    def description(self) -> dict[str, Any]:
        """What follows from the slot; see :func:`describe`."""
        return describe(self.request.root, self.request.bot, self.request.pool, self.entry)


def read_allocations(root: Path) -> dict[str, dict[str, Any]]:
    """All bots that have a slot: ``{bot: {slot, gateway_port, controller_port}}``.

    :raises CoreError: the file is damaged or was written by a newer version.
    """
    path = root / "allocations.json"
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CoreError(f"{path} is not valid JSON ({error}); restore it from a backup") from error
    schema = data.get("schema") if isinstance(data, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise CoreError(f"{path} has schema {schema}, this version reads {SCHEMA}; update ClawFactory")
    bots: dict[str, dict[str, Any]] | None = data.get("bots") if schema == SCHEMA else None
    if not isinstance(bots, dict) or not all(
        isinstance(entry, dict) and set(entry) >= _KEYS for entry in bots.values()
    ):
        raise CoreError(f"{path} does not hold bots and their slots; restore it from a backup")
    return bots


def plan_allocation(request: AllocationRequest, taken: Mapping[str, dict[str, Any]] | None = None) -> AllocationPlan:
    """Find the bot's slot, or the lowest free one; reads only.

    :raises InvalidInput: the name, pool or a port is unusable.
    :raises Conflict: another bot of the machine has the port.
    """
    names.check_bot_name(request.bot)
    others = dict(read_allocations(request.root) if taken is None else taken)
    before = others.pop(request.bot, None)
    slot = before["slot"] if before else _free_slot(others)
    entry: dict[str, Any] = {
        "slot": slot,
        "gateway_port": _port(request, "gateway_port", GATEWAY_PORT + GATEWAY_STEP * slot),
        "controller_port": _port(request, "controller_port", CONTROLLER_PORT + slot),
        "host_ports": _host_ports(request),
    }
    _subnets(request.pool, slot)
    _refuse_shared_ports(request, entry, others)
    return AllocationPlan(request, entry, before)


def record_allocation(request: AllocationRequest) -> AllocationPlan:
    """Plan and write; the caller holds :func:`allocation_lock`, so that two bots never share a slot."""
    plan = plan_allocation(request)
    if plan.changed:
        bots = read_allocations(request.root)
        bots[request.bot] = plan.entry
        _write(request.root, bots)
    return plan


def release_allocation(root: Path, bot: str) -> bool:
    """Give a bot's slot back (purge); the caller holds :func:`allocation_lock`.

    :returns: whether the bot had one.
    """
    bots = read_allocations(root)
    if bots.pop(bot, None) is None:
        return False
    _write(root, bots)
    return True


@contextmanager
def allocation_lock(root: Path) -> Iterator[None]:
    """One writer per machine; waits for the other."""
    descriptor = os.open(root / "allocations.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(root: Path, bots: Mapping[str, dict[str, Any]]) -> None:
    text = json.dumps({"schema": SCHEMA, "bots": dict(sorted(bots.items()))}, indent=2) + "\n"
    write_atomic(root / "allocations.json", text.encode(), mode=0o644)


def _free_slot(others: Mapping[str, dict[str, Any]]) -> int:
    used = {entry["slot"] for entry in others.values()}
    free = next((slot for slot in range(_MAX_SLOTS) if slot not in used), None)
    if free is None:
        raise Conflict(f"this machine already has {_MAX_SLOTS} bots; put the new one on another machine")
    return free


def _port(request: AllocationRequest, variable: str, default: int) -> int:
    value = getattr(request, variable)
    port = default if value is None else value
    if not 1 <= port <= 65535:
        raise InvalidInput(f"{request.bot}: {variable} is {port}; use a port between 1 and 65535")
    return int(port)


def _host_ports(request: AllocationRequest) -> list[int]:
    wrong = next((port for port in request.host_ports if not 1 <= port <= 65535), None)
    if wrong is not None:
        # One such number would keep the firewall of all bots from loading.
        raise InvalidInput(
            f"{request.bot}: port {wrong} of the machine is not between 1 and 65535; correct the base_url"
        )
    return sorted(set(request.host_ports))


def _refuse_shared_ports(
    request: AllocationRequest, entry: Mapping[str, Any], others: Mapping[str, dict[str, Any]]
) -> None:
    if entry["gateway_port"] == entry["controller_port"]:
        raise Conflict(f"{request.bot}: gateway_port and controller_port are both {entry['gateway_port']}; change one")
    for other, theirs in others.items():
        for variable in ("gateway_port", "controller_port"):
            if entry[variable] in (theirs["gateway_port"], theirs["controller_port"]):
                raise Conflict(
                    f"{request.bot}: {variable} {entry[variable]} belongs to bot {other!r} on this machine; "
                    f"set another {variable} for {request.bot} in the inventory"
                )


def _subnets(pool: str, slot: int) -> ipaddress.IPv4Network:
    try:
        network = ipaddress.IPv4Network(pool)
    except ValueError as error:
        raise InvalidInput(f"clawfactory_network_pool {pool!r} is not an IPv4 network ({error})") from error
    if network.prefixlen > 24 or slot >= 2 ** (24 - network.prefixlen):
        raise InvalidInput(f"clawfactory_network_pool {pool} has no /24 for bot number {slot + 1}; use a larger one")
    return ipaddress.IPv4Network((int(network.network_address) + 256 * slot, 24))


def describe(root: Path, bot: str, pool: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that follows from a bot's slot: ids, ports, networks, addresses, paths (all strings and ints)."""
    slot = int(entry["slot"])
    base = int(_subnets(pool, slot).network_address)

    def address(offset: int) -> str:
        return str(ipaddress.IPv4Address(base + offset))

    networks = {
        kind: {
            "name": names.network(bot, kind),
            "subnet": f"{address(start)}/{size}",
            "gateway": address(start + 1),
            "bridge": names.bridge(bot, kind),
            "internal": kind != "edge",
        }
        for kind, start, size in (("inside", 0, 28), ("edge", 16, 28), ("control", 32, 28), ("sandbox", 64, 26))
    }
    addresses = {
        "inside_gateway": address(1), "egress_inside": address(2), "gateway_inside": address(3),
        "proxy_inside": address(4), "controller_inside": address(5),
        "edge_gateway": address(17), "egress_edge": address(18), "proxy_edge": address(20),
        "control_gateway": address(33), "egress_control": address(34), "controller_control": address(37),
        "egress_sandbox": address(66),
    }  # fmt: skip
    return {
        "name": bot,
        **entry,
        **{variable: first + slot for variable, first in _UIDS.items()},
        # Made only for a bot whose sandboxes may reach its egress, but the firewall knows it from the start.
        "sandbox_network": networks.pop("sandbox"),
        "networks": networks,
        "addresses": addresses,
        "paths": _paths(root, bot),
    }


def _paths(root: Path, bot: str) -> dict[str, str]:
    repos = root / "bot_repos" / bot
    paths = {
        "root": root,
        "bot": repos,
        "approved": repos / "approved",
        "state": repos / "state",
        "config": repos / "config",
        "origin": repos / "origin.git",
        "proposals": repos / "proposals.git",
        "secrets": root / "secrets" / bot,
        "runtime_secrets": root / "secrets" / bot / "run",
        "egress": root / "egress" / bot,
        "proxy": root / "proxy" / bot,
        "broker": root / "broker" / bot,
        "operator": root / "run" / bot / "operator",
        "broker_gateway": root / "run" / bot / "broker-gateway",
        "broker_controller": root / "run" / bot / "broker-controller",
        "audit": root / "audit" / bot,
        "snapshots": root / "snapshots" / bot,
        "promotion": root / "promotion" / bot,
        "jobs": root / "jobs" / bot,
        "jobs_socket": root / "run" / bot / "jobs",
        "remote": root / "run" / bot / "remote",
        "lock": root / "locks" / bot,
    }
    return {key: str(path) for key, path in paths.items()}
