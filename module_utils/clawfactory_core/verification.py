"""Whether a running bot is as isolated as it should be: judged from outside, by the kernel and the engine.

A probe is run by the bot's own OpenClaw as its tool. What it prints comes from hostile territory and can only make the
verdict worse. What counts is which container the kernel says its process is in, and how the engine says it was made.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .refusal import Answer
from .way_out import WayOut

_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
_NO_CAPABILITY = "0" * 16
_FORBIDDEN = 403
# As the broker names what it refuses (broker_app/models.py).
_PRIVILEGED = "refused by the broker: HostConfig.Privileged"


@dataclass(frozen=True)
class Check:
    """One line of the table."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Process:
    """A process as the kernel has it.

    :param container: id of the container its cgroup belongs to, empty if none.
    :param interfaces: of its network namespace.
    :param read_only: targets of mounts in its namespace to whether they are read-only.
    """

    pid: int
    container: str
    uids: frozenset[int]
    capabilities: frozenset[str]
    no_new_privileges: bool
    interfaces: frozenset[str]
    read_only: Mapping[str, bool]


def probe_command(mark: str, entry: str, targets: Iterable[tuple[str, int]]) -> str:
    """Shell command for the bot's tool: tries what must not work, then waits as a process that can be found.

    Nothing is destroyed where an attempt succeeds: files are opened for appending, and renamed to and fro.

    :param mark: argument of the ``sleep`` it ends with.
    :param entry: a name in the approved workspace, empty if there is none.
    :param targets: addresses and ports that must not answer.
    """
    lines = ['echo "uid=$(id -u) host=$(hostname)"']
    if entry:
        quoted = shlex.quote(entry)
        lines.append(
            f'for d in /workspace /agent; do f=$d/{quoted}; test -e "$f" || continue; echo approved=$d; '
            "n=$f/.clawfactory-verify; "
            'if test -d "$f"; then touch "$n" 2>/dev/null && echo broken=write && rm -f "$n"; '
            'else (: >> "$f") 2>/dev/null && echo broken=write; fi; '
            'chmod 0777 "$f" 2>/dev/null && echo broken=chmod; '
            'mv "$f" "$f.clawfactory-verify" 2>/dev/null && echo broken=rename && mv "$f.clawfactory-verify" "$f"; done'
        )
    for host, port in targets:
        reach = f"timeout 3 bash -c ': < /dev/tcp/{host}/{port}' 2>/dev/null && echo reached={host}:{port}"
        lines.append(f"({reach}) &")
    lines.append("command -v bash >/dev/null && echo tried=network; wait")
    lines.append(f"sleep {mark}")
    return "\n".join(lines)


def find_processes(proc: Path, command: list[str]) -> list[Process]:
    """All processes of the machine whose command line is exactly ``command``; those that end meanwhile are left out."""
    wanted = b"".join(part.encode() + b"\0" for part in command)
    found = []
    for directory in proc.iterdir():
        if not directory.name.isdigit():
            continue
        try:
            # Bounded: a process may call anything its command line, also what makes memory as it is read.
            with (directory / "cmdline").open("rb", buffering=0) as handle:
                is_wanted = handle.read(len(wanted) + 1) == wanted
            if is_wanted:
                found.append(read_process(directory))
        except OSError:
            continue
    return found


