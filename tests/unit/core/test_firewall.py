from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from clawfactory_core import names
from clawfactory_core.firewall import render_table


def bot(name: str, *ports: int) -> dict[str, object]:
    return {"bridges": {kind: names.bridge(name, kind) for kind in names.NETWORKS}, "host_ports": list(ports)}


BOTS = [bot("bot1", 11434, 80), bot("bot2"), bot("bot3", 11434)]


def chain(table: str, name: str) -> list[str]:
    body = re.search(rf"    chain {name} {{\n(.*?)\n    }}", table, re.S)
    assert body, name
    return [line.strip() for line in body[1].splitlines()]


def nft_accepts(table: str) -> None:
    """The machine's own nft where there is one and we may ask it; else what it would object to first."""
    if shutil.which("nft") and os.geteuid() == 0:
        done = subprocess.run(["nft", "-c", "-f", "-"], input=table, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    assert table.count("{") == table.count("}")
    assert "elements = { }" not in table


@pytest.mark.parametrize("count", [0, 1, 3])
def test_table_is_accepted_by_nft(count):
    nft_accepts(render_table(BOTS[:count]))


def test_table_is_stable():
    assert render_table(iter(BOTS)) == render_table(BOTS)
    reordered = [
        {"bridges": dict(reversed(item["bridges"].items())), "host_ports": item["host_ports"]} for item in BOTS
    ]
    assert render_table(reordered) == render_table(BOTS)


def test_loading_replaces_the_old_table():
    lines = [line for line in render_table(BOTS).splitlines() if line.startswith(("table", "delete"))]
    assert lines == ["table inet clawfactory", "delete table inet clawfactory", "table inet clawfactory {"]


def test_every_bridge_may_talk_to_itself_only():
    pairs = re.findall(r'"(cf[a-z]-\w{8})" \. "(cf[a-z]-\w{8})"', render_table(BOTS))
    assert {one for one, _ in pairs} == {bridge for item in BOTS for bridge in item["bridges"].values()}
    assert all(one == other for one, other in pairs)


def test_services_of_the_host_are_open_to_the_egress_of_their_bot_only():
    found = re.findall(r'"(cf[a-z]-\w{8})" \. (\d+)', render_table(BOTS))
    one, three = names.bridge("bot1", "edge"), names.bridge("bot3", "edge")
    assert found == [(one, "80"), (one, "11434"), (three, "11434")]


@pytest.mark.parametrize(("name", "last"), [("to_host", 2), ("within", 2), ("into_edge", 3)])
def test_chains_end_in_a_drop(name, last):
    rules = chain(render_table(BOTS), name)
    assert rules[-1] == "counter drop" and len(rules) == last


def test_every_kind_of_bridge_is_caught_on_its_way_to_the_host():
    rules = chain(render_table(BOTS), "input")
    caught = dict(re.findall(r'iifname "(cf.-)\*" jump (\w+)', "\n".join(rules)))
    assert caught == {"cfi-": "to_host", "cfc-": "to_host", "cfs-": "to_host", "cfe-": "edge_to_host"}
    assert chain(render_table(BOTS), "edge_to_host")[-1] == "jump to_host"


def test_established_flows_never_cross_internal_networks():
    rules = chain(render_table(BOTS), "within")
    assert rules[0] == "iifname . oifname @same_bridge accept"
