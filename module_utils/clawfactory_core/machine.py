"""One look at a machine: what it is, what runs on it, what is missing. Reads only, standard library only."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .adapters.engine_socket import EngineSocket, EngineUnavailable
from .allocation import describe, read_allocations
from .checkout import commit, small_text
from .disk import parse_limit, read_mark
from .errors import Conflict, CoreError, InvalidInput
from .files import FileSpec, digest, plan_files
from .layout import bot_specs, machine_specs
from .listening import listening_ports
from .locks import locked_bots, read_lock
from .remote_access import read_standing
from .secrets import generations, read_env
from .snapshots.journal import JOURNAL, is_unsettled
from .snapshots.schedule import describe_schedule
from .workspace import workspace_entries

BOT_LABEL = "clawfactory.bot"
SYSTEMS = ("debian", "ubuntu")
ARCHITECTURES = ("x86_64", "aarch64")
LOCAL_CA = Path("/usr/local/share/ca-certificates")
FIREWALL_TABLE = "clawfactory"
ENGINE_PROGRAM = "dockerd"
#: Programs of ours that run on the machine itself, as ``clawfactory-<name>``.
SERVICES = ("disk-watch", "jobs", "killswitch")


def describe_machine(
    root: Path, pool: str, commands: Iterable[str], engine: EngineSocket | None = None
) -> dict[str, Any]:
    """Facts of the machine.

    :param root: ``clawfactory_root``.
    :param pool: ``clawfactory_network_pool``.
    :param commands: programs that have to be in PATH, and libraries (``….so``); the absent ones are in
        ``missing_commands``, and so is the engine's own program where no engine answers: the client alone may be there.
    :returns: plain data; sizes in MiB, ports as ``{"18789": "process name"}``.
    """
    release = read_os_release(Path("/etc/os-release"))
    allocations = read_allocations(root)
    described_engine = describe_engine(engine or EngineSocket())
    wanted = [*commands] if described_engine["available"] else [*commands, ENGINE_PROGRAM]
    return {
        "os": release.get("ID", ""),
        "os_like": release.get("ID_LIKE", "").split(),
        "os_version": release.get("VERSION_ID", ""),
        "os_codename": release.get("VERSION_CODENAME", ""),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "init": "systemd" if Path("/run/systemd/system").is_dir() else "none",
        "memory_mb": _memory_mb(),
        "disk_free_mb": _disk_free_mb(root),
        "missing_commands": [name for name in wanted if not _is_installed(name)],
        "venv": small_text(root / "venv" / ".clawfactory-lock"),
        "ca_digest": ca_digest(LOCAL_CA),
        "allocations": allocations,
        "drift": layout_drift(root, pool, allocations),
        "locked": {bot: lock.to_dict() for bot in locked_bots(root) if (lock := read_lock(root, bot)) is not None},
        "approved": {path.parent.name: approved(path) for path in root.glob("bot_repos/*/approved")},
        "secrets": {path.name: describe_secrets(root, path.name) for path in root.glob("secrets/*") if path.is_dir()},
        "units": enabled_units(),
        "rendered": rendered_files(root),
        "remote_access": read_standing(root),
        "disk": describe_disk(root),
        "snapshots": {bot: run for bot in allocations if (run := describe_schedule(root, bot))},
        "services": {"digest": small_text(root / "lib" / ".digest"), "running": running_services(Path("/run"))},
        "firewall_bridges": firewall_bridges(),
        "listening": listening_ports(),
        "public_addresses": public_addresses(),
        "docker": described_engine,
    }


def check_machine(machine: Mapping[str, Any], minimum_memory_mb: int, minimum_disk_mb: int) -> None:
    """:raises InvalidInput: the machine cannot carry a bot; nothing has been changed."""
    if machine["os"] not in SYSTEMS and not set(machine["os_like"]) & set(SYSTEMS):
        raise InvalidInput(
            f"operating system {machine['os'] or 'unknown'!r} is not supported; "
            "use Debian 12 or later, or Ubuntu 22.04 or later"
        )
    if machine["architecture"] not in ARCHITECTURES:
        raise InvalidInput(
            f"architecture {machine['architecture']!r} is not supported; use {' or '.join(ARCHITECTURES)}"
        )
    if tuple(int(part) for part in machine["python"].split(".")[:2]) < (3, 10):
        raise InvalidInput(f"Python {machine['python']} is too old; set ansible_python_interpreter to 3.10 or later")
    if machine["memory_mb"] < minimum_memory_mb:
        raise InvalidInput(
            f"the machine has {machine['memory_mb']} MiB of memory, host_minimum_memory_mb asks for "
            f"{minimum_memory_mb}; use a larger machine or lower the variable (an OpenClaw gateway takes about 700 MiB)"
        )
    if machine["disk_free_mb"] < minimum_disk_mb:
        raise InvalidInput(
            f"{machine['disk_free_mb']} MiB are free below clawfactory_root, host_minimum_disk_mb asks for "
            f"{minimum_disk_mb}; free some space or lower the variable (the images take about 3 GiB)"
        )


def refuse_bot(bot: str, machine: Mapping[str, Any]) -> None:
    """:raises Conflict: the bot is locked, or its approved workspace cannot be bound into a container."""
    if bot in machine["locked"]:
        raise Conflict(machine["locked"][bot]["refusal"])
    problem = machine["approved"].get(bot, {}).get("error")
    if problem:
        raise Conflict(f"{bot}: {problem}")


def read_os_release(path: Path) -> dict[str, str]:
    """``/etc/os-release`` as a mapping (man 5 os-release)."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {key: value.strip("\"'") for key, _, value in pairs}