def read_process(directory: Path) -> Process:
    """A process by its directory in ``/proc`` (man 5 proc).

    :raises OSError: it has ended.
    """
    # Not splitlines: the name of a process, which comes first, may have what that takes for the end of a line.
    lines = (directory / "status").read_text(errors="replace").split("\n")
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    devices = (directory / "net" / "dev").read_text(errors="replace").splitlines()[2:]
    ids = _CONTAINER_ID.findall((directory / "cgroup").read_text(errors="replace"))
    mounts = {}
    for line in (directory / "mountinfo").read_text(errors="surrogateescape").split("\n")[:-1]:
        fields = line.split(" ")
        mounts[_unescaped(fields[4])] = "ro" in fields[5].split(",")
    return Process(
        pid=int(directory.name),
        # Of nested engines the innermost one made the container.
        container=ids[-1] if ids else "",
        uids=frozenset(int(uid) for uid in status["Uid"].split()),
        capabilities=frozenset(status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")),
        no_new_privileges=status.get("NoNewPrivs", "").strip() == "1",
        interfaces=frozenset(line.split(":", 1)[0].strip() for line in devices),
        read_only=mounts,
    )


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def judge_sandbox(
    bot: Mapping[str, Any], processes: list[Process], containers: Mapping[str, Mapping[str, Any]], network: str | None
) -> list[Check]:
    """Where the probe's processes were.

    :param bot: as by :func:`..allocation.describe`.
    :param processes: every process of the machine that carried the probe's mark.
    :param containers: ``docker inspect`` by id.
    :param network: the network that sandboxes may have.
    """
    name = "a tool of the bot runs in a sandbox"
    if not processes:
        return [Check(name, False, "no process of the probe was seen on the machine")]
    checks = []
    for process in processes:
        container = containers.get(process.container, {})
        labels = (container.get("Config") or {}).get("Labels") or {}
        shown = str(container.get("Name", "")).lstrip("/") or "no container of this engine"
        inside = (
            labels.get("clawfactory.bot") == bot["name"]
            and labels.get("clawfactory.service") == "sandbox"
            and shown.startswith(f"clawfactory-{bot['name']}-sbx-")
        )
        checks.append(Check(name, inside, f"the kernel has it in {shown}"))
        if not inside:
            continue
        checks += [
            Check(
                "the sandbox has no powers",
                process.uids == {bot["gateway_uid"]}
                and process.capabilities == {_NO_CAPABILITY}
                and process.no_new_privileges
                and process.read_only.get("/", False),
                f"uid {', '.join(map(str, sorted(process.uids)))}, no capability, no new privileges, read-only root"
                if process.capabilities == {_NO_CAPABILITY} and process.no_new_privileges
                else f"uid {sorted(process.uids)}, capabilities {sorted(process.capabilities)}",
            ),
            _sandbox_mounts(bot, container),
            _sandbox_network(container, process, network),
        ]
    return checks


def _sandbox_mounts(bot: Mapping[str, Any], container: Mapping[str, Any]) -> Check:
    state, approved = f"{bot['paths']['state']}/", f"{bot['paths']['approved']}/"
    wrong = [
        mount["Source"] if mount.get("Source") else str(mount.get("Type"))
        for mount in container.get("Mounts") or []
        if mount.get("Type") != "bind"
        or not (mount["Source"].startswith(state) or (mount["Source"].startswith(approved) and not mount["RW"]))
    ]
    detail = f"also {', '.join(wrong)}" if wrong else "only the bot's own directories, approved files read-only"
    return Check("the sandbox sees nothing else of the machine", not wrong, detail)


def _sandbox_network(container: Mapping[str, Any], process: Process, network: str | None) -> Check:
    live = set(((container.get("NetworkSettings") or {}).get("Networks")) or {})
    name = "the sandbox has no other network"
    if network is None:
        return Check(
            name, live <= {"none"} and process.interfaces <= {"lo"}, f"interfaces: {_listed(process.interfaces)}"
        )
    return Check(name, live == {network}, f"networks: {_listed(live)}")


def judge_answer(tool: str, entry: str) -> list[Check]:
    """What the probe itself says of its attempts: a success among them is a hole, whoever says it."""
    said = [line.strip() for line in tool.splitlines()]
    broken = [line.removeprefix("broken=") for line in said if line.startswith("broken=")]
    reached = [line.removeprefix("reached=") for line in said if line.startswith("reached=")]
    tried = "tried=network" in said
    checks = []
    if entry:
        where = [line.removeprefix("approved=") for line in said if line.startswith("approved=")]
        text = (
            f"{entry} in {', '.join(where)}: write, chmod and rename refused"
            if where
            else "the sandbox does not see them"
        )
        checks.append(
            Check(
                "a sandbox cannot change approved files",
                tried and not broken,
                f"possible: {_listed(broken)}" if broken else text,
            )
        )
    text = f"reached: {_listed(reached)}" if reached else "gateway, machine, metadata and internet do not answer"
    checks.append(
        Check(
            "a sandbox reaches nobody",
            tried and not reached,
            text if tried else "the sandbox's image lacks bash: not tried",
        )
    )
    return checks


def judge_gateway(
    bot: Mapping[str, Any], process: Process, container: Mapping[str, Any], entries: Iterable[str]
) -> list[Check]:
    """The gateway's own container: hardened, on one network, approved files read-only for the kernel."""
    host = container["HostConfig"]
    hard = (
        host["ReadonlyRootfs"] is True
        and host["Privileged"] is False
        and host["CapDrop"] == ["ALL"]
        and not host["CapAdd"]
        and process.capabilities == {_NO_CAPABILITY}
        and process.no_new_privileges
        and process.uids == {bot["gateway_uid"]}
    )
    networks = set(container["NetworkSettings"]["Networks"] or {})
    inside, uids = bot["networks"]["inside"]["name"], _listed(map(str, process.uids))
    workspace = "/home/node/.openclaw/workspace"
    writable = [entry for entry in entries if not process.read_only.get(f"{workspace}/{entry}", False)]
    return [
        Check(
            "the gateway has no powers", hard, f"uid {uids}, read-only root, no capability" if hard else "see inspect"
        ),
        Check("the gateway has one network, without a way out", networks == {inside}, _listed(networks)),
        Check(
            "approved files are read-only in the gateway",
            not writable,
            f"not so: {_listed(writable)}" if writable else "each is a read-only mount, for the kernel too",
        ),
    ]


def judge_engine(bot: str, containers: Iterable[Mapping[str, Any]]) -> list[Check]:
    """Who holds the engine's socket, and whether the broker is as closed as it should be."""
    holders, broker = [], None
    for container in containers:
        labels = container["Config"].get("Labels") or {}
        if labels.get("clawfactory.bot") != bot:
            continue
        if labels.get("clawfactory.service") == "broker":
            broker = container
        if any(_is_socket(str(mount.get("Source", ""))) for mount in container.get("Mounts") or []):
            holders.append(container["Name"].lstrip("/"))
    name = f"clawfactory-{bot}-broker"
    checks = [
        Check(
            "the engine's socket is in the broker alone", holders == [name], _listed(holders) or "no container has it"
        )
    ]
    if broker is not None:
        host = broker["HostConfig"]
        closed = (
            host["NetworkMode"] == "none" and host["ReadonlyRootfs"] is True and host["CapDrop"] == ["ALL"]
            and host["Privileged"] is False and broker["State"]["Running"] is True
        )  # fmt: skip
        checks.append(Check("the broker has no network and no powers", closed, f"network {host['NetworkMode']}"))
    return checks


def _is_socket(source: str) -> bool:
    # What lies above the socket would hold it as well.
    return source in ("/", "/run", "/var", "/var/run") or source.endswith(("/docker.sock", "/containerd.sock"))


def _listed(items: Iterable[str]) -> str:
    return ", ".join(sorted(items))


def table(checks: Iterable[Check]) -> list[str]:
    """Lines of a table with a header."""
    rows = [("check", "result", "detail")]
    rows += [(check.name, "ok" if check.ok else "FAILED", check.detail) for check in checks]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [f"{name.ljust(widths[0])}  {result.ljust(widths[1])}  {detail}" for name, result, detail in rows]


def judge_egress(tried: WayOut, found: Iterable[Mapping[str, Any]]) -> list[Check]:
    """The way out of the gateway.

    :param tried: from within its network, by this machine.
    :param found: checks of OpenClaw's own ``proxy validate``; they can only make the verdict worse, and an allowed host
        may be silent.
    """
    found = list(found)
    denied = [item for item in found if item.get("kind") == "denied"]
    open_ones = [str(item.get("url", "")) for item in denied if not item.get("ok")]
    open_ones += [
        f"{name} ({f'status {status}' if status else 'no answer of the proxy'})"
        for name, status in tried.answers.items()
        if status != _FORBIDDEN
    ]
    answering = [str(item.get("url", "")) for item in found if item.get("kind") == "allowed" and item.get("ok")]
    detail = f"refused: {len(denied) + len(tried.answers)}; allowed and answering: {_listed(answering) or 'none'}"
    return [
        Check(
            "the gateway reaches nobody past its proxy",
            not tried.reached,
            f"reached: {_listed(tried.reached)}" if tried.reached else "machine, metadata and internet do not answer",
        ),
        Check(
            "the gateway's way out is closed",
            bool(denied) and bool(tried.answers) and not open_ones,
            f"not refused: {_listed(open_ones)}" if open_ones else detail,
        ),
    ]


def judge_refusal(answer: Answer) -> Check:
    """What the broker said to whoever asked for a privileged container as the gateway; other reasons prove nothing."""
    refused = answer.status == _FORBIDDEN and _PRIVILEGED in answer.text
    said = f"{answer.status} {answer.text.strip()}"[:120] if answer.status else "no answer"
    return Check("the broker refuses a privileged container", refused, said)


def judge_mode(mode: str) -> Check:
    """Whether every session has its tools in a sandbox; the probe's is one of many."""
    details = {
        "all": "every session",
        "non-main": "the main session runs its tools in the gateway (gateway_sandbox_mode: non-main)",
    }
    return Check("all sessions are meant", mode == "all", details.get(mode, f"gateway_sandbox_mode: {mode}"))
