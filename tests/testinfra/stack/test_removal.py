"""``remove`` takes a bot's containers and keeps its data; only a purge ends them."""

from __future__ import annotations

import pytest
from testinfra.host import Host

from .conftest import PARTS, Play
from .test_lifecycle import ready, states


@pytest.fixture(scope="module")
def token(machine: Host) -> str:
    text: str = machine.check_output("cat /srv/clawfactory/secrets/bot1/gateway.env")
    return text


def leftovers(machine: Host, bot: str) -> list[str]:
    """Files of a bot on the machine."""
    text: str = machine.check_output(f"find /srv/clawfactory -path '*/{bot}*' -not -path '*/venv/*'")
    return text.split()


def test_remove_keeps_data_and_the_other_bot(machine: Host, play: Play, token: str) -> None:
    marker = "/srv/clawfactory/bot_repos/bot1/state/marker-of-the-test"
    machine.check_output("install -o 20001 -g 20001 -m 0600 /dev/null %s", marker)
    image = machine.check_output("docker inspect --format '{{.Config.Image}}' clawfactory-bot1-proxy")
    machine.check_output(
        "docker run -d --name clawfactory-bot1-sbx-1 --network none --label clawfactory.bot=bot1 "
        "--label clawfactory.service=sandbox %s sleep infinity",
        image,
    )
    assert states(machine, "bot1")["sbx-1"] == "running"
    play("playbooks/remove.yml", "--limit", "bot1").succeeded()
    assert states(machine, "bot1") == {}
    assert "clawfactory-bot1" not in machine.check_output("docker network ls")
    assert machine.file(marker).exists
    assert states(machine, "bot2") == dict.fromkeys(PARTS, "running")
    assert ready(machine, 18909)


def test_remove_again_changes_nothing(play: Play) -> None:
    assert play("playbooks/remove.yml", "--limit", "bot1").succeeded().changed == []


def test_deploy_after_remove_finds_its_data_and_tokens(machine: Host, play: Play, token: str) -> None:
    play("site.yml", "--limit", "bot1").succeeded()
    assert ready(machine, 18789)
    assert machine.file("/srv/clawfactory/bot_repos/bot1/state/marker-of-the-test").exists
    assert machine.check_output("cat /srv/clawfactory/secrets/bot1/gateway.env") == token


def test_purge_leaves_nothing_of_the_bot_and_all_of_the_other(machine: Host, play: Play) -> None:
    others = leftovers(machine, "bot2")
    play("playbooks/remove.yml", "--limit", "bot1", "--extra-vars", "remove_purge=true remove_confirm=bot1").succeeded()
    assert leftovers(machine, "bot1") == []
    assert "snapshot-bot1" not in machine.check_output("ls /etc/systemd/system /etc/cron.d; systemctl list-units --all")
    assert "bot1" not in machine.check_output(
        "cat /srv/clawfactory/allocations.json /srv/clawfactory/secrets/tokens.env"
    )
    assert "835e7134" not in machine.check_output("nft list table inet clawfactory")
    assert set(others) == set(leftovers(machine, "bot2"))
    assert ready(machine, 18909)
