"""The machine's own schedule: a confined unit that makes a snapshot of a running bot, and opens nothing."""

from __future__ import annotations

import json

import pytest
from testinfra.host import Host

from .conftest import BOTS

ROOT = "/srv/clawfactory"


@pytest.mark.parametrize("bot", BOTS)
def test_timer_waits_for_the_night(machine: Host, bot: str) -> None:
    timer = machine.service(f"clawfactory-snapshot-{bot}.timer")
    assert (timer.is_running, timer.is_enabled) == (True, True)
    assert timer.systemd_properties["Unit"] == f"clawfactory-snapshot-{bot}.service"
    assert "OnCalendar=*-*-* 03:00:00" in timer.systemd_properties["TimersCalendar"]
    assert not machine.file(f"/etc/cron.d/clawfactory-snapshot-{bot}").exists


def test_unit_makes_a_snapshot_that_opens(machine: Host) -> None:
    machine.check_output("systemctl start clawfactory-snapshot-bot1.service")
    service = machine.service("clawfactory-snapshot-bot1.service")
    assert service.systemd_properties["Result"] == "success"
    latest = machine.check_output(f"readlink {ROOT}/snapshots/bot1/latest")
    archive = machine.file(f"{ROOT}/snapshots/bot1/{latest}")
    assert (archive.uid, archive.gid, archive.mode) == (30001, 30001, 0o600)
    record = json.loads(
        machine.file(f"{ROOT}/snapshots/bot1/{latest.removesuffix('.tar.zst.age')}.json").content_string
    )
    assert (record["bot"], record["kind"], record["verified_how"]) == ("bot1", "full", "digest")
    verify = f"{ROOT}/venv/bin/python -B {ROOT}/lib/clawfactory-snapshot --root {ROOT} --verify content bot1"
    assert ".inc.tar.zst.age" in machine.check_output(verify)


def test_unit_cannot_write_elsewhere(machine: Host) -> None:
    properties = machine.service("clawfactory-snapshot-bot1.service").systemd_properties
    assert properties["ProtectSystem"] == "strict"
    assert set(properties["ReadWritePaths"].split()) == {f"{ROOT}/snapshots", f"{ROOT}/secrets", f"{ROOT}/bot_repos"}
    assert properties["PrivateNetwork"] == "yes"


def test_bot_cannot_see_its_snapshots(machine: Host) -> None:
    seen = machine.run("docker exec clawfactory-bot1-gateway sh -c 'ls /srv/clawfactory; find / -xdev -name \"*.age\"'")
    assert ".age" not in seen.stdout
    mounts = machine.check_output("docker inspect --format '{{json .Mounts}}' clawfactory-bot1-gateway")
    assert "/snapshots" not in mounts
