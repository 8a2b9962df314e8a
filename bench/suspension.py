#!/usr/bin/env python3
"""What it costs to suspend OpenClaw for a snapshot (``gateway.suspend.*``), and what it makes consistent.

- ``prepare-ms``, ``resume-ms``: of an idle gateway; medians.
- ``chat-while-suspended``, ``ready-while-suspended``: HTTP status of a turn that somebody asks for, and of ``/readyz``.
- ``busy-turn``: 1 if a turn that runs makes the gateway refuse; ``drain-s``: until it is suspended when it is asked to
  wait, beside ``turn-s``, what was left of the turn; ``chat-while-draining``: what others get for all that time.
- ``written-suspended``: files of the state written to in ten seconds although it was suspended, while a process that a
  tool had left in the sandbox ran; ``written-idle``: those of a gateway that nobody asks for anything.
- ``lease-s``: until it goes on by itself if nobody ends the suspension; left out with ``--quick``.
- ``snapshot-s``, ``apart-ms``: how long a snapshot of this bot takes without it while turns run, and how far apart the
  moments are of which its databases are; ``databases`` is their number.

Measures a bot of this machine that runs and has a model which obeys ``RUN: <command>`` as tests/support/model_server.py
does: ``/srv/clawfactory/venv/bin/python bench/suspension.py [--bot bot1]``. Needs root, age and zstd.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "module_utils"))

from clawfactory_core.snapshots.create import apply_snapshot
from clawfactory_core.snapshots.settings import snapshot_request

ROOT = Path("/srv/clawfactory")
WINDOW = 10.0
TURN = 12
#: Runs in the controller's container, which the gateway knows: a question a line, an answer a line.
CALLER = """
import asyncio, json, sys
from controller_app.config import load_settings
from controller_app.services.gateway_link import GatewayLink, GatewayRefused

async def nobody(_):
    raise SystemExit("the gateway does not know the controller")

async def main():
    settings = load_settings()
    link = GatewayLink(settings.gateway_url, settings.device_dir, nobody)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            answer = await link.call(*json.loads(line), seconds=30)
        except GatewayRefused as refusal:
            answer = {"status": "refused", "code": refusal.code, "message": refusal.message}
        print(json.dumps(answer), flush=True)
    await link.close()

asyncio.run(main())
"""


class Gateway:
    """A bot's gateway, asked over the controller's identity and by HTTP."""

    def __init__(self, bot: str) -> None:
        self.bot = bot
        self.state = ROOT / "bot_repos" / bot / "state"
        entry = json.loads((ROOT / "allocations.json").read_text())["bots"][bot]
        self._url = f"http://127.0.0.1:{entry['gateway_port']}"
        lines = (ROOT / "secrets" / bot / "gateway.env").read_text().splitlines()
        self._token = next(line.partition("=")[2] for line in lines if line.startswith("OPENCLAW_GATEWAY_TOKEN="))
        self._numbers = itertools.count()
        command = ["docker", "exec", "-i", f"clawfactory-{bot}-controller", "python", "-c", CALLER]
        self._caller = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask; a refusal is an answer of status ``refused``."""
        caller = self._caller
        if caller.stdin is None or caller.stdout is None:
            sys.exit("nobody can be asked")
        caller.stdin.write(json.dumps([method, params]) + "\n")
        caller.stdin.flush()
        found: dict[str, Any] = json.loads(caller.stdout.readline())
        return found

    def prepare(self, *, drain: bool = False) -> dict[str, Any]:
        """Ask it to suspend."""
        return self.call("gateway.suspend.prepare", requestId=f"bench-{os.getpid()}-{next(self._numbers)}", drain=drain)

    def resume(self, lease: dict[str, Any]) -> None:
        """End a suspension."""
        answer = self.call("gateway.suspend.resume", suspensionId=lease["suspensionId"])
        if answer.get("status") != "running":
            sys.exit(f"the gateway did not go on: {answer}")

    def status(self, path: str, body: dict[str, Any] | None = None) -> int:
        """HTTP status of one request."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body else None
        try:
            request = urllib.request.Request(self._url + path, data, headers)  # noqa: S310 - ours
            return int(urllib.request.urlopen(request, timeout=120).status)  # noqa: S310 - ours
        except urllib.error.HTTPError as refusal:
            return refusal.code

    def turn(self, message: str) -> int:
        """HTTP status of one turn."""
        return self.status(
            "/v1/chat/completions", {"model": "openclaw", "messages": [{"role": "user", "content": message}]}
        )

    def suspended(self) -> dict[str, Any]:
        """Suspend it as soon as nothing is going on. :returns: the lease."""
        end = time.monotonic() + 60
        while (lease := self.prepare()).get("status") != "ready":
            if time.monotonic() > end:
                sys.exit(f"the gateway is not idle: {lease}")
            time.sleep(3)
        return lease

    def written(self, seconds: float) -> list[str]:
        """Files of the state that somebody writes to within some seconds."""
        before = self._times()
        time.sleep(seconds)
        return sorted(path for path, when in self._times().items() if before.get(path) != when)

    def _times(self) -> dict[str, int]:
        found = {}
        for path in self.state.rglob("*"):
            try:
                if path.is_file() and "cache" not in path.parts and "tmp" not in path.parts:
                    found[str(path.relative_to(self.state))] = path.stat().st_mtime_ns
            except OSError:
                continue  # gone meanwhile
        return found


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what it returned."""
    began = time.monotonic()
    found = work()
    return time.monotonic() - began, found


