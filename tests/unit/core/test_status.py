from __future__ import annotations

from typing import Any

import pytest

from clawfactory_core.status import SERVICES, bot_status, table, unreachable

ENTRY = {"slot": 0, "gateway_port": 18789, "controller_port": 8080}

LOCK = {"actor": "alice", "time": "2027-01-15T08:00:00+00:00", "reason": "talks to strangers"}


def container(service: str, status: str = "running", health: str = "healthy", bot: str = "bot1") -> dict[str, Any]:
    return {
        "bot": bot, "service": service, "status": status, "health": health, "restarts": 3, "started_at": "t",
        "image": "clawfactory-gateway:2026.9.6-0123456789ab",
    }  # fmt: skip


def machine(*containers: dict[str, Any], **more: Any) -> dict[str, Any]:
    listed = {f"clawfactory-{item['bot']}-{item['service']}": item for item in containers}
    docker = {"available": more.pop("available", True), "containers": listed}
    return {"docker": docker, "allocations": {"bot1": ENTRY}, "approved": {}, "locked": {}, "snapshots": {}, **more}


def services(**changes: dict[str, str]) -> list[dict[str, Any]]:
    return [container(name, **changes.get(name, {})) for name in SERVICES]


@pytest.mark.parametrize(
    ("containers", "more", "state"),
    [
        (services(), {}, "healthy"),
        (services(proxy={"health": ""}), {}, "healthy"),
        (services(gateway={"health": "starting"}), {}, "starting"),
        (services(gateway={"health": "unhealthy"}), {}, "unhealthy"),
        (services(gateway={"health": "starting"}, egress={"health": "unhealthy"}), {}, "unhealthy"),
        (services(egress={"status": "exited"}), {}, "down"),
        (services(gateway={"status": "restarting"}), {}, "down"),
        (services(gateway={"status": "paused"}), {}, "down"),
        (services()[:3], {}, "down"),
        ([container(name, "exited") for name in SERVICES], {}, "stopped"),
        ([container("gateway", "exited")], {}, "stopped"),
        ([container("gateway", "created")], {}, "stopped"),
        ([], {}, "absent"),
        ([container(name, bot="bot2") for name in SERVICES], {}, "absent"),
        ([], {"available": False}, "down"),
        (services(), {"locked": {"bot1": LOCK}}, "locked"),
        (services(), {"locked": {"bot2": LOCK}}, "healthy"),
        ([], {"locked": {"bot1": LOCK}, "available": False}, "locked"),
    ],
)
def test_state_follows_from_the_containers(containers, more, state):
    assert bot_status("bot1", machine(*containers, **more))["state"] == state


def test_facts_name_version_addresses_and_commit():
    facts = bot_status("bot1", machine(*services(), approved={"bot1": {"commit": "c" * 40}}))
    assert facts["version"] == "2026.9.6"
    assert facts["approved"] == "c" * 40
    assert facts["sandboxes"] == 0
    assert (facts["gateway_url"], facts["controller_url"]) == ("http://127.0.0.1:18789/", "http://127.0.0.1:8080/")
    assert facts["restarts"] == 3
    assert list(facts["containers"]) == list(SERVICES)
    assert set(facts["containers"]["proxy"]) == {"status", "health", "image", "started_at", "restarts"}


def test_bot_without_a_slot_has_empty_facts():
    facts = bot_status("bot9", machine())
    assert (facts["version"], facts["gateway_url"], facts["controller_url"]) == ("", "", "")
    assert (facts["approved"], facts["restarts"], facts["containers"]) == ("", 0, {})


def test_table_aligns_and_shortens():
    first = bot_status("bot1", machine(*services(), approved={"bot1": {"commit": "c" * 40}}))
    lines = table([first, unreachable("a-bot-with-a-long-name")])
    assert len(lines) == 3
    start = lines[0].index("state")
    assert lines[1][start:].startswith("healthy") and lines[2][start:].startswith("unknown")
    assert "c" * 12 in lines[1] and "c" * 13 not in lines[1]
    assert "http://127.0.0.1:18789/" in lines[1] and "http://127.0.0.1:8080/" in lines[1]
    assert [line.rstrip() for line in lines] == lines


def test_empty_table_has_a_header():
    assert len(table([])) == 1


def test_sandboxes_are_counted_and_do_not_make_a_bot():
    boxes = [{**container("sandbox"), "name": name} for name in ("a", "b")]
    facts = machine(*services())
    facts["docker"]["containers"] |= {f"clawfactory-bot1-sbx-{item['name']}": item for item in boxes}
    status = bot_status("bot1", facts)
    assert (status["sandboxes"], status["state"], list(status["containers"])) == (2, "healthy", list(SERVICES))
    only = machine()
    only["docker"]["containers"] = {"clawfactory-bot1-sbx-a": boxes[0]}
    assert bot_status("bot1", only)["state"] == "absent"


def test_lock_says_who_when_and_why():
    facts = bot_status("bot1", machine(*services(), locked={"bot1": LOCK}))
    assert facts["lock"] == "by alice at 2027-01-15T08:00:00+00:00: talks to strangers"
    assert "by alice" in table([facts])[1]
    assert bot_status("bot2", machine(*services(), locked={"bot1": LOCK}))["lock"] == ""
    assert unreachable("bot3")["lock"] == "unknown"


def test_a_scheduled_snapshot_that_failed_is_said_below_the_table():
    run = {"state": "failed", "time": "2027-01-15T03:12:44.123456Z", "snapshot": "a", "problem": "a.age is damaged"}
    good = {"state": "verified", "time": "2027-01-15T03:20:00.000000Z", "snapshot": "b", "problem": ""}
    facts = machine(*services(), snapshots={"bot1": run, "bot2": good})
    assert bot_status("bot1", facts)["snapshot_problem"] == "a.age is damaged"
    lines = table(
        [bot_status("bot1", facts), bot_status("bot2", facts), bot_status("bot3", facts), unreachable("bot4")]
    )
    assert "failed 2027-01-15T03:12  " in lines[1] + "  "
    assert "verified 2027-01-15T03:20" in lines[2]
    assert lines[5:] == ["bot1: the last scheduled snapshot failed: a.age is damaged"]


def test_drift_is_that_of_the_bot():
    drift = ["/srv/clawfactory/run/bot1", "/srv/clawfactory/run/bot10", "/srv/clawfactory/locks"]
    assert bot_status("bot1", machine(*services(), drift=drift))["drift"] == ["/srv/clawfactory/run/bot1"]
