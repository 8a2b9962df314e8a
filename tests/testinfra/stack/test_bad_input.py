"""Bad input stops before anything is changed, and says what, where, and the way out.

All bad bots go through one run, each failing by itself; then the machine is compared with what it was before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.machines import differences, docker, fingerprint
from tests.support.playbooks import PlaybookRun, ansible_playbook

from .conftest import MACHINE, Play

# Variables of the bad bot, and what its message must name besides the bot: variable, value, and the way out.
BAD: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "Bad_Name": ({}, ("bot name", "'Bad_Name'", "lower-case")),
    "taken": ({"gateway_port": 18789}, ("gateway_port", "18789", "bot1")),
    "busy": ({"gateway_port": 9966}, ("gateway_port", "9966", "python3")),
    "stranger": ({"bot_providers": ["anthropc"]}, ("bot_providers", "anthropc", "anthropic", "openrouter")),
    "channel": ({"bot_channels": ["icq"]}, ("bot_channels", "icq", "discord", "slack", "telegram")),
    "keyless": ({"bot_providers": ["anthropic"]}, ("secrets_env", "ANTHROPIC_API_KEY", "ansible-vault")),
    "schema": (
        {"gateway_config": {"logging": {"level": "shouting"}}},
        ("gateway_config", "logging.level", "shouting"),
    ),
    "opened": (
        {"gateway_config": {"gateway": {"auth": {"mode": "none"}}}},
        ("gateway_config", "gateway.auth"),
    ),
    "wildcard": ({"egress_allow_extra": ["*.example.org"]}, ("egress_allow_extra", "*.example.org", ".example.org")),
    "mode": ({"egress_mode": "closed"}, ("egress_mode", "closed", "allowlist")),
    "hour": ({"snapshots_hour": 24}, ("snapshots_hour is 24",)),
    "recipient": ({"snapshots_recipients": ["age1nonsense"]}, ("snapshots_recipients has 'age1nonsense'",)),
    "keep": ({"snapshots_keep_last": 0}, ("snapshots_keep_last is 0",)),
}

CONNECTION = {"ansible_host": MACHINE, "ansible_connection": "community.docker.docker", "ansible_user": "root"}


@pytest.fixture(scope="module")
def bad_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PlaybookRun, list[str]]]:
    """The run of all bad bots, and what it changed on the machine."""
    inventory: Path = tmp_path_factory.mktemp("bad") / "hosts.yml"
    hosts = {bot: variables for bot, (variables, _) in BAD.items()}
    inventory.write_text(yaml.safe_dump({"bots": {"hosts": hosts, "vars": CONNECTION}}))
    docker("exec", "--detach", MACHINE, "python3", "-m", "http.server", "--bind", "127.0.0.1", "9966")
    try:
        before = fingerprint(MACHINE)
        run = ansible_playbook("site.yml", inventory)
        yield run, differences(before, fingerprint(MACHINE))
    finally:
        docker("exec", MACHINE, "pkill", "-f", "http.server --bind 127.0.0.1 9966")


@pytest.mark.parametrize("bot", BAD)
def test_message_names_bot_variable_value_and_way_out(bad_run: tuple[PlaybookRun, list[str]], bot: str) -> None:
    run, _ = bad_run
    assert bot in run.failures, f"{bot} was accepted"
    message = run.failures[bot]
    for expected in (bot, *BAD[bot][1]):
        assert expected in message, message


def test_none_of_them_was_deployed_and_nothing_changed(bad_run: tuple[PlaybookRun, list[str]]) -> None:
    run, changed = bad_run
    assert run.returncode == 2
    assert run.changed == []
    assert changed == []


@contextmanager
def other_system() -> Iterator[None]:
    """The machine says it is one that nobody has tried."""
    docker(
        "exec", MACHINE, "sh", "-c", "echo ID=haiku >/run/os-release && mount --bind /run/os-release /etc/os-release"
    )
    try:
        yield
    finally:
        docker("exec", MACHINE, "umount", "/etc/os-release")


@pytest.mark.parametrize(
    ("variables", "system", "expected"),
    [
        ({"host_minimum_memory_mb": 99999999}, nullcontext, ("host_minimum_memory_mb", "99999999", "lower")),
        ({"host_minimum_disk_mb": 99999999}, nullcontext, ("host_minimum_disk_mb", "99999999", "lower")),
        ({}, other_system, ("operating system", "'haiku'", "Debian")),
    ],
    ids=["memory", "disk", "system"],
)
def test_unfit_machine_is_refused_and_not_changed(
    tmp_path: Path, variables: dict[str, int], system: Callable[[], AbstractContextManager[None]], expected: tuple[str]
) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"bots": {"hosts": {"newcomer": variables}, "vars": CONNECTION}}))
    before = fingerprint(MACHINE)
    with system():
        run = ansible_playbook("site.yml", inventory)
    assert run.returncode == 2
    for text in ("newcomer", *expected):
        assert text in run.failures["newcomer"], run.failures["newcomer"]
    assert run.changed == []
    assert differences(before, fingerprint(MACHINE)) == []


def test_machine_with_bots_is_not_uninstalled(play: Play) -> None:
    before = fingerprint(MACHINE)
    run = play("playbooks/host.yml", "--limit", "bot1", "--extra-vars", "host_state=absent")
    assert run.returncode == 2
    for text in ("bot1", "bot2", "playbooks/remove.yml"):
        assert text in run.failures["bot1"], run.failures["bot1"]
    assert differences(before, fingerprint(MACHINE)) == []


def test_host_outside_the_group_is_told_where_it_belongs(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": {"lonely": {"ansible_connection": "local"}}}}))
    run = ansible_playbook("site.yml", inventory, "--limit", "lonely")
    assert run.returncode != 0, "a run that reaches no bot must not look like a success"
    text = f"{run.failures} {run.stderr}"
    for expected in ("lonely", "bots"):
        assert expected in text, text