def idle(gateway: Gateway, count: int) -> dict[str, float]:
    """Suspend and resume with nothing going on."""
    gateway.resume(gateway.suspended())
    prepared, resumed = [], []
    for _ in range(count):
        seconds, lease = timed(gateway.suspended)
        prepared.append(seconds)
        resumed.append(timed(partial(gateway.resume, lease))[0])
    lease = gateway.suspended()
    found: dict[str, float] = {
        "chat-while-suspended": gateway.turn("hello"),
        "ready-while-suspended": gateway.status("/readyz"),
    }
    gateway.resume(lease)
    return {
        "prepare-ms": 1000 * statistics.median(prepared),
        "resume-ms": 1000 * statistics.median(resumed),
        **found,
    }


def turning(gateway: Gateway) -> dict[str, float]:
    """Suspend while a turn runs."""
    ended: list[float] = []

    def long_turn() -> None:
        gateway.turn(f"RUN: sleep {TURN}")
        ended.append(time.monotonic())

    turn = threading.Thread(target=long_turn)
    turn.start()
    time.sleep(TURN / 2)
    found: dict[str, float] = {"busy-turn": int(gateway.prepare().get("status") == "busy")}
    began = time.monotonic()
    lease = gateway.prepare(drain=True)
    found["chat-while-draining"] = gateway.turn("hello")
    answer = lease
    while answer.get("status") == "draining":
        time.sleep(0.1)
        answer = gateway.call("gateway.suspend.status", suspensionId=lease["suspensionId"])
    if answer.get("status") != "ready":
        sys.exit(f"it did not drain: {answer}")
    found["drain-s"] = time.monotonic() - began
    gateway.resume(lease)
    turn.join()
    return {**found, "turn-s": ended[0] - began}


def writing(gateway: Gateway) -> dict[str, float]:
    """What goes on writing to the state."""
    quiet = gateway.written(WINDOW)
    gateway.turn("RUN: (for n in $(seq 90); do date >> background.log; sleep 1; done) >/dev/null 2>&1 & echo started")
    lease = gateway.suspended()
    suspended = gateway.written(WINDOW)
    gateway.resume(lease)
    print(f"written to while suspended: {', '.join(suspended) or 'nothing'}", file=sys.stderr)
    print(f"written to while idle: {', '.join(quiet) or 'nothing'}", file=sys.stderr)
    return {"written-suspended": len(suspended), "written-idle": len(quiet)}


def abandoned(gateway: Gateway) -> float:
    """Seconds until a suspended gateway goes on by itself."""
    began = time.monotonic()
    gateway.suspended()
    while gateway.status("/readyz") != 200:
        time.sleep(0.5)
    return time.monotonic() - began


def without(gateway: Gateway) -> dict[str, float]:
    """A snapshot beside turns, and of what moments its databases are."""
    ending = threading.Event()

    def talk() -> None:
        while not ending.is_set():
            gateway.turn("hello")

    turns = threading.Thread(target=talk)
    turns.start()
    time.sleep(3)
    key = ROOT / "secrets" / gateway.bot / "snapshot.key"
    try:
        with tempfile.TemporaryDirectory(dir=ROOT) as folder:
            request = replace(
                snapshot_request(ROOT, gateway.bot, kind="full"), directory=Path(folder), index=Path(folder) / "index"
            )
            seconds, done = timed(lambda: apply_snapshot(request))
            archive = Path(folder, done.record.file_name)
            script = f"age -d -i {key} {archive} | zstd -qdc | tar -xO .clawfactory/manifest.json"
            manifest = json.loads(subprocess.run(["bash", "-c", script], check=True, capture_output=True).stdout)
    finally:
        ending.set()
        turns.join()
    moments = [datetime.fromisoformat(moment.replace("Z", "+00:00")) for moment in manifest["databases_as_of"]]
    apart = (moments[1] - moments[0]).total_seconds()
    return {"snapshot-s": seconds, "apart-ms": 1000 * apart, "databases": len(manifest["databases"])}


def main() -> int:
    """Measure; there are no goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bot", default="bot1", help="a bot that runs on this machine and has a model")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    parser.add_argument("--quick", action="store_true", help="fewer samples, and do not wait for a lease to end")
    options = parser.parse_args()
    gateway = Gateway(options.bot)
    if gateway.turn("hello") != 200:
        sys.exit(f"{options.bot} answers no turn: it needs a model (see --help)")
    found = {**idle(gateway, 3 if options.quick else 10), **writing(gateway), **without(gateway), **turning(gateway)}
    if not options.quick:
        found["lease-s"] = abandoned(gateway)
    if options.json:
        print(json.dumps({name: round(value, 2) for name, value in found.items()}))
    for name, value in found.items():
        print(f"ratio {name} {value:.4g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