def _memory_mb() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def _disk_free_mb(root: Path) -> int:
    existing = next(path for path in (root, *root.parents) if path.exists())
    return shutil.disk_usage(existing).free // 2**20


def ca_digest(directory: Path) -> str:
    """Digest of the machine's own certificate authorities; empty when it has none."""
    files = sorted(directory.rglob("*.crt")) if directory.is_dir() else []
    if not files:
        return ""
    total = hashlib.sha256()
    for path in files:
        total.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def layout_drift(root: Path, pool: str, allocations: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Paths of the machine or its bots that are not as laid out."""
    bots = [describe(root, bot, pool, entry) for bot, entry in allocations.items()]
    specs = [*machine_specs(root, pool, allocations), *(spec for bot in bots for spec in bot_specs(bot))]
    # What a restore left that ended in the middle: settled where the layout is.
    states = [Path(bot["paths"]["state"]) for bot in bots]
    journals = [str(state.parent / JOURNAL) for state in states if is_unsettled(state)]
    return [str(spec.path) for spec in specs if _differs(spec)] + journals


def _differs(spec: FileSpec) -> bool:
    try:
        return plan_files([spec]).changed
    except InvalidInput:
        # A bot may put a link into its own state: that must not keep its neighbours, or 'stop', from working.
        return True


def _is_installed(name: str) -> bool:
    if not name.endswith(".so"):
        return shutil.which(name) is not None
    return any(Path("/usr/lib").glob(f"*-linux-gnu/{name}"))


def describe_secrets(root: Path, bot: str) -> dict[str, Any]:
    """Names (never values) that a bot's gateway file holds, and when the containers' copies were written. Whether it is
    what is wanted, ``secrets.settled_bots`` finds.
    """
    held = read_env(root / "secrets" / bot / "gateway.env")
    names = sorted(name for name, value in held.items() if value)
    return {"names": names, "generations": generations(root, bot), "settled": False}


_RENDERED = (
    "egress/*/*.conf", "proxy/*/*.conf", "broker/*/broker.json", "bot_repos/*/config/openclaw.json", "snapshots/*.json",
    "promotion/*/settings.json", "promotion/*/gateway.json", "secrets/*/rclone.*", "alerts/*.json",
    "remote_access/*",
)  # fmt: skip
_RENDERED_ELSEWHERE = (
    "systemd/system/clawfactory-snapshot-*",
    "systemd/system/clawfactory-offsite-*",
    "systemd/system/clawfactory-alerts-*",
    "systemd/system/clawfactory-tunnel.service",
    "cron.d/clawfactory-alerts-*",
    "cron.d/clawfactory-snapshot-*",
)


def rendered_files(root: Path, etc: Path = Path("/etc")) -> dict[str, dict[str, Any]]:
    """Digest, mode, owner and group of every configuration file that roles render, by path."""
    found = {}
    own = (path for pattern in _RENDERED for path in root.glob(pattern))
    for path in (*own, *(path for pattern in _RENDERED_ELSEWHERE for path in etc.glob(pattern))):
        if path.is_file() and not path.is_symlink():
            state = path.stat()
            found[str(path)] = {
                "sha256": digest(path.read_bytes()),
                "mode": f"{state.st_mode & 0o7777:04o}",
                "owner": state.st_uid,
                "group": state.st_gid,
            }
    return found


def describe_disk(root: Path) -> dict[str, Any]:
    """Disk limit of each bot, and why it was stopped (None: it was not)."""
    directory = root / "disk"
    limits = (parse_limit(path.read_text(), str(path)) for path in directory.glob("*.json"))
    return {
        limit.bot: {"limit": json.loads(limit.to_json()), "stopped": read_mark(directory, limit.bot)}
        for limit in limits
    }


def running_services(directory: Path) -> list[str]:
    """Our own services whose process of the pid file runs, where no init system says so."""
    pids = {name: small_text(directory / f"clawfactory-{name}.pid") for name in SERVICES}
    return [name for name, pid in pids.items() if pid.isdigit() and Path("/proc", pid).is_dir()]


def enabled_units() -> list[str]:
    """ClawFactory's systemd units that are enabled."""
    return sorted(path.name for path in Path("/etc/systemd/system").glob("*.wants/clawfactory-*"))


def approved(checkout: Path) -> dict[str, Any]:
    """Commit and workspace entries of an approved checkout; ``error`` says why it cannot be bound, ``complete`` whether
    the bot's repositories stand beside it.
    """
    complete = all((checkout.with_name(name) / "HEAD").exists() for name in ("origin.git", "proposals.git"))
    found = {"commit": commit(checkout), "entries": [], "error": "", "complete": complete}
    try:
        return {**found, "entries": workspace_entries(checkout)}
    except CoreError as error:
        return {**found, "error": str(error)}


def firewall_bridges() -> list[str]:
    """Bridges that the loaded nftables table isolates; empty when it is not loaded."""
    if shutil.which("nft") is None or os.geteuid() != 0:
        return []
    done = subprocess.run(
        ["nft", "list", "table", "inet", FIREWALL_TABLE], capture_output=True, text=True, timeout=10, check=False
    )
    return sorted(set(re.findall(r'"(cf[iecs]-[0-9a-f]{8})"', done.stdout))) if done.returncode == 0 else []


def public_addresses() -> list[str]:
    """The machine's own globally routable addresses; private ones are refused to bots anyway."""
    found = set()
    try:
        trie = Path("/proc/net/fib_trie").read_text()
        found |= set(re.findall(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL", trie))
        rows = Path("/proc/net/if_inet6").read_text().split("\n")
        found |= {str(ipaddress.IPv6Address(int(row.split()[0], 16))) for row in rows if row}
    except FileNotFoundError:
        pass  # a kernel without one of the two protocols
    return sorted(address for address in found if ipaddress.ip_address(address).is_global)


def describe_engine(engine: EngineSocket) -> dict[str, Any]:
    """Version of the engine and ClawFactory's objects on it, or why it does not answer."""
    try:
        version = engine.version()
        return {
            "available": True,
            "error": "",
            "version": version.get("Version", ""),
            "api_version": version.get("ApiVersion", ""),
            "images": engine.image_tags(),
            "networks": {item["Name"]: _network(item) for item in engine.networks(BOT_LABEL)},
            "containers": {item["Name"].lstrip("/"): _container(item) for item in engine.containers(BOT_LABEL)},
            "socket_group": engine.group(),
        }
    except EngineUnavailable as error:
        return {
            "available": False,
            "error": str(error),
            "version": "",
            "api_version": "",
            "images": {},
            "networks": {},
            "containers": {},
            "socket_group": 0,
        }


def _network(item: Mapping[str, Any]) -> dict[str, Any]:
    configuration = (item["IPAM"].get("Config") or [{}])[0]
    return {
        "subnet": configuration.get("Subnet", ""),
        "internal": item["Internal"],
        "bridge": (item.get("Options") or {}).get("com.docker.network.bridge.name", ""),
    }


def _container(item: Mapping[str, Any]) -> dict[str, Any]:
    """What Docker lets one change on a live container, plus the digest of all the rest (label ``clawfactory.spec``)."""
    host = item["HostConfig"]
    state = item["State"]
    labels = item["Config"].get("Labels") or {}
    return {
        "id": item["Id"],
        "bot": labels.get(BOT_LABEL, ""),
        "service": labels.get("clawfactory.service", ""),
        "spec": labels.get("clawfactory.spec", ""),
        "image": item["Config"]["Image"],
        "image_id": item["Image"],
        "status": state["Status"],
        "health": (state.get("Health") or {}).get("Status", ""),
        "started_at": state.get("StartedAt", ""),
        "restarts": item.get("RestartCount", 0),
        "restart_policy": host["RestartPolicy"]["Name"],
        "memory": host["Memory"],
        "nano_cpus": host["NanoCpus"],
        "pids_limit": host["PidsLimit"] or 0,
        "networks": {
            name: (entry.get("IPAMConfig") or {}).get("IPv4Address", "")
            for name, entry in (item["NetworkSettings"]["Networks"] or {}).items()
        },
    }
