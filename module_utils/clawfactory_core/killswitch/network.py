"""Cuts bots, or a whole machine, off the network with an nftables table of our own, which nobody else's rules are in.

A converge replaces the table ``clawfactory``; this one, ``clawfactory_lock``, it knows nothing of. Its chains come
before all others and look at no connection's state, so established flows, published ports and the way to the machine
end too. Rules of others are never read, saved or written.

Frames between two containers on one bridge pass the IP hooks only where the kernel's bridge filter is switched on, so a
table of the family ``bridge`` cuts these: by the bridge's name, or by the names of its ports where the kernel cannot.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import names
from ..errors import CoreError, InvalidInput

TABLE = "clawfactory_lock"
BRIDGE_KINDS = ("inside", "edge", "control", "sandbox")
#: Before connection tracking, Docker's and everybody else's chains.
_PRIORITY = -450
_SECONDS = 5.0
_BRIDGE = re.compile(r"cf[iecs]-[0-9a-f]{8}")
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


class NetworkError(CoreError):
    """nft cannot do it; the text says why."""


@dataclass(frozen=True)
class Exceptions:
    """What a machine that is cut off as a whole still lets through, besides loopback.

    :param addresses: networks in CIDR form that may reach ``ports``.
    :param ports: TCP ports of this machine, those of its SSH.
    """

    addresses: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()


@dataclass
class Cut:
    """How a cut was made.

    :param how: ``nft``, or ``links`` where only taking the bridges down worked; empty if nothing did.
    :param frames: ``bridge`` or ``ports`` (how frames inside a bridge are cut), ``links``, or empty: not beyond what
        the kernel's bridge filter shows to the IP hooks.
    :param problems: what did not work.
    """

    how: str = ""
    frames: str = ""
    problems: list[str] = field(default_factory=list)


def bridges_of(bots: Iterable[str]) -> list[str]:
    """Interfaces of the bots' bridges, whether they exist or not: they follow from the names alone."""
    return sorted(names.bridge(bot, kind) for bot in bots for kind in BRIDGE_KINDS)


def parse_allowed(addresses: Iterable[str]) -> tuple[str, ...]:
    """:raises InvalidInput: one of them is no address or network."""
    found = []
    for text in addresses:
        try:
            found.append(str(ipaddress.ip_network(text.strip(), strict=False)))
        except ValueError:
            raise InvalidInput(
                f"lockdown_allow has {text!r}, which is no address or network; give '192.0.2.7' or '192.0.2.0/24'"
            ) from None
    return tuple(dict.fromkeys(found))


