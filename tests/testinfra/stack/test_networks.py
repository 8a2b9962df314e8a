"""Networks and firewall: exact sets, because one network or rule too many is a way out."""

from __future__ import annotations

import json

import pytest
from testinfra.host import Host

from .conftest import BOTS

# The first eight hexadecimal digits of sha256("bot1") and sha256("bot2").
DIGEST = {"bot1": "835e7134", "bot2": "22c9d49c"}
# Kind: (letter in the bridge's name, first address of the subnet, internal).
KINDS = {"inside": ("i", 0, True), "edge": ("e", 16, False), "control": ("c", 32, True)}
BRIDGES = sorted(f"cf{letter}-{digest}" for digest in DIGEST.values() for letter in ("c", "e", "i"))


def test_networks_are_exactly_these(machine: Host) -> None:
    names = set(machine.check_output("docker network ls --format '{{.Name}}'").split())
    assert names == {"bridge", "host", "none"} | {f"clawfactory-{bot}-{kind}" for bot in BOTS for kind in KINDS}


@pytest.mark.parametrize("bot", BOTS)
@pytest.mark.parametrize("kind", KINDS)
def test_network_is_as_designed(machine: Host, bot: str, kind: str) -> None:
    (network,) = json.loads(machine.check_output("docker network inspect clawfactory-%s-%s", bot, kind))
    letter, first, internal = KINDS[kind]
    prefix = f"10.213.{BOTS.index(bot)}"
    assert network["Internal"] is internal
    assert network["EnableIPv6"] is False
    assert network["IPAM"]["Config"] == [{"Subnet": f"{prefix}.{first}/28", "Gateway": f"{prefix}.{first + 1}"}]
    assert network["Options"]["com.docker.network.bridge.name"] == f"cf{letter}-{DIGEST[bot]}"
    assert network["Labels"]["clawfactory.bot"] == bot


def test_bridges_of_ours_are_exactly_these(machine: Host) -> None:
    links = [link["ifname"] for link in json.loads(machine.check_output("ip -json link show type bridge"))]
    assert sorted(name for name in links if name.startswith("cf")) == BRIDGES


def rules(machine: Host, kind: str) -> dict[str, list[str]]:
    """Rules of our table by chain, or elements by set, as ``nft`` prints them, without counts."""
    listing = machine.check_output("nft --stateless list table inet clawfactory")
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in (line.strip() for line in listing.splitlines()):
        if line.startswith(("chain ", "set ")):
            current = found.setdefault(line.split()[1], []) if line.startswith(f"{kind} ") else None
        elif line == "}":
            current = None
        elif current is not None:
            current.append(line)
    return found


def test_firewall_has_exactly_these_rules(machine: Host) -> None:
    hook = "type filter hook {} priority filter - 10; policy accept;"
    assert rules(machine, "chain") == {
        "input": [
            hook.format("input"),
            'iifname "cfi-*" jump to_host',
            'iifname "cfc-*" jump to_host',
            'iifname "cfs-*" jump to_host',
            'iifname "cfe-*" jump edge_to_host',
        ],
        "edge_to_host": [
            "meta l4proto { tcp, udp } th dport 53 accept",
            "iifname . tcp dport @host_services accept",
            "jump to_host",
        ],
        "to_host": ["ct state established,related accept", "counter drop"],
        "forward": [
            hook.format("forward"),
            'iifname "cfi-*" jump within',
            'iifname "cfc-*" jump within',
            'iifname "cfs-*" jump within',
            'oifname "cfi-*" jump within',
            'oifname "cfc-*" jump within',
            'oifname "cfs-*" jump within',
            'oifname "cfe-*" jump into_edge',
        ],
        "within": ["iifname . oifname @same_bridge accept", "counter drop"],
        "into_edge": [
            "ct state established,related accept",
            "iifname . oifname @same_bridge accept",
            "counter drop",
        ],
    }


def test_firewall_lets_each_bridge_talk_to_itself_alone(machine: Host) -> None:
    elements = " ".join(rules(machine, "set")["same_bridge"]).split("elements = {")[1].rstrip(" }")
    pairs = {tuple(name.strip(' "') for name in pair.split(" . ")) for pair in elements.split(",")}
    ours = {(bridge, bridge) for bridge in BRIDGES}
    # The bridge of sandboxes that may reach their egress is known before it is there.
    sandboxes = {(f"cfs-{digest}", f"cfs-{digest}") for digest in DIGEST.values()}
    assert pairs == ours | sandboxes


def test_firewall_opens_no_service_of_the_machine(machine: Host) -> None:
    assert not any("elements" in line for line in rules(machine, "set")["host_services"])


def test_firewall_is_loaded_before_docker_at_boot(machine: Host) -> None:
    unit = machine.service("clawfactory-firewall")
    assert unit.is_enabled
    assert {"docker.service", "network-pre.target"} <= set(unit.systemd_properties["Before"].split())
