from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clawfactory_core.errors import CoreError, InvalidInput
from clawfactory_core.remote_access import (
    addresses,
    parse_remote_access,
    published,
    published_file,
    read_published,
    read_standing,
    serve_routes,
)
from tests.support.tailscale import FakeTailscale

TUNNEL = "6ff42ae2-765d-4adf-8112-31c55c1551ef"
SECRET = "aHVzaC1odXNoLWh1c2g="
TAILSCALE = {"remote_access": "tailscale", "remote_access_hostname": "m.tail1234.ts.net"}
CREDENTIALS = {"AccountTag": "a", "TunnelSecret": SECRET, "TunnelID": TUNNEL}
CLOUDFLARE = {
    "remote_access": "cloudflare", "remote_access_hostname": "bots.example.com",
    "remote_access_cloudflare_team": "acme", "remote_access_cloudflare_audiences": ["0a" * 32],
    "remote_access_cloudflare_credentials": json.dumps(CREDENTIALS),
}  # fmt: skip
BOT = {"gateway_port": 18789, "controller_port": 8080, "webhook": False}


def parse(variables: dict[str, Any], init: str = "systemd", **mates: dict[str, Any]) -> dict[str, Any]:
    return parse_remote_access("bot1", variables, init, mates)


def test_nobody_who_asked_for_nothing_is_refused_anything():
    assert parse({}, "none") == {"kind": "none"}
    assert addresses({"kind": "none"}, "bot1", 18789) == {}


@pytest.mark.parametrize(("wanted", "changed", "told"), [
    ({}, {"remote_access": "tailscal"}, "did you mean 'tailscale'?"),
    (TAILSCALE, {"remote_access_hostname": ""}, "remote_access_hostname"),
    (TAILSCALE, {"remote_access_hostname": "m.example.com"}, "end in .ts.net"),
    (TAILSCALE, {"remote_access_hostname": "m.tail1234.ts.net:443"}, "without a port"),
    (TAILSCALE, {"remote_access_hostname": "M.tail1234.ts.net"}, "lower case"),
    (TAILSCALE, {"remote_access_hostname": 'x" 1; "y.ts.net'}, "whole name"),
    (TAILSCALE, {"remote_access_hostname": "m.tail1234.ts.net\n"}, "whole name"),
    (TAILSCALE, {"remote_access_tailscale_authkey": "hush hush"}, "no auth key"),
    (CLOUDFLARE, {"remote_access_hostname": f"{'x' * 60}.example.com"}, "at most 63"),
    (CLOUDFLARE, {"remote_access_cloudflare_team": ""}, "without Cloudflare Access nothing is published"),
    (CLOUDFLARE, {"remote_access_cloudflare_team": "acme.cloudflareaccess.com"}, "before .cloudflareaccess.com"),
    (CLOUDFLARE, {"remote_access_cloudflare_audiences": []}, "without Cloudflare Access nothing is published"),
    (CLOUDFLARE, {"remote_access_cloudflare_audiences": "0a" * 32}, "give a list"),
    (CLOUDFLARE, {"remote_access_cloudflare_audiences": ["hush"]}, "64 hex digits"),
    (CLOUDFLARE, {"remote_access_cloudflare_webhook": "no"}, "true or false"),
    (CLOUDFLARE, {"remote_access_cloudflare_credentials": ""}, "into the vault"),
    (CLOUDFLARE, {"remote_access_cloudflare_credentials": SECRET}, "into the vault"),
    (CLOUDFLARE, {"remote_access_cloudflare_credentials": {"TunnelSecret": SECRET, "TunnelID": TUNNEL}}, "vault"),
    (CLOUDFLARE, {"remote_access_cloudflare_credentials": {**CREDENTIALS, "TunnelID": "../x"}}, "vault"),
])  # fmt: skip
def test_bad_value_is_refused_with_the_way_out_and_no_secret(wanted, changed, told):
    with pytest.raises(InvalidInput) as refusal:
        parse({**wanted, **changed})
    assert "bot1" in str(refusal.value) and next(iter(changed)) in str(refusal.value)
    assert told in str(refusal.value)
    assert SECRET not in str(refusal.value)
    assert "hush hush" not in str(refusal.value)


