#!/usr/bin/env python3
"""What a fleet costs the control node, as a function of its bots.

- ``status-N``: ``playbooks/status.yml`` for the largest number of bots, against one bot.
- ``converge-slope``: what each further bot adds to a warm ``site.yml``, in pings of one bot (``bench/ping.yml``).
- ``converge-bend``: what a bot adds between the two largest numbers, against what it adds up to there: 1 is a line.
- ``…-cpu``: the same by processor time, which what else goes on here does not change.
- ``others-each-machine``: until a warm ``clawfactory up --each-machine`` has told where the last bot of a machine is,
  beside another machine whose every connection takes 10 s, against the same with one that is not slow.
  ``others-in-one-run``: without ``--each-machine``, which waits for the slow one.

Seconds, processor seconds and memory (of all processes of a run, shared pages once) for each number go to stderr.

Deploys up to 50 bots on this machine, beside those that are there, and purges them at the end: too many for two
processors, see ``--most``. **The gateway is a
stub**: an image with OpenClaw's name, whose gateway is an HTTP server that says it is ready and whose ``openclaw``
finds every configuration good; all other parts are real. Needs root, and the images that a deployed bot has here.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from measuring import Measured, alternate, measure
from playing import ROOT, docker, environment, output, play, report

SIZES, QUICK_SIZES = (1, 5, 20, 50), (1, 5)
#: No OpenClaw has this version, so that nobody takes the stub for one.
VERSION = "2000.1.1"
DELAYS = {"slow": 10, "swift": 0}
NEAR = 4
STUB = """FROM {image}
USER root
RUN printf '#!/bin/sh\\nexit 0\\n' > /opt/clawfactory/bin/openclaw \\
 && printf '#!/bin/sh\\nexec node -e "%s"\\n' \\
      "require('http').createServer((q, a) => a.end('{{}}')).listen(18789)" > /opt/clawfactory/bin/gateway-start
