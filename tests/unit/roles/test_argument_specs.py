"""Every variable of a role is in its defaults, in its argument specification and explained in both."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

ROLES = Path(__file__).resolve().parents[3] / "roles"
NAMES = sorted(path.parent.parent.name for path in ROLES.glob("*/tasks/main.yml"))
#: Beside its own name: variables of a bot as a whole, of the machine as a whole.
PREFIXES = {"gateway": ("gateway_", "bot_"), "host": ("host_", "clawfactory_"), "remote_access": ("remote_access",)}
_KEY = re.compile(r"^([a-z]\w*):")
_OPTIONAL = re.compile(r"^# ([a-z]\w*): \S")


def prefixes(role: str) -> tuple[str, ...]:
    return PREFIXES.get(role, (f"{role}_",))


def defaults_text(role: str) -> str:
    return (ROLES / role / "defaults" / "main.yml").read_text(encoding="utf-8")


def defaults(role: str) -> dict[str, Any]:
    return yaml.safe_load(defaults_text(role)) or {}


def optional_names(role: str) -> set[str]:
    """Variables without a default, which the file shows as a comment: ``# gateway_port: 18789``."""
    found = {match[1] for line in defaults_text(role).splitlines() if (match := _OPTIONAL.match(line))}
    return {name for name in found if name.startswith(prefixes(role))}


def specifications(role: str) -> dict[str, dict[str, Any]]:
    path = ROLES / role / "meta" / "argument_specs.yml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]


def options(role: str) -> dict[str, dict[str, Any]]:
    return specifications(role)["main"]["options"]


def test_roles_are_found():
    assert {"host", "secrets", "egress", "gateway", "proxy", "controller"} <= set(NAMES)


@pytest.mark.parametrize("role", NAMES)
def test_specification_has_exactly_the_variables_of_the_defaults(role):
    assert sorted(options(role)) == sorted(set(defaults(role)) | optional_names(role))


@pytest.mark.parametrize("role", NAMES)
def test_every_option_has_type_and_description(role):
    bare = [name for name, option in options(role).items() if not option.get("type") or not option.get("description")]
    assert bare == []


@pytest.mark.parametrize("role", NAMES)
def test_defaults_told_twice_agree(role):
    told = {name: option["default"] for name, option in options(role).items() if "default" in option}
    assert told == {name: defaults(role).get(name) for name in told}


@pytest.mark.parametrize("role", NAMES)
def test_ansible_accepts_the_defaults(role):
    literal = {name: value for name, value in defaults(role).items() if "{{" not in str(value)}
    assert literal
    assert ArgumentSpecValidator(options(role)).validate(literal).error_messages == []


@pytest.mark.parametrize(
    ("role", "name"), [(role, name) for role in NAMES for name, option in options(role).items() if "choices" in option]
)
def test_choices_are_refused_beyond_the_list(role, name):
    assert ArgumentSpecValidator(options(role)).validate({name: "something-else"}).error_messages


@pytest.mark.parametrize("role", NAMES)
def test_every_default_has_a_comment_above_it(role):
    lines = defaults_text(role).splitlines()
    keys = {match[1]: number for number, line in enumerate(lines) if (match := _KEY.match(line))}
    assert set(keys) == set(defaults(role))
    shown = tuple(f"# {name}:" for name in optional_names(role))
    explained = [name for name, number in keys.items() if lines[number - 1].startswith("# ")]
    for_others = [name for name in explained if lines[keys[name] - 1].startswith(shown)]
    assert (sorted(set(keys) - set(explained)), for_others) == ([], [])


@pytest.mark.parametrize("role", NAMES)
def test_variables_begin_with_the_role_they_belong_to(role):
    assert [name for name in options(role) if not name.startswith(prefixes(role))] == []


@pytest.mark.parametrize("role", NAMES)
def test_entry_points_are_task_files_of_the_role(role):
    tasks = {path.stem for path in (ROLES / role / "tasks").glob("*.yml")}
    assert set(specifications(role)) - tasks == set()


def test_keys_are_never_logged():
    assert options("secrets")["secrets_env"]["no_log"] is True
