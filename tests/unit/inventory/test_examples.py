"""The examples are what they say: their variables exist, and so do their bots and machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from clawfactory_core.configuration import parse_bot
from clawfactory_core.machines import machine_key
from clawfactory_core.names import check_bot_name

REPOSITORY = Path(__file__).resolve().parents[3]
MACHINES = {"lab1": "localhost", "lab2": "localhost", "support1": "203.0.113.7:22", "research1": "203.0.113.7:22",
            "support2": "10.20.0.8:22", "research2": "10.20.0.8:22"}  # fmt: skip


def parsed(*arguments: str) -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("ansible-inventory")), "--list", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "WARNING" not in done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def fleet() -> dict[str, Any]:
    return parsed("-i", "inventory/examples/fleet")


@pytest.fixture(scope="module")
def bots(fleet: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return dict(fleet["_meta"]["hostvars"])


@pytest.fixture(scope="module")
def dynamic() -> dict[str, Any]:
    return parsed("-i", "inventory/examples/dynamic/inventory")


def machine_list(command: str) -> subprocess.CompletedProcess[str]:
    """The inventory script by itself, with a list of machines that a command prints."""
    program = REPOSITORY / "inventory" / "examples" / "dynamic" / "inventory" / "10-machines.py"
    environment = {**os.environ, "CLAWFACTORY_MACHINES_COMMAND": command}
    return subprocess.run([sys.executable, str(program), "--list"], env=environment, capture_output=True, text=True)


def test_machines_are_three_with_two_bots_each(bots: dict[str, dict[str, Any]]) -> None:
    assert {bot: machine_key({**variables, "inventory_hostname": bot}) for bot, variables in bots.items()} == MACHINES


def test_every_variable_is_one_of_a_role(bots: dict[str, dict[str, Any]]) -> None:
    known: set[str] = set()
    for path in REPOSITORY.glob("roles/*/meta/argument_specs.yml"):
        known |= set(yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"])
    used = {name for variables in bots.values() for name in variables if not name.startswith(("ansible_", "vault_"))}
    assert used - known == set()
    assert {"bot_providers", "snapshots_schedule"} <= used


def test_every_bot_can_be_made_so(bots: dict[str, dict[str, Any]]) -> None:
    for bot, variables in bots.items():
        check_bot_name(bot)
        assert parse_bot(bot, variables).default_model


def test_every_secret_is_a_placeholder(bots: dict[str, dict[str, Any]]) -> None:
    secrets = {name: value for name, value in bots["lab1"].items() if name.startswith("vault_")}
    assert secrets
    assert all(value.startswith("PLACEHOLDER-") for value in secrets.values())
    assert all("{{ vault_" in value for value in bots["lab1"]["secrets_env"].values())


def test_examples_are_not_part_of_the_default_inventory() -> None:
    assert parsed().get("bots") == {"hosts": ["bot1"]}


def test_dynamic_one_makes_bots_of_a_list_of_machines(dynamic: dict[str, Any]) -> None:
    hosts = dynamic["_meta"]["hostvars"]
    assert {bot: machine_key({**known, "inventory_hostname": bot}) for bot, known in hosts.items()} == {
        "support1": "203.0.113.7:22", "research1": "203.0.113.7:22", "support2": "203.0.113.8:22"
    }  # fmt: skip
    assert dynamic["bots"]["children"] == ["fra1", "fra2"]
    assert [sorted(dynamic[group]["hosts"]) for group in ("support", "research", "large")] == [
        ["support1", "support2"], ["research1"], ["research1"]
    ]  # fmt: skip
    assert all(known["snapshots_schedule"] == "daily" for known in hosts.values())
    for bot, known in hosts.items():
        check_bot_name(bot)
        parse_bot(bot, known)


def test_dynamic_one_takes_what_a_command_prints() -> None:
    done = machine_list("""echo '{"m1": {"ansible_host": "192.0.2.1", "bots": {"a": null}}, "m2": {"bots": {}}}'""")
    assert json.loads(done.stdout) == {
        "bots": {"children": ["m1", "m2"]},
        "m1": {"hosts": ["a"], "vars": {"ansible_host": "192.0.2.1"}},
        "m2": {"hosts": [], "vars": {}},
        "_meta": {"hostvars": {"a": {}}},
    }


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("echo '[]'", "no machines by name but list"),
        ("echo '{m1: {bots: [a]}}'", "machine m1 needs bots: a mapping"),
        ("echo '{m1: {bots: {a: {}}}, m2: {bots: {a: {}}}}'", "machine m2 has a, which an earlier machine has"),
        ("false", "returned non-zero exit status 1"),
        ("/nowhere/list", "No such file"),
    ],
)
def test_dynamic_one_says_what_it_cannot_use(command: str, told: str) -> None:
    done = machine_list(command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(command)
    assert told in done.stderr
    assert "Traceback" not in done.stderr
