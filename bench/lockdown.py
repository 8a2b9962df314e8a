#!/usr/bin/env python3
"""What the kill switch takes, from pressing Enter to the last packet and to the last process gone.

As ratios to an ``ansible-playbook`` over the same SSH that pings each machine once: for one bot, for 20 bots of one
machine, for one on each of 3 machines. ``script``: the host script on the machine itself, in units of 150 ms.
``original``: the way of the original ClawFactory (stop with a timeout of 5 s, then flush and drop with iptables),
against the host script.

Bots are containers that send to a listener outside of the machine every 10 ms and ignore SIGTERM. The machines are
containers with systemd, SSH and a Docker engine of their own; they are made at the beginning and removed at the end.
Needs root, Docker, and the images that a deployed bot has here.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "module_utils"), str(ROOT / "bench")]

from playing import play, report  # noqa: E402 - found by the path above

from tests.support import machines  # noqa: E402 - found by the path above
from tests.support.killswitch_lab import SCRIPT, Lab  # noqa: E402 - found by the path above
from tests.support.polling import wait_for  # noqa: E402 - found by the path above

ENGINE_IMAGE = "clawfactory-test/engine"
MACHINES = [f"clawfactory-bench-lockdown{number}" for number in (1, 2, 3)]
MANY = 20
GOALS = {
    "one-packet": 1.3, "one-process": 1.8, "twenty-packet": 2.5, "twenty-process": 2.5,
    "three-machines-packet": 1.3, "three-machines-process": 1.8, "script-packet": 1.0, "script-to-original-packet": 0.1,
}  # fmt: skip
_ID = re.compile(r"[0-9a-f]{64}")


def bots_of(machine: str, count: int) -> list[str]:
    """Names of a machine's bots; no two machines share one."""
    return [f"bench{MACHINES.index(machine) + 1}-{number}" for number in range(1, count + 1)]


def make_machines(folder: Path) -> dict[str, Lab]:
    """Boot three machines with an engine, the host script, and what is outside of them."""
    image = machines.docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "clawfactory-broker").splitlines()[0]
    machines.build()
    machines.docker("build", "--quiet", "--tag", ENGINE_IMAGE, str(machines.CONTEXT.parent / "testengine"), timeout=900)
    labs = {}
    for name in MACHINES:
        print(f"booting {name} …", file=sys.stderr)
        machines.create(name, ENGINE_IMAGE)
        machines.open_ssh(name, folder / name)
        wait_for("an engine", partial(machines.docker, "exec", name, "docker", "version", check=False), 60)
        machines.load(name, [image])
        lab = labs[name] = Lab(name, image)
        lab.sh("apt-get update -q && apt-get install -qy --no-install-recommends nftables")
        lab.sh("mkdir -p /srv/clawfactory/lib /srv/clawfactory/audit && chmod 700 /srv/clawfactory/audit")
        machines.docker(
            "cp", str(ROOT / "module_utils/clawfactory_core"), f"{name}:/srv/clawfactory/lib/clawfactory_core"
        )
        machines.docker("cp", str(ROOT / f"roles/killswitch/files/{SCRIPT}"), f"{name}:/srv/clawfactory/lib/{SCRIPT}")
        lab.sh(f"ln -s /srv/clawfactory/lib/{SCRIPT} /usr/local/sbin/{SCRIPT}")
        # Of ClawFactory's own firewall no more than the names that the traffic needs.
        lab.sh("nft 'add table inet clawfactory; add chain inet clawfactory to_host; "
               "add set inet clawfactory same_bridge { type ifname . ifname; }'")  # fmt: skip
        lab.open()
    return labs


def inventory(folder: Path, bots: dict[str, list[str]]) -> Path:
    """An inventory of these bots, over SSH."""
    hosts = {}
    for machine, names in bots.items():
        for name in names:
            hosts[name] = {
                "ansible_host": (folder / machine / "address").read_text(),
                "ansible_user": machines.SSH_USER,
                "ansible_ssh_private_key_file": str(folder / machine / "key"),
                "ansible_ssh_common_args": f"-o UserKnownHostsFile={folder / machine / 'known_hosts'}",
            }
    path = folder / "hosts.json"
    path.write_text(json.dumps({"bots": {"hosts": hosts}}))
    return path


def processes(ids: set[str]) -> set[int]:
    """Living processes in these containers, as this machine sees them."""
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if ids & set(_ID.findall(Path("/proc", name, "cgroup").read_text())):
                found.add(int(name))
        except OSError:
            continue  # it has ended
    return {pid for pid in found if alive(pid)}


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Watch:
    """Notes when the last process of some bots was seen."""

    def __init__(self, labs: dict[str, Lab], bots: dict[str, list[str]]) -> None:
        listed = {name: labs[name].sh("docker ps --no-trunc -q --filter label=lab") for name in bots}
        self._ids = {line for text in listed.values() for line in text.split()}
        self._pids = processes(self._ids)
        self.last = 0.0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._ending.is_set():
            if any(alive(pid) for pid in self._pids):
                self.last = time.monotonic()
            time.sleep(0.005)

    def end(self) -> float:
        """Wait until nothing lives. :returns: when something did last."""
        while processes(self._ids):
            self.last = time.monotonic()
            time.sleep(0.01)
        self._ending.set()
        self._thread.join()
        return self.last


