#!/usr/bin/env python3
"""What a converge costs, as ratios measured in one run.

- ``warm``: ``site.yml`` on a bot that is as wanted, against an ``ansible-playbook`` that only pings.
- ``further-bot``: what each further bot of the machine adds to a warm ``site.yml``, in pings.
- ``cold``: ``site.yml`` from no containers to ``/readyz`` with images present, against ``docker run`` of the same image
  with the same configuration to ``/readyz``.

Deploys bots bench1, bench2 and bench3 on this machine and purges them at the end. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from measuring import alternate
from playing import docker, play, report

BOTS = ("bench1", "bench2", "bench3")
PLAIN = "clawfactory-bench-plain"
GOALS = {"warm": 5.0, "further-bot": 2.0, "cold": 1.5}


def wait_ready(url: str, deployed: Future[float] | None = None, deadline: float = 180.0) -> None:
    """Poll until the URL answers 200.

    :param deployed: what brings that about; when it ends without, it says why.
    """
    end = time.monotonic() + deadline
    while time.monotonic() < end and not (deployed and deployed.done() and deployed.exception()):
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own address
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    if deployed and deployed.done():
        deployed.result()
    raise SystemExit(f"{url} did not answer within {deadline} s")


def plain_start() -> float:
    """``docker run`` of bench1's image with bench1's configuration and an empty state, to ``/readyz``."""
    image = docker("inspect", "--format", "{{.Config.Image}}", "clawfactory-bench1-gateway")
    user = docker("inspect", "--format", "{{.Config.User}}", "clawfactory-bench1-gateway")
    mounts = json.loads(docker("inspect", "--format", "{{json .Mounts}}", "clawfactory-bench1-gateway"))
    sources = {mount["Destination"]: mount["Source"] for mount in mounts}
    # It goes on working for a while after it is ready, and would take the processor from this one.
    docker("stop", "clawfactory-bench1-gateway")
    with tempfile.TemporaryDirectory(prefix="clawfactory-bench-") as folder:
        os.chown(folder, *(int(part) for part in user.split(":")))
        started = time.monotonic()
        docker(
            *("run", "--detach", "--name", PLAIN, "--user", user, "--init"),
            *("--volume", f"{folder}:/home/node/.openclaw", "--volume", f"{sources['/etc/openclaw']}:/etc/openclaw:ro"),
            *("--volume", f"{sources['/run/secrets/gateway.env']}:/run/secrets/gateway.env:ro"),
            *("--env", "OPENCLAW_CONFIG_PATH=/etc/openclaw/openclaw.json", "--env", "OPENCLAW_CONFIG_READONLY=1"),
            *("--env", "OPENCLAW_STATE_DIR=/home/node/.openclaw", image),
            *("openclaw", "gateway", "--bind", "lan", "--port", "18789"),
        )
        try:
            address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", PLAIN)
            wait_ready(f"http://{address}:18789/readyz")
            return time.monotonic() - started
        finally:
            docker("rm", "--force", PLAIN)


def cold_start(inventory: Path, port: str) -> float:
    """Take bench1 away with its data and slot (the images stay) and deploy it; until it is ready behind its proxy.

    :param port: of the gateway on 127.0.0.1, which a bot in the same slot gets again.
    """
    play(inventory, "playbooks/remove.yml", "-l", "bench1", "-e", "remove_purge=true", "-e", "remove_confirm=bench1")
    with ThreadPoolExecutor() as beside:
        started = time.monotonic()
        deployed = beside.submit(play, inventory, "site.yml", "-l", "bench1")
        wait_ready(f"http://127.0.0.1:{port}/readyz", deployed)
        ready = time.monotonic() - started
        deployed.result()
    return ready


def measure(inventory: Path, runs: int) -> dict[str, float]:
    """Ratios by name; the seconds behind them go to stderr."""
    print("deploying bench1 …", file=sys.stderr)
    play(inventory, "site.yml", "-l", "bench1")
    print("warm converge of one bot …", file=sys.stderr)
    ping, warm = alternate(
        runs,
        lambda: play(inventory, "bench/ping.yml", "-l", "bench1"),
        lambda: play(inventory, "site.yml", "-l", "bench1"),
    )
    print("cold start …", file=sys.stderr)
    port = docker("port", "clawfactory-bench1-proxy", "18789").rpartition(":")[2]
    cold, plain = alternate(max(1, runs // 2), lambda: cold_start(inventory, port), plain_start)
    print("deploying bench2 and bench3 …", file=sys.stderr)
    play(inventory, "site.yml")
    three, one = alternate(
        runs, lambda: play(inventory, "site.yml"), lambda: play(inventory, "site.yml", "-l", "bench1")
    )
    seconds = {"ping": ping, "warm": warm, "warm-1-of-3": one, "warm-3": three, "cold": cold, "docker-run": plain}
    for name, value in seconds.items():
        print(f"seconds {name} {value:.2f}", file=sys.stderr)
    return {"warm": warm / ping, "further-bot": (three - one) / (len(BOTS) - 1) / ping, "cold": cold / plain}


def main() -> None:
    """Deploy, measure, purge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one run of each instead of five")
    parser.add_argument("--json", action="store_true", help="print the ratios as one JSON object")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("run it as root: it deploys bots on this machine")
    folder = Path(tempfile.mkdtemp(prefix="clawfactory-bench-"))
    inventory = folder / "hosts.yml"
    inventory.write_text(json.dumps({"bots": {"hosts": {bot: {"ansible_connection": "local"} for bot in BOTS}}}))
    try:
        ratios = measure(inventory, 1 if options.quick else 5)
    finally:
        for bot in BOTS:
            play(inventory, "playbooks/remove.yml", "-l", bot, "-e", "remove_purge=true", "-e", f"remove_confirm={bot}")
        shutil.rmtree(folder)
    report(ratios, GOALS, options.json)


if __name__ == "__main__":
    main()
