#!/usr/bin/env python3
"""What the controller's answers cost, against OpenClaw's own command line in the same run.

- ``devices-speedup``: how many times faster the list of devices is over the kept connection than by ``openclaw devices
  list`` in the gateway's container; medians.
- ``status-p99-ms``, ``overview-p99-ms``: 99th percentile of ``/status`` and of the overview with 32 clients, each on a
  connection of its own; ``…-per-second``: answers in a second, all clients together.
- ``overview-snapshot-p99-ms``, ``overview-snapshot-per-second``: of the overview while a snapshot of 1 GB is made, by
  the code of the jobs service in a process of its own, of made-up data in ``--folder``.
- ``health-p99-ms``, ``health-snapshot-p99-ms``: the same of ``/health``, which looks at nothing: what clients, proxy
  and machine take by themselves.
- ``rss-idle-mb``, ``rss-used-mb``: memory of the controller's processes, before and after 1,000 requests.
- ``cold-start-seconds``: from the start of the controller's container to its first answer at the proxy, and
  ``first-overview-ms``: of the overview after that, for which all has to be looked at; medians.

Measures a bot of this machine, which has to run: ``bench/controller.py [--bot bot1]``. Needs root. Restarts the bot's
controller, whose jobs go on elsewhere, and changes nothing else.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "module_utils"), str(HERE)]

from make_state import make  # noqa: E402 - found by the path above

ROOT = Path("/srv/clawfactory")
CLIENTS = 32
SIZE_MB = 1024
#: Seconds that a controller may take to come up; beyond it something is wrong.
PATIENCE = 60.0
GOALS = {
    "devices-speedup": ">= 50",
    "status-p99-ms": "<= 100",
    "status-per-second": ">= 100",
    "overview-p99-ms": "<= 100",
    "overview-per-second": ">= 100",
    "overview-snapshot-p99-ms": "<= 100",
    "overview-snapshot-per-second": ">= 100",
    "rss-idle-mb": "<= 90",
    "rss-used-mb": "<= 90",
    "cold-start-seconds": "",
    "first-overview-ms": "",
    "health-p99-ms": "",
    "health-snapshot-p99-ms": "",
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

    def answers(self) -> bool:
        """Whether the controller, and not only its proxy, is there."""
        connection = self.connect()
        try:
            connection.request("GET", "/health")
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return response.status == 200

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
    """Look up where the bot's controller is; ends the program if it does not run here."""
    path = ROOT / "allocations.json"
    bots = json.loads(path.read_text())["bots"] if path.exists() else {}
    if bot not in bots:
        known = ", ".join(sorted(bots)) or "none"
        sys.exit(f"{bot} is not deployed on this machine (deployed: {known}); run site.yml, or name another by --bot")
    lines = (ROOT / "secrets" / bot / "controller.env").read_text().splitlines()
    token = next(line.partition("=")[2] for line in lines if line.startswith("CONTROLLER_TOKEN="))
    found = Target(bot, int(bots[bot]["controller_port"]), token)
    if not found.answers():
        sys.exit(f"nothing answers for {bot} at 127.0.0.1:{found.port}; start it: ansible-playbook playbooks/start.yml")
    return found


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


def hammer(where: Target, path: str, goes_on: Callable[[int], bool]) -> tuple[float, float]:
    """Every client asks at once and again.

    :param goes_on: says whether a client that has had so many answers asks again.
    :returns: 99th percentile in milliseconds, and answers in a second.
    """
    taken: list[float] = []
    failed: list[str] = []

    def client() -> None:
        connection, count = where.connect(), 0
        try:
            while goes_on(count):
                taken.append(where.get(connection, path))
                count += 1
        except (OSError, http.client.HTTPException, SystemExit) as error:
            failed.append(str(error))

    where.get(where.connect(), path)  # what is kept for a minute is there from now on; see first-overview-ms
    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        sys.exit(f"{len(failed)} of {CLIENTS} clients got no answer; the first: {failed[0]}")
    return 1000 * statistics.quantiles(taken, n=100)[98], len(taken) / (time.perf_counter() - began)


