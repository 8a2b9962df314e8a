"""The machine's own schedule: a confined unit that makes a snapshot of a running bot, and opens nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from testinfra.host import Host

from .conftest import BOTS, Play

ROOT = "/srv/clawfactory"
# Inverts the bits of one byte of a file.
DAMAGE = """
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(1000)
    byte = file.read(1)[0]
    file.seek(1000)
    file.write(bytes([byte ^ 255]))
"""


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


def test_damaged_archive_fails_the_unit_and_the_status_says_so(
    machine: Host, play: Play, tmp_path_factory: pytest.TempPathFactory
) -> None:
    unit = "clawfactory-snapshot-bot2.service"

    def status() -> dict[str, Any]:
        file = tmp_path_factory.mktemp("status") / "status.json"
        run = play("playbooks/status.yml", "--extra-vars", f"status_json_file={file}").succeeded()
        found: dict[str, Any] = next(each for each in json.loads(file.read_text()) if each["bot"] == "bot2")
        return {**found, "told": run.report}

    machine.check_output("systemctl start %s", unit)
    latest = machine.check_output(f"readlink {ROOT}/snapshots/bot2/latest")
    record = f"{ROOT}/snapshots/bot2/{latest.removesuffix('.tar.zst.age')}.json"
    assert json.loads(machine.file(record).content_string)["verified_how"] == "digest"
    assert status()["snapshot"] == "verified"
    machine.check_output("python3 -c %s %s", DAMAGE, f"{ROOT}/snapshots/bot2/{latest}")
    try:
        assert machine.run("systemctl start %s", unit).rc != 0
        assert machine.service(unit).systemd_properties["Result"] == "exit-code"
        assert unit in machine.check_output("systemctl --failed --no-legend --plain")
        assert f"bot2: {latest}" in machine.check_output("journalctl --unit %s --no-pager --quiet", unit)
        found = status()
        assert (found["snapshot"], latest in found["snapshot_problem"]) == ("failed", True)
        assert "bot2: the last scheduled snapshot failed" in json.dumps(found["told"])
    finally:
        # The next one builds upon nothing that is damaged.
        machine.check_output("systemctl start %s", unit)
    assert machine.service(unit).systemd_properties["Result"] == "success"
    assert machine.check_output(f"readlink {ROOT}/snapshots/bot2/latest").endswith(".full.tar.zst.age")
    assert status()["snapshot"] == "verified"


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
