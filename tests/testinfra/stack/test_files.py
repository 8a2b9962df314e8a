"""Owners and modes on the machine, and that no secret is anywhere but in its file."""

from __future__ import annotations

import re

import pytest
from testinfra.host import Host

from .conftest import BOTS, PARTS, of_processes

TOP = {
    "allocations.json": "root root 644 regular file",
    "secrets": "root root 700 directory",
    "secrets/tokens.env": "root root 600 regular file",
    "audit": "root root 700 directory",
    "disk": "root root 755 directory",
    "promotion": "root root 755 directory",
    "jobs": "root root 700 directory",
    "firewall/clawfactory.nft": "root root 644 regular file",
}
PER_BOT = {
    "secrets/{bot}": "root root 700 directory",
    "secrets/{bot}/gateway.env": "root root 600 regular file",
    "secrets/{bot}/controller.env": "root root 600 regular file",
    "secrets/{bot}/snapshot.key": "root root 600 regular file",
    "secrets/{bot}/snapshot.pub": "root root 600 regular file",
    "secrets/{bot}/run/gateway.env": "{gateway} {gateway} 400 regular file",
    "secrets/{bot}/run/controller.env": "{controller} {controller} 400 regular file",
    "secrets/{bot}/run/fingerprints.json": "{controller} {controller} 400 regular file",
    "secrets/{bot}/device.key": "root root 600 regular file",
    "secrets/{bot}/run/device": "{controller} {controller} 500 directory",
    "secrets/{bot}/run/device/key": "{controller} {controller} 400 regular file",
    "secrets/{bot}/run/device/token": "{controller} {controller} 400 regular file",
    "bot_repos/{bot}": "root root 755 directory",
    "bot_repos/{bot}/state": "{gateway} {gateway} 700 directory",
    "bot_repos/{bot}/state/workspace": "{gateway} {gateway} 700 directory",
    "bot_repos/{bot}/approved": "{controller} {controller} 755 directory",
    "bot_repos/{bot}/approved/.git": "{controller} {controller} 700 directory",
    "bot_repos/{bot}/origin.git": "{controller} {controller} 700 directory",
    "bot_repos/{bot}/proposals.git": "{controller} {controller} 700 directory",
    "promotion/{bot}": "root {controller} 750 directory",
    "promotion/{bot}/denied": "root {controller} 750 directory",
    "bot_repos/{bot}/config": "root {gateway} 750 directory",
    "bot_repos/{bot}/config/openclaw.json": "root {gateway} 640 regular file",
    "bot_repos/{bot}/config/operator.json5": "root {gateway} 640 regular file",
    "run/{bot}/operator": "{controller} {proxy} 2750 directory",
    "run/{bot}/operator/controller.sock": "{controller} {proxy} 660 socket",
    "run/{bot}/jobs": "root {controller} 2750 directory",
    "run/{bot}/jobs/jobs.sock": "root {controller} 660 socket",
    "jobs/{bot}": "root root 700 directory",
    "snapshots/{bot}": "{controller} {controller} 700 directory",
    "egress/{bot}/squid.conf": "root root 644 regular file",
    "proxy/{bot}/nginx.conf": "root root 644 regular file",
}


def owned(machine: Host, path: str) -> str:
    """Owner and group by number, mode, kind."""
    text: str = machine.check_output("stat --format '%%u %%g %%a %%F' /srv/clawfactory/%s", path)
    return text


@pytest.mark.parametrize("path", TOP)
def test_file_of_the_machine_has_owner_and_mode(machine: Host, path: str) -> None:
    assert owned(machine, path) == TOP[path].replace("root", "0")


@pytest.mark.parametrize("bot", BOTS)
@pytest.mark.parametrize("path", PER_BOT)
def test_file_of_a_bot_has_owner_and_mode(machine: Host, bot: str, path: str) -> None:
    slot = BOTS.index(bot)
    uids = {"gateway": 20001 + slot, "controller": 30001 + slot, "proxy": 40001 + slot}
    expected = PER_BOT[path].format(**uids).replace("root", "0")
    assert owned(machine, path.format(bot=bot)) == expected