@contextmanager
def snapshot(folder: Path, size_mb: int) -> Iterator[subprocess.Popen[bytes]]:
    """Make a state, and a process that begins a snapshot of it."""
    scratch = Path(tempfile.mkdtemp(prefix="clawfactory-bench-", dir=folder))
    try:
        print(f"makes {size_mb} MB of state", file=sys.stderr, flush=True)
        make(scratch / "state", size_mb)
        command = [sys.executable, "-B", __file__, "--snapshot-of", str(scratch)]
        with subprocess.Popen(command, start_new_session=True) as process:
            yield process
        if process.returncode:
            sys.exit("the snapshot failed; see above")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def make_snapshot(scratch: Path) -> None:
    """Be the process that makes a snapshot of ``scratch/state``, as the jobs service has it made."""
    from clawfactory_core.adapters.age import make_key_pair
    from clawfactory_core.jobs.child import give_way
    from clawfactory_core.snapshots.create import Limits, SnapshotRequest, apply_snapshot

    directory = scratch / "snapshots" / "bench"
    directory.mkdir(parents=True)
    (scratch / "secrets" / "bench").mkdir(parents=True)
    _, recipient = make_key_pair()
    request = SnapshotRequest(
        root=scratch, bot="bench", state=scratch / "state", directory=directory, owner=os.getuid(),
        recipients=(recipient,), kind="full", limits=Limits(),
    )  # fmt: skip
    give_way("snapshot")
    apply_snapshot(request)


def cold_start(where: Target) -> float:
    """Seconds from the start of the container to the first answer."""
    name = f"clawfactory-{where.bot}-controller"
    subprocess.run(["docker", "stop", "--time", "5", name], check=True, capture_output=True)
    began = time.perf_counter()
    subprocess.run(["docker", "start", name], check=True, capture_output=True)
    while not where.answers():
        if time.perf_counter() - began > PATIENCE:
            sys.exit(f"{name} did not answer within {PATIENCE:.0f} s of its start")
        time.sleep(0.01)
    return time.perf_counter() - began


def measure(where: Target, *, quick: bool, size_mb: int, folder: Path) -> dict[str, float]:
    """All figures, and two times that a ratio is made of."""
    found = {"rss-idle-mb": memory_mb(where.bot)}
    fast = devices_by_controller(where, 20 if quick else 200)
    slow = devices_by_command(where, 3 if quick else 10)
    found |= {"devices-controller-ms": 1000 * fast, "devices-command-ms": 1000 * slow, "devices-speedup": slow / fast}
    each = 10 if quick else 100
    for name, path in (("health", "/health"), ("status", "/status"), ("overview", "/controller")):
        found[f"{name}-p99-ms"], found[f"{name}-per-second"] = hammer(where, path, lambda count: count < each)
    with snapshot(folder, size_mb) as process:
        found["health-snapshot-p99-ms"], _ = hammer(where, "/health", lambda count: count < each)
        p99, rate = hammer(where, "/controller", lambda count: process.poll() is None)
    found |= {"overview-snapshot-p99-ms": p99, "overview-snapshot-per-second": rate}
    connection = where.connect()
    for _ in range(1000):
        where.get(connection, "/gateway/devices")
    found["rss-used-mb"] = memory_mb(where.bot)
    starts = []
    for _ in range(1 if quick else 3):
        starts.append((cold_start(where), 1000 * where.get(where.connect(), "/controller")))
    found["cold-start-seconds"], found["first-overview-ms"] = map(statistics.median, zip(*starts, strict=True))
    return found


def main() -> int:
    """Measure; the goals decide nothing here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bot", default="bot1", help="a bot that runs on this machine")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    parser.add_argument("--size-mb", type=int, default=SIZE_MB, help="of the state whose snapshot is made meanwhile")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="scratch space on a disk")  # noqa: S108
    parser.add_argument("--snapshot-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.snapshot_of:
        make_snapshot(options.snapshot_of)
        return 0
    where = target(options.bot)
    found = measure(where, quick=options.quick, size_mb=options.size_mb, folder=options.folder)
    found = {name: round(value, 2) for name, value in found.items()}
    if options.json:
        print(json.dumps(found))
    print(f"devices: {found['devices-controller-ms']} ms here, {found['devices-command-ms']} ms by OpenClaw's command")
    for name, goal in GOALS.items():
        print(f"ratio {name} {found[name]}" + (f" goal {goal}" if goal else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
