"""What an operator wants to know of a bot at a glance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from .locks import Lock

SERVICES = ("gateway", "proxy", "controller", "broker", "egress")
_COLUMNS = ("bot", "state", "version", "approved", "gateway", "controller", "restarts", "sandboxes", "snapshot", "lock")


def bot_status(bot: str, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of one bot.

    :param machine: facts by ``machine.describe_machine``.
    :returns: ``state`` is locked, absent, stopped, down, starting, unhealthy or healthy; ``snapshot`` is what the last
        scheduled one came to: verified, made, running or failed, empty if there was none yet.
    """
    own = [item for item in machine["docker"]["containers"].values() if item["bot"] == bot]
    containers = {item["service"]: item for item in own if item["service"] in SERVICES}
    entry = machine["allocations"].get(bot)
    gateway = containers.get("gateway")
    snapshot = machine["snapshots"].get(bot, {})
    return {
        "bot": bot,
        "state": _state(bot, machine, containers),
        "version": gateway["image"].rpartition(":")[2].split("-")[0] if gateway else "",
        "approved": machine["approved"].get(bot, {}).get("commit", ""),
        "gateway_url": f"http://127.0.0.1:{entry['gateway_port']}/" if entry else "",
        "controller_url": f"http://127.0.0.1:{entry['controller_port']}/" if entry else "",
        "restarts": gateway["restarts"] if gateway else 0,
        "lock": _lock(machine["locked"][bot]) if bot in machine["locked"] else "",
        "snapshot": snapshot.get("state", ""),
        "snapshot_time": snapshot.get("time", ""),
        "snapshot_problem": snapshot.get("problem", ""),
        "drift": _drift(bot, machine),
        "sandboxes": sum(1 for item in own if item["service"] == "sandbox"),
        "containers": {
            name: {key: containers[name][key] for key in ("status", "health", "image", "started_at", "restarts")}
            for name in SERVICES
            if name in containers
        },
    }


def _drift(bot: str, machine: Mapping[str, Any]) -> list[str]:
    """Paths of the bot's that are not as laid out."""
    return [path for path in machine.get("drift", ()) if bot in PurePosixPath(path).parts]


def _state(bot: str, machine: Mapping[str, Any], containers: Mapping[str, Mapping[str, Any]]) -> str:
    if bot in machine["locked"]:
        return "locked"
    if not machine["docker"]["available"]:
        return "down"
    if not containers:
        return "absent"
    running = [name for name in SERVICES if containers.get(name, {}).get("status") == "running"]
    if not running:
        return "stopped"
    if len(running) < len(SERVICES):
        return "down"
    health = [containers[name]["health"] for name in SERVICES if containers[name]["health"]]
    if "unhealthy" in health:
        return "unhealthy"
    return "starting" if "starting" in health else "healthy"


def _lock(lock: Mapping[str, str]) -> str:
    return Lock("", lock["actor"], lock["time"], lock["reason"]).told.removeprefix("locked ")


def unreachable(bot: str) -> dict[str, Any]:
    """Facts of a bot whose machine did not answer: whether it is locked is not known either."""
    return {**dict.fromkeys(_COLUMNS, ""), "bot": bot, "state": "unknown", "lock": "unknown"}


def table(statuses: Iterable[Mapping[str, Any]]) -> list[str]:
    """Lines of a table with a header, and one for each bot whose last scheduled snapshot failed."""
    problems = []
    rows = [dict(zip(_COLUMNS, _COLUMNS, strict=True))]
    for status in statuses:
        row = {column: str(status.get(column, "")) for column in _COLUMNS}
        row["approved"] = row["approved"][:12]
        row["gateway"], row["controller"] = str(status.get("gateway_url", "")), str(status.get("controller_url", ""))
        row["snapshot"] = f"{row['snapshot']} {status.get('snapshot_time', '')[:16]}".rstrip()
        rows.append(row)
        if status.get("snapshot_problem"):
            problems.append(f"{row['bot']}: the last scheduled snapshot failed: {status['snapshot_problem']}")
    widths = {column: max(len(row[column]) for row in rows) for column in _COLUMNS}
    lines = ["  ".join(row[column].ljust(widths[column]) for column in _COLUMNS).rstrip() for row in rows]
    return lines + problems
