"""Nothing listens but what has to."""

from __future__ import annotations

import re

import pytest
from testinfra.host import Host

from .conftest import BOTS, Inspect

Socket = tuple[str, str]
# Docker's own resolver has a random port on this address in every container.
RESOLVER = "127.0.0.11"


def listening(listing: str) -> set[Socket]:
    """``ss -lntuH`` as pairs of protocol and address with port."""
    return {(line.split()[0], line.split()[4]) for line in listing.splitlines() if line.strip()}


def test_machine_listens_exactly_here(machine: Host) -> None:
    rows = machine.check_output("ss -lntupH").splitlines()
    found = {(row.split()[0], row.split()[4]) for row in rows if "containerd" not in row}
    assert found == {
        ("tcp", "0.0.0.0:22"), ("tcp", "[::]:22"),
        ("tcp", "127.0.0.1:18789"), ("tcp", "127.0.0.1:8080"),
        ("tcp", "127.0.0.1:18909"), ("tcp", "127.0.0.1:8081"),
    }  # fmt: skip
    containerd = {row.split()[4] for row in rows if "containerd" in row}
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+", address) for address in containerd), containerd


@pytest.mark.parametrize("bot", BOTS)
@pytest.mark.parametrize("part", ["gateway", "egress", "proxy", "controller", "broker"])
def test_container_listens_exactly_here(machine: Host, inspect: Inspect, bot: str, part: str) -> None:
    block = BOTS.index(bot)
    expected = {
        "gateway": {("tcp", "0.0.0.0:18789")},
        "egress": {("tcp", f"10.213.{block}.2:3128"), ("tcp", f"10.213.{block}.34:3128")},
        "proxy": {("tcp", f"10.213.{block}.20:18789"), ("tcp", f"10.213.{block}.20:8080")},
        # The bot's own API, on the inside network; the operator's is a unix socket.
        "controller": {("tcp", f"10.213.{block}.5:8090")},
        "broker": set(),
    }[part]
    pid = inspect(bot, part)["State"]["Pid"]
    found = listening(machine.check_output("nsenter --target %s --net ss -lntuH", str(pid)))
    own = {(protocol, address) for protocol, address in found if RESOLVER not in address}
    # What listens on loopback is for the container alone.
    loopback = {pair for pair in own if re.match(r"127\.0\.0\.1:|\[::1\]:", pair[1])}
    assert own - loopback == expected
    assert part == "gateway" or all(protocol == "udp" for protocol, _ in loopback), loopback