"""
# In the place of ssh: it takes its time, and then does here what it was to do there.
SSH = """#!/bin/sh
sleep {delay}
for last; do :; done
exec sh -c "$last"
"""
GOALS = {"converge-slope": 0.5, "converge-bend": 1.2, "others-each-machine": 1.2, "others-in-one-run": 1.2}


def names(count: int) -> list[str]:
    """The first bots."""
    return [f"fleet{number}" for number in range(1, count + 1)]


def inventory(folder: Path, bots: list[str], far: str = "", pace: str = "slow") -> Path:
    """An inventory of these bots, and of one that is reached as if it was on a machine of its own.

    :param pace: how, see ``DELAYS``.
    """
    hosts: dict[str, dict[str, str]] = {bot: {"ansible_connection": "local"} for bot in bots}
    if far:
        hosts[far] = {"ansible_host": "192.0.2.1", "ansible_user": "root", "ansible_ssh_executable": str(folder / pace)}
    stub = {"gateway_image_source": "build", "gateway_version": VERSION, "gateway_memory_mb": 1024}
    path = folder / f"hosts-{len(bots)}-{far and pace}.json"
    path.write_text(json.dumps({"bots": {"hosts": hosts, "vars": stub}}))
    return path


def make_stub(folder: Path) -> str:
    """Build the stub under the name that a deployment looks for; that name."""
    would_build = output(inventory(folder, names(1)), "site.yml", "--check")
    found = re.search(rf"clawfactory-gateway:{re.escape(VERSION)}-[0-9a-f]+", would_build)
    real = [
        name
        for name in docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "clawfactory-gateway").splitlines()
        if VERSION not in name
    ]
    if found is None or not real:
        raise SystemExit("there is no image clawfactory-gateway on this machine; run site.yml once, which makes it")
    docker("build", "--tag", found[0], "-", text=STUB.format(image=real[0]))
    return found[0]


def of_size(folder: Path, size: int, runs: int) -> dict[str, Measured]:
    """Deploy that many, and measure a ping of one, the status and a warm converge of all: medians."""
    hosts, one = inventory(folder, names(size)), inventory(folder, names(1))
    print(f"deploying up to {size} bots …", file=sys.stderr)
    play(hosts, "site.yml")
    found: dict[str, Measured] = {}
    for name, path, playbook in (
        ("ping", one, "bench/ping.yml"), ("status", hosts, "playbooks/status.yml"), ("converge", hosts, "site.yml"),
    ):  # fmt: skip
        samples = [measure(partial(play, path, playbook)) for _ in range(runs)]
        wall, cpu = (statistics.median(getattr(sample, what) for sample in samples) for what in ("wall", "cpu"))
        found[name] = Measured(wall, cpu, max(sample.rss for sample in samples))
        print(f"seconds {name}-{size} {wall:.2f}", file=sys.stderr)
        print(f"seconds {name}-{size}-cpu {cpu:.2f}", file=sys.stderr)
        print(f"mb {name}-{size} {found[name].rss:.0f}", file=sys.stderr)
    return found


def ratios(found: dict[int, dict[str, Measured]], what: str) -> dict[str, float]:
    """Of one of ``wall`` and ``cpu``."""
    sizes = sorted(found)
    first, last = sizes[0], sizes[-1]
    suffix = "" if what == "wall" else f"-{what}"

    def of(name: str, size: int) -> float:
        return float(getattr(found[size][name], what))

    def slope(low: int, high: int) -> float:
        return (of("converge", high) - of("converge", low)) / (high - low)

    ping = statistics.median(of("ping", size) for size in sizes)
    made = {
        f"status-{last}{suffix}": of("status", last) / of("status", first),
        f"converge-slope{suffix}": slope(first, last) / ping,
    }
    if len(sizes) > 2:
        made[f"converge-bend{suffix}"] = slope(sizes[-2], last) / slope(first, sizes[-2])
    return made


def told_last(words: list[str], bots: list[str]) -> float:
    """Seconds until a converge told of the last of these bots where it is."""
    started, waiting, told = time.monotonic(), {*bots}, 0.0
    with subprocess.Popen(words, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            up = re.search(r"(fleet\d+) is up on", line)
            if up and up[1] in waiting:
                waiting.remove(up[1])
                told = time.monotonic() - started
    if process.returncode or waiting:
        raise SystemExit(f"{' '.join(words)} failed, or told nothing of {', '.join(sorted(waiting))}")
    return told


def beside_slow(folder: Path, runs: int) -> dict[str, float]:
    """The others of a slow machine: in a run beside its own, and in the same as it."""
    for pace, delay in DELAYS.items():
        (folder / pace).write_text(SSH.format(delay=delay))
        (folder / pace).chmod(0o755)
    *near, far = names(NEAR + 1)

    def up(pace: str, *options: str) -> float:
        words = [
            sys.executable,
            "-m",
            "clawfactory_cli",
            "up",
            "all",
            "--inventory",
            str(inventory(folder, near, far, pace)),
        ]
        return told_last([*words, *options], near)

    def apart(pace: str) -> float:
        return up(pace, "--each-machine")

    def together(pace: str) -> float:
        return up(pace)

    work = {(how.__name__, pace): partial(how, pace) for how in (apart, together) for pace in DELAYS}
    seconds = dict(zip(work, alternate(runs, *work.values()), strict=True))
    for (how, pace), value in seconds.items():
        print(f"seconds others-{how}-{pace} {value:.2f}", file=sys.stderr)
    return {
        "others-each-machine": seconds["apart", "slow"] / seconds["apart", "swift"],
        "others-in-one-run": seconds["together", "slow"] / seconds["together", "swift"],
    }


def remove(folder: Path, size: int) -> None:
    """Purge them all; each has to be confirmed by its name."""
    hosts = inventory(folder, names(size))
    play(
        hosts, "playbooks/remove.yml", "-e", "remove_purge=true", "-e", '{"remove_confirm": "{{ inventory_hostname }}"}'
    )


def main() -> None:
    """Deploy, measure, purge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 and 5 bots, and one run of each instead of three")
    parser.add_argument("--most", type=int, default=SIZES[-1], help="bots at most")
    parser.add_argument("--json", action="store_true", help="print the ratios as one JSON object")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("run it as root: it deploys bots on this machine")
    runs = 1 if options.quick else 3
    sizes = [size for size in (QUICK_SIZES if options.quick else SIZES) if size <= options.most]
    folder = Path(tempfile.mkdtemp(prefix="clawfactory-bench-"))
    image, deployed = make_stub(folder), 0
    try:
        found = {}
        for deployed in sizes:
            found[deployed] = of_size(folder, deployed, runs)
        made = ratios(found, "wall") | ratios(found, "cpu") | beside_slow(folder, runs)
    finally:
        remove(folder, deployed)
        docker("image", "rm", image)
        shutil.rmtree(folder)
    goals = {name: GOALS.get(name.removesuffix("-cpu"), 6.0) for name in made}
    report(made, goals, options.json)


if __name__ == "__main__":
    main()
