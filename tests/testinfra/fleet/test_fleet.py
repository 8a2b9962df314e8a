"""Several machines at once: what goes wrong on one stops nothing on another."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.polling import wait_for

from .conftest import BOTS, PARTS, Play, cut_off, machine, running

ALL = [bot for bots in BOTS.values() for bot in bots]


@pytest.mark.parametrize("bot", ALL)
def test_bot_runs_on_its_machine_alone(bot: str) -> None:
    assert running(bot) == PARTS
    other = next(name for name in BOTS if bot not in BOTS[name])
    assert bot not in machine(other).check_output("docker ps --all --format '{{.Names}}'")


def test_way_in_is_ssh_without_root() -> None:
    """Else this scenario would prove nothing about remote machines."""
    for name in BOTS:
        logins = machine(name).check_output("journalctl --no-pager --quiet --output cat --identifier sshd-session")
        assert "Accepted publickey for admin from" in logins
        assert "for root" not in logins


def test_status_has_every_bot_of_every_machine(play: Play, tmp_path: Path) -> None:
    facts = tmp_path / "status.json"
    play("playbooks/status.yml", "--extra-vars", f"status_json_file={facts}").succeeded()
    assert {bot["bot"]: bot["state"] for bot in json.loads(facts.read_text())} == dict.fromkeys(ALL, "healthy")


def test_machine_cut_off_in_the_middle_of_a_deploy_fails_its_own_bots_alone(play: Play) -> None:
    changed = ("--extra-vars", json.dumps({"egress_allow_extra": ["partition.example.org"]}))
    show = "docker inspect --format '{{.State.StartedAt}}' clawfactory-north1-egress"
    started = machine("north").check_output(show)
    with ThreadPoolExecutor(1) as pool:
        running_play = pool.submit(play, "site.yml", *changed)
        # Between the old container and the new one there is none, and that is under way, too.
        wait_for("the first change", lambda: machine("north").run(show).stdout.strip() != started, 120)
        with cut_off("south"):
            run = running_play.result()
    assert run.returncode != 0
    assert {bot: stats["failures"] + stats["unreachable"] for bot, stats in run.stats.items()} == {
        **dict.fromkeys(BOTS["north"], 0), **dict.fromkeys(BOTS["south"], 1)
    }  # fmt: skip
    for bot in BOTS["north"]:
        rules = machine("north").check_output(f"docker exec clawfactory-{bot}-egress cat /etc/clawfactory/squid.conf")
        assert "partition.example.org" in rules
    # The command that the operator is told for just those.
    play("site.yml", "--limit", "south", *changed).succeeded()
    for bot in ALL:
        assert running(bot) == PARTS


def test_lock_of_everything_takes_a_machine_that_cannot_be_reached_for_what_it_is(play: Play) -> None:
    reason = ("--extra-vars", "lockdown_reason=test")
    with cut_off("south"):
        run = play("playbooks/lockdown.yml", *reason)
    assert run.returncode != 0
    assert all(run.stats[bot]["unreachable"] + run.stats[bot]["failures"] for bot in BOTS["south"])
    assert [running(bot) for bot in BOTS["north"]] == [set(), set()]
    play("playbooks/lockdown.yml", *reason).succeeded()
    assert [running(bot) for bot in ALL] == [set()] * len(ALL)
    play("playbooks/unlock.yml").succeeded()
    assert [running(bot) for bot in ALL] == [PARTS] * len(ALL)
