"""Runs the probe of :mod:`.verification` on a bot of this machine and looks at it from outside."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import verification
from .adapters.engine_socket import EngineSocket
from .errors import CoreError
from .refusal import Answer, try_privileged
from .sandbox_config import PROBE_MODEL, PROBE_PORT, PROBE_PROVIDER
from .verification import Check
from .way_out import WayOut, try_way_out
from .workspace import workspace_entries

#: Of the egress, inside.
PROXY_PORT = 3128
_CREATED = 201
#: A first turn may have to make a sandbox, on a busy machine.
TURN_SECONDS = 180.0
#: How long the probe's process can be seen, and how often it is looked for.
_SEEN_SECONDS, _LOOK_SECONDS = 4, 0.3


@dataclass(frozen=True)
class Turn:
    """A turn of the bot's OpenClaw with the probe for a model.

    :param processes: of the probe, as the kernel had them.
    :param tool: what the tool gave back.
    :param said: what OpenClaw's command line said last.
    """

    processes: list[verification.Process]
    tool: str
    said: str


def verify(root: Path, bot: Mapping[str, Any], probe: str, egress: list[Mapping[str, Any]]) -> list[Check]:
    """All checks of a running bot.

    :param root: ``clawfactory_root``.
    :param bot: as by :func:`..allocation.describe`.
    :param probe: text of ``roles/gateway/files/verify/probe.mjs``.
    :param egress: checks of ``openclaw proxy validate --json``.
    :raises CoreError: the engine does not answer, or the gateway does not run.
    """
    engine = EngineSocket()
    found = engine.containers("clawfactory.bot")
    gateway = next((item for item in found if item["Name"] == f"/clawfactory-{bot['name']}-gateway"), None)
    if gateway is None or not gateway["State"]["Running"]:
        raise CoreError(
            f"{bot['name']}: the gateway does not run; start the bot first (./clawfactory start {bot['name']})"
        )
    entries = [entry["name"] for entry in workspace_entries(Path(bot["paths"]["approved"]))]
    entry = next((name for name in entries if name.endswith(".md")), entries[0] if entries else "")
    sandbox = _sandbox_settings(Path(bot["paths"]["config"]) / "openclaw.json")
    mode = str(sandbox.get("mode", "off"))
    checks = [verification.judge_mode(mode)]
    if mode != "off":
        turn = _take_turn(bot["name"], probe, entry, _targets(bot))
        ids = {process.container for process in turn.processes if process.container}
        inspected = {each: engine.get(f"/containers/{each}/json") or {} for each in ids}
        network = sandbox.get("docker", {}).get("network", "none")
        judged = verification.judge_sandbox(bot, turn.processes, inspected, None if network == "none" else network)
        if not turn.processes:
            judged = [Check(judged[0].name, False, f"{judged[0].detail}; OpenClaw: {_last_words(turn.said)}")]
        checks += [*judged, *verification.judge_answer(turn.tool, entry)]
    process = verification.read_process(Path("/proc") / str(gateway["State"]["Pid"]))
    checks += verification.judge_gateway(bot, process, gateway, entries)
    checks += verification.judge_engine(bot["name"], found)
    checks.append(
        verification.judge_refusal(_ask_for_privileges(bot, str(sandbox.get("docker", {}).get("image", "none"))))
    )
    tried = _try_way_out(gateway["State"]["Pid"], bot["addresses"])
    checks += verification.judge_egress(tried, egress)
    return checks


def _sandbox_settings(path: Path) -> dict[str, Any]:
    # The role owns the file; what the bot is told to do is in it and nowhere else.
    settings: dict[str, Any] = json.loads(path.read_text()).get("agents", {}).get("defaults", {}).get("sandbox", {})
    return settings


def _targets(bot: Mapping[str, Any]) -> list[tuple[str, int]]:
    addresses = bot["addresses"]
    return [
        (addresses["gateway_inside"], 18789),
        (addresses["proxy_edge"], 8080),
        (addresses["inside_gateway"], bot["gateway_port"]),
        ("169.254.169.254", 80),
        ("1.1.1.1", 443),
    ]


def _try_way_out(pid: int, addresses: Mapping[str, str]) -> WayOut:
    # This machine on the bot's own network: somebody has to listen, or its silence would say nothing.
    with socket.create_server((addresses["inside_gateway"], 0)) as machine:
        here = (addresses["inside_gateway"], machine.getsockname()[1])
        direct = [here, ("169.254.169.254", 80), ("1.1.1.1", 443), ("2606:4700:4700::1111", 443)]
        # Refused in every mode; 192.0.2.0/24 is for documentation (RFC 5737). No name: egress_mode open asks for each.
        through = [here, ("192.0.2.1", 443), ("169.254.169.254", 80)]
        namespace = Path("/proc") / str(pid) / "ns" / "net"
        return try_way_out(namespace, direct, (addresses["egress_inside"], PROXY_PORT), through)


def _take_turn(bot: str, probe: str, entry: str, targets: list[tuple[str, int]]) -> Turn:
    mark = f"{_SEEN_SECONDS}.{secrets.randbelow(10**12):012d}"
    environment = {
        "PROBE_COMMAND": verification.probe_command(mark, entry, targets),
        "PROBE_PORT": str(PROBE_PORT),
        "PROBE_MODEL": f"{PROBE_PROVIDER}/{PROBE_MODEL}",
    }
    options = [part for name, value in environment.items() for part in ("--env", f"{name}={value}")]
    command = [
        "docker",
        "exec",
        "--interactive",
        *options,
        f"clawfactory-{bot}-gateway",
        "node",
        "--input-type=module",
        "-",
    ]
    seen: dict[int, verification.Process] = {}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as turn:
        assert turn.stdin is not None and turn.stdout is not None  # noqa: S101 - they are pipes
        turn.stdin.write(probe)
        turn.stdin.close()
        end = time.monotonic() + TURN_SECONDS
        while turn.poll() is None:
            if time.monotonic() > end:
                turn.kill()
                break
            for process in verification.find_processes(Path("/proc"), ["sleep", mark]):
                seen[process.pid] = process
            time.sleep(_LOOK_SECONDS)
        printed = turn.stdout.read()
    try:
        result = json.loads(printed.strip().splitlines()[-1])
        return Turn(list(seen.values()), str(result["tool"]), str(result["said"]))
    except (IndexError, KeyError, TypeError, ValueError):
        return Turn(list(seen.values()), "", printed)


def _ask_for_privileges(bot: Mapping[str, Any], image: str) -> Answer:
    name = f"clawfactory-{bot['name']}-sbx-verify"
    answer = try_privileged(Path(bot["paths"]["broker_gateway"]), bot["gateway_uid"], name, image)
    if answer.status == _CREATED:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, timeout=60, check=False)
    return answer


def _last_words(said: str) -> str:
    lines = (
        [line for line in said.splitlines() if "essage" in line or "Reason" in line] or said.splitlines() or ["nothing"]
    )
    return lines[-1].strip()[:300]
