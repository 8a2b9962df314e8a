"""A run ends early if every role says that all is as wanted: none may be forgotten in that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[3]


def load(path: str) -> Any:
    return yaml.safe_load((REPOSITORY / path).read_text(encoding="utf-8"))


# What is included is for some playbooks only.
_IMPORTED = "ansible.builtin.import_role"
PARTS = {task[_IMPORTED]["name"] for task in load("playbooks/tasks/parts.yml") if _IMPORTED in task}
PREPARE = load("playbooks/tasks/prepare.yml")


def conditions(name: str) -> list[str]:
    facts = {}
    for task in load("playbooks/tasks/compare.yml"):
        facts.update(task["ansible.builtin.set_fact"])
    asked = " ".join(facts[name].split()).removeprefix("{{ ").removesuffix(" }}")
    return re.sub(r"lookup\('ansible.builtin.vars', '(\w+)'\)", r"\1", asked).split(" and ")


def test_every_part_is_asked():
    asked = conditions("bot_is_current")
    assert asked[:3] == [
        "hostvars[__host_leader].machine_is_installed", "hostvars[__host_leader].machine_is_current",
        "not __host_images_wanting",
    ]  # fmt: skip
    assert set(asked[3:]) == {f"__{role}_current" for role in PARTS - {"remote_access"}}
    for role in PARTS:
        assert f"__{role}_current" in load(f"roles/{role}/vars/main.yml")


def test_the_machine_is_asked_of_by_the_bot_that_sees_to_it():
    """Of one that gets to be the first later, because the first one failed, nobody has asked."""
    assert conditions("machine_is_installed") == ["__host_is_leader", "not __host_incomplete"]
    assert conditions("machine_is_current") == [
        "__host_is_leader",
        "not __host_firewall_due",
        "__remote_access_current",
    ]


def test_variables_of_every_part_are_validated():
    (task,) = (task for task in PREPARE if "__roles" in task.get("vars", {}))
    assert task["when"] == "__wrong | length > 0"
    # The host's preflight looks at those of this one.
    assert set(re.findall(r"'(\w+)'", task["vars"]["__roles"].split("]")[0])) == PARTS - {"remote_access"}
    for role in PARTS:
        assert set(load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]) == {"main"}


def test_problems_of_every_part_are_refused():
    (task,) = (task for task in PREPARE if "__problems" in task.get("vars", {}))
    known = {role for role in PARTS if f"__{role}_problems" in load(f"roles/{role}/vars/main.yml")}
    # The host's preflight refuses what is wrong with these two.
    assert known == PARTS - {"host", "remote_access"}
    assert task["when"] == "__problems | length > 0"
    assert set(task["vars"]["__problems"].split()) - {"{{", "+", "}}"} == {f"__{role}_problems" for role in known}


def test_what_it_takes_to_change_a_bot_is_asked_wherever_some_of_it_is_needed():
    """The outer condition is all that a bot that is as wanted comes to."""

    def alternatives(task: dict[str, Any]) -> set[str]:
        return set(" ".join(task["when"].split()).split(" or "))

    (outer,) = (task for task in PREPARE if "means.yml" in str(task))
    implied = {f"not {condition}".replace("not not ", "") for condition in conditions("bot_is_current")}
    inner = load("playbooks/tasks/means.yml")
    assert len(inner) == 3
    for task in inner:
        assert alternatives(task) <= alternatives(outer) | implied