def test_nothing_of_ours_is_writable_for_everybody(machine: Host) -> None:
    command = "find /srv/clawfactory -xdev ! -type l ! -type s -perm -0002 ! -path '*/bot_repos/*/state/*'"
    assert machine.check_output(command) == ""


def test_approved_tree_belongs_to_no_gateway(machine: Host) -> None:
    for slot, bot in enumerate(BOTS):
        command = "find /srv/clawfactory/bot_repos/%s/approved -uid %s"
        assert machine.check_output(command, bot, str(20001 + slot)) == ""


def test_directories_of_the_system_are_as_before(machine: Host) -> None:
    for path, mode in {
        "/": "755",
        "/etc": "755",
        "/srv": "755",
        "/usr/local": "755",
        "/root": "700",
        "/tmp": "1777",
    }.items():
        assert machine.check_output("stat --format '%%u %%g %%a' %s", path) == f"0 0 {mode}"


@pytest.fixture(scope="module")
def secrets(machine: Host) -> dict[str, str]:
    """Every secret of both bots, by file and name."""
    found = {}
    for bot in BOTS:
        for file in ("gateway.env", "controller.env"):
            for line in machine.file(f"/srv/clawfactory/secrets/{bot}/{file}").content_string.splitlines():
                name, value = line.split("=", 1)
                # An age recipient is public.
                if name != "CONTROLLER_AGE_RECIPIENT":
                    found[f"{bot}/{file}/{name}"] = value
        key = machine.file(f"/srv/clawfactory/secrets/{bot}/snapshot.key").content_string
        found[f"{bot}/snapshot.key"] = next(line for line in key.splitlines() if line.startswith("AGE-SECRET-KEY-"))
    return found


def test_tokens_are_there_random_and_different(secrets: dict[str, str]) -> None:
    tokens = {name: value for name, value in secrets.items() if name.endswith("_TOKEN")}
    kinds = {name.rsplit("/", 1)[1] for name in tokens}
    assert {"OPENCLAW_GATEWAY_TOKEN", "CLAWFACTORY_AGENT_TOKEN", "CONTROLLER_TOKEN", "CONTROLLER_AGENT_TOKEN"} <= kinds
    for name, value in tokens.items():
        if name.rsplit("/", 1)[1] != "MODEL_TOKEN":
            assert re.fullmatch(r"[0-9a-f]{32}", value), name
    # Only the agent token is known on both sides, and by no other bot.
    values = [value for name, value in tokens.items() if not name.endswith("CONTROLLER_AGENT_TOKEN")]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize(
    "place", ["inspect", "processes", "journal", "container logs", "configuration", "temporary files"]
)
def test_no_secret_is_in(machine: Host, secrets: dict[str, str], place: str) -> None:
    left_out = " ".join(f"--exclude-dir={name}" for name in ("secrets", "state", "venv", "objects"))
    command = {
        "inspect": "docker inspect $(docker ps --all --quiet)",
        "processes": "ps axww -o args",
        "journal": "journalctl --no-pager",
        "container logs": "for c in $(docker ps --all --quiet); do docker logs $c 2>&1; done",
        "configuration": f"grep -rIh . /srv/clawfactory {left_out}",
        "temporary files": "grep -rIh . /tmp /root/.ansible 2>/dev/null; true",
    }[place]
    text = machine.run(command).stdout
    assert place == "temporary files" or text
    assert [name for name, value in secrets.items() if value in text] == []


@pytest.mark.parametrize("part", [part for part in PARTS if part != "gateway"])
def test_secrets_of_the_gateway_are_in_no_other_container(machine: Host, secrets: dict[str, str], part: str) -> None:
    shared = {"bot1/gateway.env/CLAWFACTORY_AGENT_TOKEN"}
    environments = of_processes(machine, "bot1", part, "tr '\\0' '\\n' < /proc/$pid/environ")
    assert "PATH=" in environments
    seen = [name for name, value in secrets.items() if name.startswith("bot1/gateway.env") and value in environments]
    assert set(seen) <= shared
