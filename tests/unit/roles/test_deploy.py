"""A run ends early if every role says that all is as wanted: none may be forgotten in that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[3]


def load(path: str) -> Any:
    return yaml.safe_load((REPOSITORY / path).read_text(encoding="utf-8"))


def asked() -> str:
    tasks = load("playbooks/tasks/prepare.yml")
    return next(found["bot_is_current"] for task in tasks if (found := task.get("ansible.builtin.set_fact")))


def test_every_part_is_asked():
    parts = {task["ansible.builtin.import_role"]["name"] for task in load("playbooks/tasks/parts.yml")}
    names = {name for name in asked().split() if name.startswith("__")}
    assert names == {f"__{role}_current" for role in parts}
    for role in parts:
        assert f"__{role}_current" in load(f"roles/{role}/vars/main.yml")


def test_every_condition_is_joined_to_the_others():
    words = asked().replace("{{", "").replace("}}", "").split()
    assert words[1::2] == ["and"] * (len(words) // 2)
