"""Light bots on a test machine, with traffic to a listener outside of it, for what would take real bots too long.

Their containers carry names, labels, bridges and restart policies as real ones do, and run ``traffic.py``. "Outside" is
a network namespace behind a link of the machine, so that everything on it reads one clock.
"""

from __future__ import annotations

import json
import shlex
import time
from functools import partial
from pathlib import Path
from typing import Any

from clawfactory_core import names

from .machines import docker
from .polling import wait_for

TRAFFIC = Path(__file__).resolve().parent / "traffic.py"
LISTENER = {4: "10.99.0.2", 6: "fd99::2"}
PORT, INSIDE_PORT = 9000, 9001
ARRIVED = "/root/arrived"
KINDS = tuple(f"{kind}.{version}" for kind in ("old", "new", "udp") for version in (4, 6))
SCRIPT = "clawfactory-killswitch"


class Lab:
    """:param machine: name of the test machine. :param image: one on its engine that has Python."""

    def __init__(self, machine: str, image: str) -> None:
        self.machine = machine
        self.image = image
        self._numbers: dict[str, int] = {}

    def sh(self, script: str, *, check: bool = True) -> str:
        """Run a script on the machine."""
        return docker("exec", self.machine, "sh", "-c", script, check=check)

    def open(self) -> None:
        """Make what is outside."""
        docker("cp", str(TRAFFIC), f"{self.machine}:/root/traffic.py")
        self.connect()

    def connect(self) -> None:
        """Make the namespace and listen in it; also after a reboot."""
        self.sh(
            "ip netns add outside && ip link add out0 type veth peer name out1 netns outside"
            " && ip addr add 10.99.0.1/30 dev out0 && ip addr add fd99::1/64 dev out0 nodad && ip link set out0 up"
            f" && ip -n outside addr add {LISTENER[4]}/30 dev out1"
            f" && ip -n outside addr add {LISTENER[6]}/64 dev out1 nodad"
            " && ip -n outside link set out1 up && ip -n outside link set lo up"
            " && ip -n outside route add default via 10.99.0.1 && ip -n outside route add default via fd99::1"
            " && sysctl -qw net.ipv6.conf.all.forwarding=1"
            # ClawFactory's own table, which is not what is measured here, lets no neighbour of IPv6 be found.
            " && nft insert rule inet clawfactory to_host icmpv6 type"
            " '{ nd-neighbor-solicit, nd-neighbor-advert }' accept"
        )
        self.background(f"ip netns exec outside python3 /root/traffic.py listen {PORT}", ARRIVED)

    def background(self, command: str, output: str = "/dev/null") -> None:
        """Let a command run on."""
        self.sh(f"setsid nohup {command} > {output} 2> {output}.errors < /dev/null &")

    def close(self) -> None:
        """Take everything away."""
        self.sh("pkill -CONT dockerd; true")
        self.sh(
            "ip netns pids outside | xargs -r kill; ip netns delete outside; ip link delete out0; true", check=False
        )
        self.clear()
        self.sh("nft -f /srv/clawfactory/firewall/clawfactory.nft")

    def clear(self) -> None:
        """Take all bots away."""
        self.sh("docker ps -aq --filter label=lab | xargs -r docker rm -f")
        self.sh("docker network ls -q --filter label=lab | xargs -r docker network rm")

    def bot(self, bot: str) -> None:
        """Have a bot: a gateway and a sandbox that send outside, and a part that listens on the bot's own bridge."""
        self.network(bot)
        self.run(bot, "egress", f"python /traffic.py listen {INSIDE_PORT}")
        for service in ("gateway", "sbx-1"):
            self.sender(bot, service)

    def network(self, bot: str) -> None:
        """Have a bot's network."""
        bridge = names.bridge(bot, "edge")
        self.sh(f'nft add element inet clawfactory same_bridge \'{{ "{bridge}" . "{bridge}" }}\'')
        number = self._numbers.setdefault(bot, len(self._numbers) + 1)
        self.sh(
            f"docker network create --ipv6 --subnet 10.98.{number}.0/28 --subnet fd98:{number}::/64 --label lab "
            f"--opt com.docker.network.bridge.name={bridge} {names.network(bot, 'edge')}"
        )

    def sender(self, bot: str, service: str, *options: str) -> None:
        """Have a container that sends outside."""
        command = f"python /traffic.py send {bot}-{service} {PORT} {LISTENER[4]} {LISTENER[6]}"
        self.run(bot, service, command, *options)

    def run(self, bot: str, service: str, command: str, *options: str) -> None:
        """Have one container."""
        label = "sandbox" if service.startswith("sbx-") else service
        program, *arguments = shlex.split(command)
        self.sh(
            shlex.join([
                "docker", "run", "--detach", "--name", names.container(bot, service), "--label", "lab",
                "--label", f"clawfactory.bot={bot}", "--label", f"clawfactory.service={label}",
                "--network", names.network(bot, "edge"), "--restart", "unless-stopped", "--user", "20099:20099",
                "--volume", "/root/traffic.py:/traffic.py:ro", *options,
                "--entrypoint", program, self.image, *arguments,
            ])
        )  # fmt: skip

    def pid(self, bot: str, service: str) -> int:
        """First process of a container."""
        return int(self.sh(f"docker inspect --format '{{{{.State.Pid}}}}' {names.container(bot, service)}"))

    def haunt(self, bot: str, service: str) -> None:
        """Send from within a container's network, by a process of the machine's that no kill of the bot ends."""
        address = self.sh(
            f"docker inspect --format '{{{{range .NetworkSettings.Networks}}}}{{{{.IPAddress}}}}{{{{end}}}}' "
            f"{names.container(bot, 'egress')}"
        )
        inside = f"nsenter --net=/proc/{self.pid(bot, 'egress')}/ns/net"
        self.background(f"{inside} python3 /root/traffic.py listen {INSIDE_PORT + 1}", f"{ARRIVED}.inside")
        sender = f"nsenter --net=/proc/{self.pid(bot, service)}/ns/net python3 /root/traffic.py send"
        self.background(f"{sender} {bot}-ghost {PORT} {LISTENER[4]} {LISTENER[6]}")
        self.background(f"{sender} {bot}-frames {INSIDE_PORT + 1} {address}")

    def end_ghosts(self) -> None:
        """End what :meth:`haunt` began."""
        self.sh(
            "pkill -f '[t]raffic.py send .*-(ghost|frames)'; pkill -f '[t]raffic.py listen 9002'; true", check=False
        )

    def arrived(self, start: str, *, inside: bool = False) -> dict[str, float]:
        """When something arrived last, by its tag, of those tags that begin so."""
        text = self.sh(f"cat {ARRIVED}{'.inside' if inside else ''}")
        last: dict[str, float] = {}
        for line in text.splitlines():
            at, _, tag = line.partition(" ")
            if tag.startswith(start):
                last[tag] = float(at)
        return last

    def flows(self, *tags: str) -> None:
        """Wait until everything that is to arrive does, again and again."""
        before = self.now()
        for tag in tags:
            wait_for(f"traffic of {tag}", partial(self._came, tag, before), 30)

    def _came(self, tag: str, since: float) -> bool:
        return self.arrived(tag).get(tag, 0.0) > since

    def all_of(self, bot: str, *services: str) -> list[str]:
        """Tags of a bot's senders."""
        return [f"{bot}-{service}.{kind}" for service in services or ("gateway", "sbx-1") for kind in KINDS]

    def now(self) -> float:
        """The machine's monotonic clock, which is ours as well: it is a container."""
        return time.monotonic()

    def lock(self, *arguments: str) -> dict[str, Any]:
        """Lock by the host script; what it says, and when it was over as ``over``."""
        text = docker("exec", self.machine, SCRIPT, "lock", *arguments, "--reason", "a test", "--json", check=False)
        return {**json.loads(text), "over": self.now()}

    def unlock(self, *arguments: str) -> dict[str, Any]:
        """Unlock by the host script."""
        found: dict[str, Any] = json.loads(docker("exec", self.machine, SCRIPT, "unlock", *arguments, "--json"))
        return found

    def status(self, bot: str) -> dict[str, Any]:
        """What is true of a bot."""
        facts = json.loads(docker("exec", self.machine, SCRIPT, "status", bot, "--json"))
        found: dict[str, Any] = facts["bots"][bot]
        return found

    def start(self, bot: str, *, check: bool = True) -> None:
        """Start a bot's containers; of a locked one that fails as often as not."""
        self.sh(f"docker start $(docker ps -aq --filter label=clawfactory.bot={bot})", check=check)

    def stays_dead(self, bot: str, since: float, seconds: float = 1.5) -> None:
        """See for a while that nothing of a bot lives or arrives."""
        until = self.now() + seconds
        while self.now() < until:
            time.sleep(0.3)
        facts = self.status(bot)
        assert facts["lock"] and facts["cut"] and facts["processes"] == 0, facts
        late = {tag: at - since for tag, at in self.arrived(f"{bot}-").items() if at > since}
        assert late == {}, f"arrived after the lock (seconds): {late}"
