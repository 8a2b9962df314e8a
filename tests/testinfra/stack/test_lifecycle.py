"""The playbooks of a bot's life, on one that has a neighbour: only the one that is named is touched."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

from testinfra.host import Host

from tests.support.machines import docker, wait_until_up
from tests.support.polling import wait_for

from .conftest import BOTS, MACHINE, PARTS, Inspect, Play

# What a drain of OpenClaw would take is five minutes; the role promises this much, and the rest is Ansible.
# Nothing listens there.
NOWHERE = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
STOP_SECONDS = 20
ANSIBLE_SECONDS = 15
# As long as the dead gateway's lease lasts.
LEASE_SECONDS = 300
PORTS = {"bot1": 18789, "bot2": 18909}


def states(machine: Host, bot: str) -> dict[str, str]:
    """State of each part's container."""
    listing = machine.check_output("docker ps --all --filter label=clawfactory.bot=%s --format '{{json .}}'", bot)
    rows = [json.loads(line) for line in listing.splitlines()]
    return {row["Names"].removeprefix(f"clawfactory-{bot}-"): row["State"] for row in rows}


def ready(machine: Host, port: int) -> bool:
    probe = machine.run("curl --silent --fail --max-time 5 http://127.0.0.1:%s/readyz", str(port))
    return bool(probe.rc == 0)


def test_status_shows_every_bot(play: Play, tmp_path: Path) -> None:
    run = play("playbooks/status.yml").succeeded()
    assert run.changed == []
    text = json.dumps(run.report)
    assert "bot1" in text
    assert "127.0.0.1:18909" in text
    facts = tmp_path / "status.json"
    files = f"status_json_file={facts} status_html_file={tmp_path}/status.html"
    play("playbooks/status.yml", "--extra-vars", files).succeeded()
    assert (tmp_path / "status.html").read_text().count('<td class="healthy">healthy') == 2
    assert [bot["bot"] for bot in json.loads(facts.read_text())] == ["bot1", "bot2"]


def test_status_names_a_bot_whose_machine_cannot_be_reached(play: Play, tmp_path: Path) -> None:
    inventory, facts = tmp_path / "more.json", tmp_path / "status.json"
    inventory.write_text(json.dumps({"bots": {"hosts": {"far": NOWHERE}}}))
    more = ("--inventory", str(inventory), "--extra-vars", f"status_json_file={facts}")
    run = play("playbooks/status.yml", *more)
    assert run.returncode == 2
    assert {bot: stats["failures"] for bot, stats in run.stats.items()} == {"bot1": 0, "bot2": 0, "far": 1}
    known = {bot["bot"]: (bot["state"], bot["lock"]) for bot in json.loads(facts.read_text())}
    assert known == {"bot1": ("healthy", ""), "bot2": ("healthy", ""), "far": ("unknown", "unknown")}


def test_stop_ends_within_its_bound_and_touches_no_other_bot(machine: Host, play: Play) -> None:
    before = time.monotonic()
    play("playbooks/stop.yml", "--limit", "bot1").succeeded()
    assert time.monotonic() - before < STOP_SECONDS + ANSIBLE_SECONDS
    assert states(machine, "bot1") == dict.fromkeys(PARTS, "exited")
    assert states(machine, "bot2") == dict.fromkeys(PARTS, "running")
    assert ready(machine, 18909)


def test_stop_again_changes_nothing(play: Play) -> None:
    assert play("playbooks/stop.yml", "--limit", "bot1").succeeded().changed == []


def test_start_brings_it_back(machine: Host, play: Play) -> None:
    play("playbooks/start.yml", "--limit", "bot1").succeeded()
    assert states(machine, "bot1") == dict.fromkeys(PARTS, "running")
    assert ready(machine, 18789)


