"""Directories and firewall file of a machine and of each bot on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .allocation import (
    AllocationPlan,
    AllocationRequest,
    allocation_lock,
    describe,
    plan_allocation,
    read_allocations,
    record_allocation,
    release_allocation,
)
from .files import FileSpec, FilesPlan, apply_files, plan_files
from .firewall import render_table


def machine_specs(root: Path, pool: str, bots: Mapping[str, Mapping[str, Any]]) -> list[FileSpec]:
    """Wanted state of everything that belongs to the machine.

    :param bots: entries of ``allocations.json``.
    """
    # Below root, not root's own parents: 0755 so that containers' users reach their files through bind mounts only.
    public = (
        "", "bot_repos", "snapshots", "promotion", "egress", "proxy", "broker", "run", "locks", "build", "firewall",
        "disk",
    )  # fmt: skip
    private = ("audit", "secrets", "jobs")
    firewall = [
        {"bridges": _bridges(describe(root, bot, pool, entry)), "host_ports": entry.get("host_ports", [])}
        for bot, entry in sorted(bots.items())
    ]
    return [
        *(_directory(root / name, 0o755) for name in public),
        *(_directory(root / name, 0o700) for name in private),
        FileSpec(root / "firewall" / "clawfactory.nft", content=render_table(firewall), owner=0, group=0, mode=0o644),
    ]


def bot_specs(bot: Mapping[str, Any]) -> list[FileSpec]:
    """Wanted directories of one bot.

    :param bot: as returned by :func:`..allocation.describe`.
    """
    paths = {key: Path(path) for key, path in bot["paths"].items()}
    gateway, controller, proxy = bot["gateway_uid"], bot["controller_uid"], bot["proxy_uid"]
    broker = bot["broker_uid"]
    return [
        _directory(paths["bot"], 0o755),
        _directory(paths["state"], 0o700, gateway),
        _directory(paths["state"] / "workspace", 0o700, gateway),
        _directory(paths["egress"], 0o755),
        _directory(paths["proxy"], 0o755),
        _directory(paths["operator"].parent, 0o755),
        # The controller makes the socket, the proxy alone may connect to it.
        FileSpec(paths["operator"], state="directory", owner=controller, group=proxy, mode=0o2750),
        _directory(paths["broker"], 0o755),
        # The broker makes a socket for each client, and each client alone sees its own.
        FileSpec(paths["broker_gateway"], state="directory", owner=broker, group=gateway, mode=0o2750),
        FileSpec(paths["broker_controller"], state="directory", owner=broker, group=controller, mode=0o2750),
        _directory(paths["audit"], 0o700, broker),
        _directory(paths["snapshots"], 0o700, controller),
        # What is decided about the bot: only the machine writes it, the controller shows it.
        FileSpec(paths["promotion"], state="directory", owner=0, group=controller, mode=0o750),
        FileSpec(paths["promotion"] / "denied", state="directory", owner=0, group=controller, mode=0o750),
        _directory(paths["jobs"], 0o700),
        # The machine makes the socket, the controller alone may connect to it.
        FileSpec(paths["jobs_socket"], state="directory", owner=0, group=controller, mode=0o2750),
    ]


def plan_layout(request: AllocationRequest) -> tuple[AllocationPlan, FilesPlan]:
    """A bot's slot and the paths that differ; reads only."""
    slot = plan_allocation(request)
    return slot, _files(request, slot)


def apply_layout(request: AllocationRequest) -> tuple[AllocationPlan, FilesPlan]:
    """Record the slot and make the paths, under the machine's lock: its bots share the firewall file."""
    request.root.mkdir(mode=0o755, parents=True, exist_ok=True)
    with allocation_lock(request.root):
        slot = record_allocation(request)
        files = _files(request, slot)
        apply_files(files)
        return slot, files


def release_layout(root: Path, pool: str, bot: str) -> bool:
    """Give a bot's slot back and take it out of the firewall file (purge).

    :returns: whether the bot had a slot.
    """
    with allocation_lock(root):
        released = release_allocation(root, bot)
        apply_files(plan_files(machine_specs(root, pool, read_allocations(root))))
        return released


def _files(request: AllocationRequest, slot: AllocationPlan) -> FilesPlan:
    bots = {**read_allocations(request.root), request.bot: slot.entry}
    return plan_files([*machine_specs(request.root, request.pool, bots), *bot_specs(slot.description)])


def _directory(path: Path, mode: int, owner: int = 0) -> FileSpec:
    return FileSpec(path, state="directory", owner=owner, group=owner, mode=mode)


def _bridges(bot: Mapping[str, Any]) -> dict[str, str]:
    bridges = {kind: network["bridge"] for kind, network in bot["networks"].items()}
    return {**bridges, "sandbox": bot["sandbox_network"]["bridge"]}