def test_machine_without_systemd_is_refused():
    with pytest.raises(InvalidInput, match="systemd"):
        parse(TAILSCALE, "none")


def test_bots_of_a_machine_have_to_agree():
    assert parse(TAILSCALE, bot1=TAILSCALE, bot2=TAILSCALE)["kind"] == "tailscale"
    with pytest.raises(InvalidInput, match="bot2 of the same machine has none"):
        parse(TAILSCALE, bot1=TAILSCALE, bot2={})


def test_every_gateway_has_an_origin_of_its_own_that_is_no_controllers():
    for variables in (TAILSCALE, CLOUDFLARE):
        access = parse(variables)
        found = [addresses(access, bot, port) for bot, port in (("bot1", 18789), ("bot2", 18909))]
        gateways = {one["gateway"] for one in found}
        assert len(gateways) == 2
        assert gateways.isdisjoint({f"https://{one['controller_host']}" for one in found})
        assert [one["controller"].removeprefix(f"https://{access['hostname']}") for one in found] == [
            "/bot1/controller/", "/bot2/controller/",
        ]  # fmt: skip


def test_bots_that_are_in_no_run_stay_published_and_those_that_leave_do_not():
    access = parse(TAILSCALE)
    first = published({"kind": "none", "bots": {}}, access, "1", {"bot2": BOT, "bot1": BOT}, [])
    assert list(first["bots"]) == ["bot1", "bot2"]
    moved = published(first, access, "1", {"bot1": {**BOT, "gateway_port": 1}}, [])
    assert (moved["bots"]["bot1"]["gateway_port"], moved["bots"]["bot2"]) == (1, BOT)
    assert list(published(first, access, "1", {}, ["bot1"])["bots"]) == ["bot2"]
    nothing = {"kind": "none", "bots": {}}
    assert published(first, access, "1", {}, ["bot1", "bot2"]) == nothing
    assert published(first, {"kind": "none"}, "1", {"bot1": BOT}, []) == nothing


def test_serve_gets_back_the_path_that_it_cuts_off():
    record = published({"bots": {}}, parse(TAILSCALE), "1", {"bot1": BOT}, [])
    assert serve_routes(record) == [
        {"port": 443, "path": "/bot1", "target": "http://127.0.0.1:8080/bot1"},
        {"port": 18789, "path": "/", "target": "http://127.0.0.1:18789"},
    ]
    assert serve_routes(published({"bots": {}}, parse(CLOUDFLARE), "1", {"bot1": BOT}, [])) == []


def test_record_that_cannot_be_read_is_not_taken_for_nothing(tmp_path: Path):
    assert read_published(tmp_path) == {"kind": "none", "bots": {}}
    published_file(tmp_path).parent.mkdir()
    published_file(tmp_path).write_text("{")
    with pytest.raises(CoreError, match=r"published\.json cannot be read"):
        read_published(tmp_path)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeTailscale:
    """A machine that publishes bot1 by Tailscale, as it was left."""
    record = {"kind": "tailscale", "hostname": "m.tail1234.ts.net", "version": "1", "bots": {"bot1": BOT}}
    published_file(tmp_path).parent.mkdir()
    published_file(tmp_path).write_text(json.dumps(record))
    (tmp_path / "tailscale").mkdir()
    tailscale = FakeTailscale(tmp_path / "tailscale", monkeypatch, "m.tail1234.ts.net")
    for route in serve_routes(record):
        tailscale.have(route["port"], route["path"], route["target"])
    return tailscale


def test_routes_that_stand_as_they_were_given_are_as_recorded(served: FakeTailscale, tmp_path: Path):
    assert read_standing(tmp_path) == read_published(tmp_path)


def test_funnel_and_routes_that_were_taken_away_are_seen(served: FakeTailscale, tmp_path: Path):
    funnel = {**served.state["serve"], "AllowFunnel": {"m.tail1234.ts.net:18789": True}}
    for other in (funnel, {}):
        served.serve(other)
        assert read_standing(tmp_path) == {**read_published(tmp_path), "changed": True}


def test_a_machine_that_does_not_tell_is_looked_at_again(served: FakeTailscale, tmp_path: Path):
    def fail(_arguments: list[str]) -> str:
        raise CoreError("tailscaled does not run")

    assert read_standing(tmp_path, fail)["changed"]