def test_killed_gateway_starts_again_without_waiting_for_its_lease(machine: Host, play: Play) -> None:
    machine.check_output("docker kill --signal KILL clawfactory-bot1-gateway")
    wait_for("the end of the gateway", lambda: states(machine, "bot1")["gateway"] == "exited", 20)
    before = time.monotonic()
    play("playbooks/start.yml", "--limit", "bot1").succeeded()
    assert ready(machine, 18789)
    assert time.monotonic() - before < LEASE_SECONDS / 3


def test_crashed_gateway_comes_back_by_itself(machine: Host, inspect: Inspect) -> None:
    """Killed from the machine's side, as the kernel does it when memory runs out: Docker's restart policy applies."""
    restarts = inspect("bot1", "gateway")["RestartCount"]
    machine.check_output("kill -KILL %s", str(inspect("bot1", "gateway")["State"]["Pid"]))
    wait_for("a restart", lambda: inspect("bot1", "gateway")["RestartCount"] > restarts, 30)
    wait_for("a ready gateway", lambda: ready(machine, 18789), LEASE_SECONDS / 3, every=1)


def test_restart_makes_a_new_process_in_the_same_container(machine: Host, play: Play, inspect: Inspect) -> None:
    before = inspect("bot1", "gateway")
    play("playbooks/restart.yml", "--limit", "bot1").succeeded()
    after = inspect("bot1", "gateway")
    assert after["Id"] == before["Id"]
    assert after["State"]["StartedAt"] != before["State"]["StartedAt"]
    assert ready(machine, 18789)


def test_bot_over_its_disk_limit_is_stopped_until_it_is_below(machine: Host, play: Play) -> None:
    """By the watcher as systemd runs it; OpenClaw's databases alone take more than the limit."""
    # Whether it succeeds is a race: the watcher stops the bot at its next look, which may be before the play ends.
    play("site.yml", "--limit", "bot1", "--extra-vars", "gateway_disk_mb=1")
    wait_for("the stop of bot1's gateway", lambda: states(machine, "bot1")["gateway"] == "exited", 45)
    refused = play("playbooks/start.yml", "--limit", "bot1")
    assert refused.returncode != 0
    for text in ("bot1", "gateway_disk_mb", "site.yml"):
        assert text in refused.failures["bot1"], refused.failures["bot1"]
    assert states(machine, "bot1")["gateway"] == "exited"
    assert states(machine, "bot2")["gateway"] == "running"
    play("site.yml", "--limit", "bot1").succeeded()
    assert ready(machine, PORTS["bot1"])


def test_bots_and_firewall_come_back_with_the_machine(machine: Host) -> None:
    docker("restart", "--time", "60", MACHINE)
    wait_until_up(MACHINE)
    for bot in BOTS:
        wait_for(f"a ready {bot}", partial(ready, machine, PORTS[bot]), LEASE_SECONDS / 3, every=1)
        assert states(machine, bot) == dict.fromkeys(PARTS, "running")
    started = {
        unit: int(machine.service(unit).systemd_properties["ActiveEnterTimestampMonotonic"])
        for unit in ("clawfactory-firewall", "docker")
    }
    assert 0 < started["clawfactory-firewall"] < started["docker"]
    assert "cfi-835e7134" in machine.check_output("nft list table inet clawfactory")


def test_work_on_the_machine_is_done_once_for_both_bots(machine: Host, play: Play) -> None:
    """Counted in a run that finds the machine's own services to be of another version."""
    machine.check_output("rm /srv/clawfactory/lib/.digest")
    run = play("site.yml").succeeded()
    done = run.hosts_of("host : Install | ") | run.hosts_of("host : Units | ")
    (shared,) = run.hosts_of("host : Share | ").values()
    assert {*shared} == {*BOTS}, "both bots went through the run"
    assert {"host : Units | Our services and the core", "host : Units | Restart our services"} <= {*done}
    assert {tuple(hosts) for hosts in done.values()} == {("bot1",)}, done
    assert run.changed != [] and all(line.startswith("bot1: host : ") for line in run.changed), run.changed


def test_deploy_after_all_that_changes_nothing(play: Play) -> None:
    assert play("site.yml").succeeded().changed == []
