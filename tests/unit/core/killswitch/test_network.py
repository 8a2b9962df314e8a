from __future__ import annotations

import os
import shutil
import stat
import subprocess

import pytest

from clawfactory_core import names
from clawfactory_core.errors import InvalidInput
from clawfactory_core.killswitch import network
from clawfactory_core.killswitch.network import Exceptions, Network, NetworkError

ALLOWED = Exceptions(("192.0.2.7/32", "2001:db8::/64"), (22, 2222))
BRIDGES = network.bridges_of(["bot1", "bot2"])

needs_nft = pytest.mark.skipif(
    shutil.which("nft") is None or os.geteuid() != 0,
    reason="nft is for root on Linux; the machine tests load it in any case",
)


@pytest.fixture
def nft(tmp_path):
    """An nft of which a test says what it does: it keeps what it is given, and refuses what holds a word."""
    program = tmp_path / "nft"

    def make(refuses: str = "nothing of it", listing: str = "", code: int = 0) -> Network:
        program.write_text(
            f"#!/bin/sh\nif test \"$1\" = list; then printf '%s' '{listing}'; exit {code}; fi\n"
            f"cat > {tmp_path}/last\ncat {tmp_path}/last >> {tmp_path}/all\n"
            f"if grep -q '{refuses}' {tmp_path}/last; then echo refused >&2; exit 1; fi\n"
        )
        program.chmod(stat.S_IRWXU)
        return Network(str(program), tmp_path / "links")

    return make


def test_bridges_follow_from_the_names_alone():
    assert network.bridges_of(["bot1"]) == sorted(names.bridge("bot1", kind) for kind in network.BRIDGE_KINDS)


@needs_nft
@pytest.mark.parametrize(
    "script",
    [
        network.render_cut(BRIDGES),
        network.render_cut([]),
        network.render_cut(BRIDGES, ALLOWED),
        network.render_cut([], Exceptions()),
        network.render_ports(["veth1"]),
        network.render_ports([]),
        network.render_open(BRIDGES, ["veth1"]),
        network.render_open(BRIDGES, []),
        network.render_open_machine(),
        network.render_removal(),
    ],
)
def test_script_is_accepted_by_nft(script):
    done = subprocess.run(["nft", "-c", "-f", "-"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_rule_looks_at_a_state():
    assert "ct state" not in network.render_cut(BRIDGES, ALLOWED)


def test_no_table_but_ours_is_touched():
    for script in (network.render_cut(BRIDGES, ALLOWED), network.render_open(BRIDGES, ["v"]), network.render_removal()):
        for line in script.splitlines():
            assert line.split()[3] == "clawfactory_lock", line
            assert not line.startswith("flush ruleset")


def test_cut_of_the_machine_ends_in_drops():
    lines = network.render_cut([], ALLOWED).splitlines()
    for chain in ("machine_input", "machine_output", "machine_forward"):
        rules = [line for line in lines if line.startswith(f"add rule inet clawfactory_lock {chain} ")]
        assert rules[-1].endswith("counter drop")
    assert any("ip saddr { 192.0.2.7/32 } tcp dport { 22, 2222 } accept" in line for line in lines)
    assert any("ip6 daddr { 2001:db8::/64 } tcp sport { 22, 2222 } accept" in line for line in lines)


def test_nobody_is_let_in_where_nobody_is_named():
    accepted = [line for line in network.render_cut([], Exceptions((), (22,))).splitlines() if "accept" in line.split()]
    assert not any("tcp" in line for line in accepted)


def test_cut_comes_in_one_transaction_before_what_a_kernel_may_lack(nft, tmp_path):
    cut = nft("ibrname").cut(["bot1"])
    assert (cut.how, cut.frames, cut.problems) == ("nft", "ports", [])
    assert (tmp_path / "all").read_text().startswith(network.render_cut(network.bridges_of(["bot1"])))


def test_kernel_without_bridge_tables_is_said(nft):
    cut = nft("table bridge").cut(["bot1"])
    assert (cut.how, cut.frames) == ("nft", "") and "frames between containers" in cut.problems[0]


def test_ports_of_the_bridges(nft, tmp_path):
    bridge = names.bridge("bot1", "inside")
    for port in ("veth2", "veth1"):
        (tmp_path / "links" / bridge / "brif" / port).mkdir(parents=True)
    assert nft().ports([bridge, "cfi-00000000"]) == ["veth1", "veth2"]


def test_without_nft_the_bridges_are_taken_down(tmp_path):
    """None of them exists here, so that nothing is left to take down."""
    cut = Network(str(tmp_path / "absent"), tmp_path / "links").cut(["bot1"])
    assert (cut.how, cut.frames) == ("links", "links") and "nft cannot be run" in cut.problems[0]


def test_nft_that_hangs_is_not_waited_for(nft, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "_SECONDS", 0.1)
    (tmp_path / "nft").write_text("#!/bin/sh\nexec sleep 600\n")
    (tmp_path / "nft").chmod(0o700)
    assert Network(str(tmp_path / "nft"), tmp_path / "links").cut(["bot1"]).how == "links"


@pytest.mark.parametrize(
    ("listing", "expected"),
    [
        ("iifname @bridges oifname @bridges " + " ".join(network.bridges_of(["bot1"])), True),
        ("iifname @bridges " + " ".join(network.bridges_of(["bot1"])), False),
        ("iifname @bridges oifname @bridges " + " ".join(network.bridges_of(["bot1"])[:3]), False),
    ],
)
def test_is_cut_asks_for_every_bridge_and_rule(nft, listing, expected):
    assert nft(listing=listing).is_cut(["bot1"]) is expected


def test_open_that_does_not_work_is_an_error(nft):
    with pytest.raises(NetworkError, match="refused"):
        nft("table").open(["bot1"], last=True)


@pytest.mark.parametrize("text", ["", "here", "192.0.2.7; drop", "192.0.2.7/40", "} ; flush ruleset"])
def test_allowed_addresses_are_parsed(text):
    with pytest.raises(InvalidInput, match="lockdown_allow"):
        network.parse_allowed([text])


def test_allowed_address_in_its_forms():
    assert network.parse_allowed(["192.0.2.7", "192.0.2.7/24", "2001:db8::1"]) == (
        "192.0.2.7/32", "192.0.2.0/24", "2001:db8::1/128",
    )  # fmt: skip
