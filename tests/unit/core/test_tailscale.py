"""Routes of Tailscale Serve, against a stand-in for its program that keeps what ``serve status --json`` prints."""

from __future__ import annotations

from typing import Any

import pytest

from clawfactory_core.errors import Conflict
from clawfactory_core.tailscale import Route, apply_serve, plan_serve, read_status, run_tailscale
from tests.support.tailscale import FakeTailscale

NAME = "m.tail1234.ts.net"
CONTROLLER = Route(443, "/bot1", "http://127.0.0.1:8080/bot1")
GATEWAY = Route(18789, "/", "http://127.0.0.1:18789")


@pytest.fixture
def tailscale(tmp_path, monkeypatch) -> FakeTailscale:
    return FakeTailscale(tmp_path, monkeypatch, NAME)


def settle(wanted: list[Route], applied: list[Route]) -> bool:
    plan = plan_serve(read_status(run_tailscale), NAME, wanted, applied)
    apply_serve(plan, run_tailscale)
    return plan.changed


def test_routes_come_stay_and_go(tailscale):
    assert settle([CONTROLLER, GATEWAY], [])
    assert tailscale.handlers == {
        (443, "/bot1"): CONTROLLER.target, (18789, "/"): GATEWAY.target,
    }  # fmt: skip
    assert not settle([CONTROLLER, GATEWAY], [CONTROLLER, GATEWAY])
    moved = Route(443, "/bot1", "http://127.0.0.1:8081/bot1")
    assert settle([moved], [CONTROLLER, GATEWAY])
    assert tailscale.handlers == {(443, "/bot1"): moved.target}
    assert settle([], [moved])
    assert tailscale.handlers == {}
    assert {call[0] for call in tailscale.calls} == {"serve"}, "Funnel is never used"


def test_what_is_not_ours_stays_as_it_is(tailscale):
    tailscale.have(443, "/", "http://127.0.0.1:9000")
    settle([CONTROLLER], [])
    settle([], [CONTROLLER, GATEWAY])
    assert tailscale.handlers == {(443, "/"): "http://127.0.0.1:9000"}


def test_route_that_somebody_changed_is_not_taken_away(tailscale):
    tailscale.have(443, "/bot1", "http://127.0.0.1:9000")
    assert not settle([], [CONTROLLER])


@pytest.mark.parametrize(("status", "told"), [
    ({"AllowFunnel": {f"{NAME}:443": True}, "TCP": {"443": {"HTTPS": True}}}, "whole internet"),
    ({"TCP": {"443": {"TCPForward": "127.0.0.1:22"}}}, "serves"),
    ({"Web": {f"{NAME}:443": {"Handlers": {"/bot1": {"Path": "/srv"}}}}}, "set-path=/bot1 off"),
])  # fmt: skip
def test_port_or_path_of_others_is_refused(status: dict[str, Any], told: str):
    with pytest.raises(Conflict, match=told):
        plan_serve(status, NAME, [CONTROLLER], [])