class Network:
    """The machine's packet filter and links.

    :param nft: the program; ``None`` looks for it.
    :param links: ``/sys/class/net``.
    """

    def __init__(self, nft: str | None = None, links: Path = Path("/sys/class/net")) -> None:
        self._nft = nft or shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or "/usr/sbin/nft"
        self._links = links

    def cut(self, bots: Sequence[str], machine: Exceptions | None = None) -> Cut:
        """Cut bots off, and with ``machine`` everything but that; again is harmless.

        Never raises for what the machine lacks: what comes after the cut must not wait for it.
        """
        done = Cut()
        bridges = bridges_of(bots)
        try:
            self.load(render_cut(bridges, machine))
            done.how = "nft"
        except NetworkError as error:
            done.problems.append(str(error))
            if self._set_links(bridges, up=False, problems=done.problems):
                done.how = done.frames = "links"
            return done
        for how, script in (("bridge", render_bridge(bridges)), ("ports", render_ports(self.ports(bridges)))):
            try:
                self.load(script)
                done.frames = how
                return done
            except NetworkError as error:
                problem = str(error)
        done.problems.append(f"frames between containers on one bridge: {problem}")
        return done

    def open(self, bots: Sequence[str], *, last: bool) -> None:
        """Let bots through again.

        :param last: nothing is locked any more, so that the tables go altogether.
        :raises NetworkError: it does not work; nothing has been opened.
        """
        bridges = bridges_of(bots)
        self.load(render_removal() if last else render_open(bridges, self.ports(bridges)))
        problems: list[str] = []
        if not self._set_links(bridges, up=True, problems=problems) and problems:
            raise NetworkError("; ".join(problems))

    def is_cut(self, bots: Sequence[str], *, machine: bool = False) -> bool:
        """Whether the loaded table cuts all of these bots.

        :raises NetworkError: nft cannot say.
        """
        done = self._run(["list", "table", "inet", TABLE])
        if done.returncode:
            if "No such file" in done.stderr:
                return False
            raise NetworkError(f"nft list table inet {TABLE}: {done.stderr.strip()}")
        text = done.stdout
        rules = ("iifname @bridges", "oifname @bridges", *(("chain machine_input",) if machine else ()))
        return set(bridges_of(bots)) <= set(_BRIDGE.findall(text)) and all(rule in text for rule in rules)

    def ports(self, bridges: Iterable[str]) -> list[str]:
        """Interfaces that are ports of the bridges now."""
        found: list[str] = []
        for bridge in bridges:
            try:
                found += os.listdir(self._links / bridge / "brif")
            except (FileNotFoundError, NotADirectoryError):
                continue  # it has no such bridge
        return sorted(found)

    def load(self, script: str) -> None:
        """Load a script in one transaction.

        :raises NetworkError: nothing of it has been loaded.
        """
        done = self._run(["-f", "-"], script)
        if done.returncode:
            raise NetworkError(f"nft: {' '.join(done.stderr.split())[:300]}")

    def _run(self, arguments: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [self._nft, *arguments],
                input=text,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NetworkError(f"nft cannot be run: {error}") from error

    def _set_links(self, bridges: Iterable[str], *, up: bool, problems: list[str]) -> bool:
        """Take the bridges that exist up or down.

        :returns: whether that worked for all of them.
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            for bridge in bridges:
                if not (self._links / bridge).exists():
                    continue
                request = struct.pack("16sH14x", bridge.encode(), 0)
                try:
                    flags = struct.unpack("16xH14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[0]
                    wanted = flags | _IFF_UP if up else flags & ~_IFF_UP
                    if wanted != flags:
                        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", bridge.encode(), wanted))
                except OSError as error:
                    problems.append(f"link {bridge} cannot be taken {'up' if up else 'down'}: {error.strerror}")
                    return False
        return True


def render_cut(bridges: Sequence[str], machine: Exceptions | None = None) -> str:
    """What cuts the bridges off. It only adds: who locks another bot at the same moment loses nothing."""
    lines = [
        f"add table inet {TABLE}",
        f"add set inet {TABLE} bridges {{ type ifname; }}",
        *_chain("inet", "arriving", "prerouting", ["iifname @bridges counter drop"]),
        *_chain("inet", "leaving", "postrouting", ["oifname @bridges counter drop"]),
    ]
    if bridges:
        lines.append(f"add element inet {TABLE} bridges {{ {_quoted(bridges)} }}")
    if machine is not None:
        lines += _machine(machine)
    return "\n".join(lines) + "\n"


def render_bridge(bridges: Sequence[str]) -> str:
    """What cuts frames inside bridges, for kernels that know a frame's bridge."""
    return "\n".join(
        [
            f"add table bridge {TABLE}",
            f"add set bridge {TABLE} bridges {{ type ifname; }}",
            *_chain("bridge", "arriving", "prerouting", ["meta ibrname @bridges counter drop"]),
            *_chain("bridge", "leaving", "output", ["meta obrname @bridges counter drop"]),
            *([f"add element bridge {TABLE} bridges {{ {_quoted(bridges)} }}"] if bridges else []),
            "",
        ]
    )


def render_ports(ports: Sequence[str]) -> str:
    """The same by the names of the ports; one that comes later is cut when somebody looks again."""
    return "\n".join(
        [
            f"add table bridge {TABLE}",
            f"add set bridge {TABLE} ports {{ type ifname; }}",
            *_chain("bridge", "arriving", "prerouting", ["iifname @ports counter drop"]),
            *_chain("bridge", "leaving", "postrouting", ["oifname @ports counter drop"]),
            *([f"add element bridge {TABLE} ports {{ {_quoted(ports)} }}"] if ports else []),
            "",
        ]
    )


def render_open(bridges: Sequence[str], ports: Sequence[str]) -> str:
    """What lets bridges through again while others stay cut. What is added before it is deleted cannot be missing."""
    lines = [render_cut(bridges).rstrip(), f"delete element inet {TABLE} bridges {{ {_quoted(bridges)} }}"]
    lines.append(f"add table bridge {TABLE}")
    for name, elements in (("bridges", bridges), ("ports", ports)):
        if elements:
            lines += [
                f"add set bridge {TABLE} {name} {{ type ifname; }}",
                f"add element bridge {TABLE} {name} {{ {_quoted(elements)} }}",
                f"delete element bridge {TABLE} {name} {{ {_quoted(elements)} }}",
            ]
    return "\n".join(lines) + "\n"


def render_open_machine() -> str:
    """What ends the cut of the machine while bots stay cut."""
    lines = [f"add table inet {TABLE}"]
    for chain in ("machine_input", "machine_output", "machine_forward"):
        lines += [f"add chain inet {TABLE} {chain}", f"flush chain inet {TABLE} {chain}"]
    for chain in ("machine_input", "machine_output", "machine_forward"):
        lines.append(f"delete chain inet {TABLE} {chain}")
    return "\n".join(lines) + "\n"


def render_removal() -> str:
    """What takes both tables away, whether they are there or not."""
    return "".join(f"add table {family} {TABLE}\ndelete table {family} {TABLE}\n" for family in ("inet", "bridge"))


def _machine(allowed: Exceptions) -> list[str]:
    ports = ", ".join(str(port) for port in allowed.ports)
    incoming, outgoing = ['iifname "lo" accept'], ['oifname "lo" accept']
    for family, version in (("ip", 4), ("ip6", 6)):
        addresses = ", ".join(text for text in allowed.addresses if ipaddress.ip_network(text).version == version)
        if addresses and ports:
            incoming.append(f"{family} saddr {{ {addresses} }} tcp dport {{ {ports} }} accept")
            outgoing.append(f"{family} daddr {{ {addresses} }} tcp sport {{ {ports} }} accept")
    # Without these nobody on the same wire finds the machine over IPv6; they lead no further than that wire.
    neighbours = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept"
    return [
        *_chain("inet", "machine_input", "input", [*incoming, neighbours, "counter drop"]),
        *_chain("inet", "machine_output", "output", [*outgoing, neighbours, "counter drop"]),
        *_chain("inet", "machine_forward", "forward", ["counter drop"]),
    ]


def _chain(family: str, name: str, hook: str, rules: Iterable[str]) -> list[str]:
    return [
        f"add chain {family} {TABLE} {name} {{ type filter hook {hook} priority {_PRIORITY}; policy accept; }}",
        f"flush chain {family} {TABLE} {name}",
        *(f"add rule {family} {TABLE} {name} {rule}" for rule in rules),
    ]


def _quoted(elements: Iterable[str]) -> str:
    return ", ".join(f'"{element}"' for element in elements)