def have_bots(labs: dict[str, Lab], bots: dict[str, list[str]]) -> None:
    """Have these bots and no others, and let them send."""
    for name, lab in labs.items():
        lab.clear()
        for bot in bots.get(name, []):
            lab.network(bot)
            lab.sender(bot, "gateway", "--env", "KINDS=udp old")
    for name, names in bots.items():
        for bot in names:
            labs[name].flows(f"{bot}-gateway.udp.4", f"{bot}-gateway.old.4")


def throw(labs: dict[str, Lab], bots: dict[str, list[str]], lock: Callable[[], float]) -> tuple[float, float]:
    """Lock bots that :func:`have_bots` made, and unlock them again.

    :param lock: tells when it began, on the monotonic clock.
    :returns: seconds from then to the last packet and to the last process.
    """
    watch = Watch(labs, bots)
    started = lock()
    gone = watch.end()
    time.sleep(0.3)
    packet = max(at for name, names in bots.items() for bot in names for at in labs[name].arrived(f"{bot}-").values())
    for name, names in bots.items():
        labs[name].sh(f"{SCRIPT} unlock {' '.join(names)} >/dev/null; iptables -P FORWARD ACCEPT")
    return packet - started, gone - started


def playbook(path: Path) -> float:
    """Lock by the playbook; when Enter was pressed."""
    started = time.monotonic()
    play(path, "playbooks/lockdown.yml")
    return started


def script(lab: Lab, bot: str) -> float:
    """Lock by the host script; when it was executed, to a hundredth of a second."""
    said = lab.sh(f"cut -d' ' -f1 /proc/uptime; exec {SCRIPT} lock {bot}")
    return float(said.split()[0])


def original(lab: Lab) -> float:
    """As the original did it: stop the stack, then flush and drop; here without the rules that kept its own SSH."""
    started = time.monotonic()
    lab.sh("docker ps -q --filter label=lab | xargs -r docker stop -t 5; iptables -F FORWARD; iptables -P FORWARD DROP")
    return started


def measure(folder: Path, labs: dict[str, Lab], runs: int) -> dict[str, float]:
    """Ratios by name; the seconds behind them go to stderr."""
    first = MACHINES[0]
    cases = {
        "one": {first: bots_of(first, 1)},
        "twenty": {first: bots_of(first, MANY)},
        "three-machines": {name: bots_of(name, 1) for name in MACHINES},
    }
    ratios: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for name, bots in cases.items():
        pings, packets, gone = [], [], []
        for _ in range(runs):
            single = inventory(folder, {machine: names[:1] for machine, names in bots.items()})
            have_bots(labs, bots)  # they work while the ping is measured, too
            play(single, "bench/ping.yml")  # opens the connections that both use
            pings.append(play(single, "bench/ping.yml"))
            packet, process = throw(labs, bots, partial(playbook, inventory(folder, bots)))
            packets.append(packet)
            gone.append(process)
        ping = statistics.median(pings)
        seconds |= {
            f"{name}-ping": ping,
            f"{name}-packet": statistics.median(packets),
            f"{name}-process": statistics.median(gone),
        }
        ratios |= {f"{name}-{what}": seconds[f"{name}-{what}"] / ping for what in ("packet", "process")}
    one, lab = cases["one"], labs[first]
    ours = []
    for _ in range(runs):
        have_bots(labs, one)
        ours.append(throw(labs, one, partial(script, lab, one[first][0])))
    have_bots(labs, one)
    theirs = throw(labs, one, partial(original, lab))
    seconds |= {"script-packet": statistics.median(each[0] for each in ours), "original-packet": theirs[0]}
    seconds |= {"script-process": statistics.median(each[1] for each in ours), "original-process": theirs[1]}
    ratios["script-packet"] = seconds["script-packet"] / 0.150
    ratios["script-to-original-packet"] = seconds["script-packet"] / theirs[0]
    for name, value in seconds.items():
        print(f"seconds {name} {value:.3f}", file=sys.stderr)
    return ratios


def main() -> None:
    """Boot, measure, remove, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one run of each instead of five")
    parser.add_argument("--json", action="store_true", help="print the ratios as one JSON object")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("run it as root: it makes machines, and looks at their processes")
    folder = Path(tempfile.mkdtemp(prefix="clawfactory-bench-"))
    try:
        labs = make_machines(folder)
        ratios = measure(folder, labs, 1 if options.quick else 5)
    finally:
        for name in MACHINES:
            machines.destroy(name)
        shutil.rmtree(folder)
    report(ratios, GOALS, options.json)


if __name__ == "__main__":
    main()
