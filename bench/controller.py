#!/usr/bin/env python3
"""What the controller's answers cost, against OpenClaw's own command line in the same run.

- ``devices-speedup``: how many times faster the list of devices is over the kept connection than by ``openclaw devices
  list`` in the gateway's container; medians.
- ``status-p99-ms``: 99th percentile of ``/status`` with 32 clients, each on a connection of its own.
- ``rss-idle-mb``, ``rss-used-mb``: memory of the controller's processes, before and after 1,000 requests.
- ``reply-per-second``: answers to ``/status`` in a second, all clients together.

Measures a bot of this machine, which has to run: ``bench/controller.py [--bot bot1]``. Needs root. Changes nothing.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/srv/clawfactory")
CLIENTS = 32
GOALS = {
    "devices-speedup": ">= 50",
    "status-p99-ms": "<= 100",
    "rss-idle-mb": "<= 90",
    "rss-used-mb": "<= 90",
    "reply-per-second": ">= 100",
}


@dataclass(frozen=True)
class Target:
    """A running bot's controller."""

    bot: str
    port: int
    token: str

    def connect(self) -> http.client.HTTPConnection:
        """A connection of its own."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def get(self, connection: http.client.HTTPConnection, path: str) -> float:
        """Seconds that one answer takes; ends the program if it is none."""
        began = time.perf_counter()
        connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            sys.exit(f"GET {path} answered {response.status}: {body[:300].decode('utf-8', 'replace')}")
        return time.perf_counter() - began


def target(bot: str) -> Target:
    """Look up where the bot's controller is."""
    entry = json.loads((ROOT / "allocations.json").read_text())["bots"][bot]
    lines = (ROOT / "secrets" / bot / "controller.env").read_text().splitlines()
    token = next(line.partition("=")[2] for line in lines if line.startswith("CONTROLLER_TOKEN="))
    return Target(bot, int(entry["controller_port"]), token)


def memory_mb(bot: str) -> float:
    """Resident memory of all processes of the controller's container."""
    top = subprocess.run(
        ["docker", "top", f"clawfactory-{bot}-controller", "-o", "pid"], check=True, capture_output=True, text=True
    ).stdout
    total = 0
    for pid in re.findall(r"^\s*(\d+)\s*$", top, flags=re.MULTILINE):
        status = Path("/proc", pid, "status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB$", status, flags=re.MULTILINE)
        total += int(found.group(1)) if found else 0
    return total / 1024


def devices_by_controller(where: Target, count: int) -> float:
    """Median seconds; the first, which may connect, does not count."""
    connection = where.connect()
    where.get(connection, "/gateway/devices")
    return statistics.median(where.get(connection, "/gateway/devices") for _ in range(count))


def devices_by_command(where: Target, count: int) -> float:
    """Median seconds of OpenClaw's own command line."""
    command = ["docker", "exec", f"clawfactory-{where.bot}-gateway", "openclaw", "devices", "list", "--json"]
    return statistics.median(
        _timed(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(count)
    )


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def hammer(where: Target, path: str, requests: int) -> tuple[list[float], float]:
    """Every client asks at once and again; seconds of each answer, and of all together."""
    taken: list[float] = []
    lock = threading.Lock()

    def client() -> None:
        connection = where.connect()
        found = [where.get(connection, path) for _ in range(requests // CLIENTS)]
        with lock:
            taken.extend(found)

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(taken) != requests // CLIENTS * CLIENTS:
        sys.exit("some clients got no answer; see above")
    return taken, time.perf_counter() - began


def main() -> int:
    """Measure; the goals decide nothing here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bot", default="bot1", help="a bot that runs on this machine")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    arguments = parser.parse_args()
    where = target(arguments.bot)
    found = {"rss-idle-mb": memory_mb(where.bot)}
    fast = devices_by_controller(where, 20 if arguments.quick else 200)
    slow = devices_by_command(where, 3 if arguments.quick else 10)
    found["devices-speedup"] = slow / fast
    taken, seconds = hammer(where, "/status", 320 if arguments.quick else 3200)
    found["status-p99-ms"] = 1000 * statistics.quantiles(taken, n=100)[98]
    found["reply-per-second"] = len(taken) / seconds
    connection = where.connect()
    for _ in range(1000):
        where.get(connection, "/gateway/devices")
    found["rss-used-mb"] = memory_mb(where.bot)
    rounded = {name: round(found[name], 2) for name in GOALS}
    detail = {"devices-controller-ms": round(1000 * fast, 2), "devices-command-ms": round(1000 * slow, 1)}
    if arguments.json:
        print(json.dumps({**rounded, **detail}))
    print(
        f"devices: {detail['devices-controller-ms']} ms by the controller, {detail['devices-command-ms']} ms by command"
    )
    for name, value in rounded.items():
        print(f"ratio {name} {value} goal {GOALS[name]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
