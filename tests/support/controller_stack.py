"""The real controller on a port of this machine, with real repositories and a stand-in for the machine's jobs service.

The stand-in does what it is told as far as a page shows it: a promotion moves on while it is followed, and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from clawfactory_core.jobs.protocol import Refusal
from controller_app.agent import create_agent_app
from controller_app.config import Secrets, Settings
from controller_app.dependencies import get_app_services
from controller_app.main import create_app
from controller_app.services.device import read_device
from tests.support.broker_socket import BrokerSocket, piece
from tests.support.config_machine import HINTS, SCHEMA, ConfigMachine
from tests.support.controller import SECRETS, FakeGateway
from tests.support.gateway_server import FRAMES, GatewayServer, device_directory
from tests.support.git_repositories import Repositories, commit, git, make_repositories
from tests.support.jobs_server import CONTENTS, MACHINE, PROMOTION, Answer, JobsServer

#: Markup in every place where a bot can write.
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"
NEWEST = "weekly--2026-11-22T10-00-00Z"
_SOUL = "# Soul\n\nI am a careful bot.\nI answer within a minute.\nI never guess.\n"


@dataclass
class ControllerStack:
    """One bot's controller, and what is around it."""

    settings: Settings
    app: FastAPI
    agent: FastAPI
    jobs: JobsServer
    gateway: FakeGateway
    repositories: Repositories
    rpc: GatewayServer
    broker: BrokerSocket
    config: ConfigMachine
    token: str = SECRETS["CONTROLLER_TOKEN"]


def propose(repositories: Repositories, name: str, message: str, files: dict[str, str]) -> str:
    """Have the bot push a proposal; its commit."""
    work = repositories.directory / "work"
    git(work, "checkout", "--quiet", "--detach", "main")
    sha = commit(work, message, files)
    git(work, "push", "--quiet", str(repositories.proposals), f"HEAD:refs/heads/proposal/{name}")
    return sha


@contextlib.contextmanager
def controller_stack(directory: Path) -> Iterator[ControllerStack]:
    """Make all of it below ``directory``."""
    repositories = make_repositories(
        directory / "repositories", {"workspace/SOUL.md": _SOUL, "workspace/TOOLS.md": "-\n"}
    )
    approved = directory / "approved" / ".git"
    (approved / "refs" / "heads").mkdir(parents=True)
    (approved / "HEAD").write_text("ref: refs/heads/main\n")
    (approved / "refs" / "heads" / "main").write_text(f"{repositories.main}\n")
    (directory / "snapshots").mkdir()
    (directory / "snapshots" / f"{NEWEST}.full.tar.zst.age").write_bytes(b"age-encryption.org/v1\n" + bytes(5000))
    with JobsServer(directory / "jobs.sock") as jobs, _gateway_and_broker(directory) as (rpc, broker):
        settings = Settings(
            secrets=Secrets.model_validate(SECRETS),
            bot="bot1",
            gateway_url=rpc.url,
            approved_dir=approved.parent,
            socket=directory / "controller.sock",
            agent_address="127.0.0.1:8090",
            repositories_dir=repositories.directory,
            promotion_dir=directory / "promotion",
            snapshots_dir=directory / "snapshots",
            jobs_socket=jobs.path,
            fingerprints_file=directory / "fingerprints.json",
            device_dir=directory / "device",
            broker_socket=broker.path,
            version="sha256-4d1f0a9c",
            editor_url="vscode://file/{path}:{line}",
            config_file="/srv/clawfactory/bot_repos/bot1/config/operator.json5",
        )
        (directory / "promotion").mkdir()
        (directory / "fingerprints.json").write_text('{"schema": 1, "fingerprints": []}')
        gateway = FakeGateway()
        app = create_app(settings, gateway_transport=gateway)
        agent = create_agent_app(settings, get_app_services(app))
        stack = ControllerStack(settings, app, agent, jobs, gateway, repositories, rpc, broker, ConfigMachine(jobs))
        _fill(stack)
        yield stack


@contextlib.contextmanager
def _gateway_and_broker(directory: Path) -> Iterator[tuple[GatewayServer, BrokerSocket]]:
    """OpenClaw's WebSocket, which knows the controller, and the broker, in a thread of their own."""
    rpc, broker = GatewayServer(), BrokerSocket(directory / "broker.sock")
    rpc.paired.add(read_device(device_directory(directory)).id)
    broker.work()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        for start in (rpc.start(), broker.start()):
            asyncio.run_coroutine_threadsafe(start, loop).result(10)
        yield rpc, broker
        for stop in (rpc.stop(), broker.stop()):
            asyncio.run_coroutine_threadsafe(stop, loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def _fill(stack: ControllerStack) -> None:
    jobs = stack.jobs
    main = stack.repositories.main
    jobs.answers["promotion_info"] = {
        "promotion": {**PROMOTION, "approved": main, "main": main, "history": _history(main)}
    }
    jobs.answers["snapshots"] = {"snapshots": _snapshots()}
    run = {"state": "verified", "time": "2026-11-22T10:00:00Z", "snapshot": NEWEST, "problem": ""}
    jobs.answers["machine_info"] = {"machine": {**MACHINE, "schedule": run}}
    jobs.answers["egress_info"] = {
        "egress": {"lines": 9, "denied": [_denied("telemetry.example", 4), _denied(HOSTILE, 1)]}
    }
    entries = [
        {"number": 41, "time": "2026-11-22T10:00:05.000+00:00", "event": "promotion",
         "fields": {"actor": "operator", "source": "dashboard", "to_commit": main, "result": "promoted"}},
        {"number": 40, "time": "2026-11-22T09:00:05.000+00:00", "event": "deny",
         "fields": {"actor": "operator", "proposal": "louder", "reason": HOSTILE, "list": [HOSTILE]}},
    ]  # fmt: skip
    listing = {
        "count": 1200,
        "entries": [
            {**CONTENTS["listing"]["entries"][0], "name": "x" * 300},
            *CONTENTS["listing"]["entries"],
            {**CONTENTS["listing"]["entries"][1], "target": HOSTILE},
        ],
    }
    jobs.answers["snapshot_contents"] = {"contents": {**CONTENTS, "listing": listing}}
    jobs.answers["audit"] = {"audit": {"entries": entries, "total": 41, "more": True}}
    jobs.answers["audit_verify"] = {"audit": {"lines": 41, "problems": []}}
    jobs.answers["memory_info"] = {"memory": {
        "commit": main, "changed": True, "files": {"MEMORY.md": 5120, "memory/2026-11-21.md": 900},
        "left_out": {"memory/keys.md": "it holds what looks like a secret"}, "indexes": {"main.sqlite": 3 << 20},
        "remote": False}}  # fmt: skip
    fill_gateway(stack)
    schema = {"schema": SCHEMA, "uiHints": HINTS, "version": "2026.9.6"}
    stack.rpc.answers["config.schema"] = {"type": "res", "ok": True, "payload": schema}
    jobs.answers["follow"] = lambda fields: _follow(jobs, fields)


def fill_gateway(stack: ControllerStack, attack: str = HOSTILE) -> None:
    """Devices, people in a chat, a log and an audit, each with an attack among what is harmless; with none if empty."""
    answers, broker = stack.rpc.answers, stack.broker
    found = copy.deepcopy(FRAMES["device.pair.list"])
    (asking,) = found["payload"]["pending"]
    asking.update(displayName="Firefox on Linux", clientId="openclaw-control-ui", scopes=["operator.admin"])
    hostile = {**asking, "requestId": "11111111-35ef-497e-8711-b4cf9f30c4dc", "displayName": attack, "scopes": []}
    found["payload"]["pending"] += [hostile] if attack else []
    found["payload"]["paired"][0]["deviceId"] = next(iter(stack.rpc.paired))
    found["payload"]["paired"][1].update(displayName="Pixel 9", platform="android", scopes=["operator.read"])
    answers["device.pair.list"] = found
    accounts = [
        {"channel": channel, "channelLabel": channel.capitalize(), "accountId": "default", "notifySupported": True}
        for channel in ("discord", "telegram")
    ]
    person = {
        "requestId": "b3b4ab1b1f0d4c7f", "channel": "telegram", "accountId": "default", "senderId": "123456789",
        "senderLabel": "telegramUserId", "createdAt": "2026-11-22T09:55:00Z", "expiresAt": "2026-11-22T10:55:00Z",
    }  # fmt: skip
    evil = {**person, "requestId": "c3b4ab1b1f0d4c7f", "channel": "discord", "senderId": attack}
    payload = {"accounts": accounts, "requests": [person, evil] if attack else [person]}
    answers["channels.pairing.list"] = {"type": "res", "ok": True, "payload": payload}
    words = ["starting OpenClaw 2026.9.6", "ready (3 channels)", "telegram: connected", "cron: nothing is due"]
    words += [f"telegram: {attack}\x1b[31m red"] if attack else []
    lines = "".join(f"2026-11-22T10:00:{second:02d}.123Z [gateway] {text}\n" for second, text in enumerate(words))
    broker.log(piece(lines.encode()))
    findings = [
        {"checkId": "fs.state_dir.perms", "severity": "critical", "title": "State directory is readable by others",
         "detail": f"Others may read it. {attack}", "remediation": "chmod 700 ~/.openclaw"},
        {"checkId": "gateway.auth_no_rate_limit", "severity": "warn", "title": "No auth rate limiting configured",
         "detail": "gateway.bind is not loopback.", "remediation": "Set gateway.auth.rateLimit."},
        {"checkId": "summary", "severity": "info", "title": "One channel is open", "detail": "telegram"},
    ]  # fmt: skip
    broker.command(piece(json.dumps({"ts": 1795893640140, "findings": findings}).encode()))


def _follow(jobs: JobsServer, fields: dict[str, str]) -> Answer:
    """Run a job to its end, as whoever follows it sees it."""
    job = jobs.jobs.get(fields["id"])
    if job is None:
        return Refusal(404, "Not found", "there is no such job")
    time.sleep(0.3)  # a page that was loaded while it ran
    states = [
        {
            **job,
            "state": "running",
            "progress": {"phase": "packing", "bytes": 40, "total": 100, "rate": 9.0, "seconds_left": 7.0},
        }
    ]
    if job["state"] in ("queued", "running"):
        job.update(state="done", ended="2027-01-15T08:00:09.000000Z", result=_result(job["kind"]))
    return b"".join(json.dumps({"job": state}).encode() + b"\n" for state in [*states, job])


def _result(kind: str) -> dict[str, Any]:
    return {
        "promotion": {"result": "promoted", "from": "1" * 40, "to": "2" * 40, "reason": "", "snapshot": NEWEST},
        "rollback": {"result": "promoted", "from": "2" * 40, "to": "1" * 40, "reason": "", "snapshot": NEWEST},
        "deny": {"proposal": "louder", "commit": "3" * 40},
        "snapshot": {"id": NEWEST, "size": 5 << 20, "warnings": [HOSTILE]},
        "snapshot_restore": {"snapshot": NEWEST, "before": "before-restore--2026-11-22T11-00-00Z"},
        "snapshot_verify": {"snapshot": NEWEST, "how": "digest", "checks": 2},
        "snapshot_rename": {"snapshot": NEWEST, "label": "kept"},
        "snapshot_delete": {"snapshot": NEWEST},
        "config": {"result": "saved", "from": "1" * 64, "to": "2" * 64, "restarted": True},
        "config_revert": {"result": "saved", "from": "2" * 64, "to": "1" * 64, "restarted": True},
        "memory_backup": {"commit": "4" * 40, "changed": True, "files": 2, "left_out": 1},
    }[kind]


def _history(main: str) -> list[dict[str, Any]]:
    entry = {
        "id": "2", "time": "2026-11-22T10:00:00Z", "actor": "operator", "source": "dashboard", "from_commit": "1" * 40,
        "to_commit": main, "result": "promoted", "reason": "", "snapshot": NEWEST, "delivery": "", "rollback": False,
    }  # fmt: skip
    failed = {**entry, "id": "1", "time": "2026-11-20T10:00:00Z", "to_commit": "5" * 40, "result": "restored",
              "reason": f"npm ERR! {HOSTILE}"}  # fmt: skip
    return [entry, failed, {**entry, "id": "0", "time": "2026-11-19T10:00:00Z", "to_commit": "1" * 40}]


def _snapshots() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for day in range(1, 22):
        full = day % 7 == 1
        name = f"{'weekly' if full else 'daily'}--2026-11-{day:02d}T03-00-00Z"
        found.append(
            {
                "id": name, "time": f"2026-11-{day:02d}T03:00:00Z", "kind": "full" if full else "inc",
                "label": name[: name.index("--")], "parent": None if full else found[-1]["id"],
                "size": (9 << 20) + (day << 16) if full else (1 << 20) + (day << 14),
                "verified": f"2026-11-{day:02d}T03:10:00Z" if day % 2 else None, "problem": "",
            }
        )  # fmt: skip
    found[4]["problem"] = f"its record cannot be read: {HOSTILE}"
    newest = {**found[0], "id": NEWEST, "time": "2026-11-22T10:00:00Z", "size": 5022}
    return [newest, *reversed(found)]


def _denied(host: str, count: int) -> dict[str, Any]:
    return {"time": "2026-11-22T09:59:00Z", "from": "gateway", "host": host, "port": "443", "count": count}


@contextlib.contextmanager
def serving(app: FastAPI, path: Path | None = None) -> Iterator[str]:
    """Serve an application on a free port of 127.0.0.1, or where its proxy finds it; its address.

    :param path: of a unix socket.
    """
    listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
    listener.bind(str(path) if path else ("127.0.0.1", 0))
    listener.listen()  # at once: whoever comes before the server is up waits for it
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://unix:{path}" if path else f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
