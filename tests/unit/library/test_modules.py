"""What all modules of ``library/`` have in common."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

NAMES = sorted(path.stem for path in (Path(__file__).parents[3] / "library").glob("*.py"))


def documented(name: str) -> tuple[Any, dict[str, Any]]:
    module = importlib.import_module(f"library.{name}")
    return module, yaml.safe_load(module.DOCUMENTATION)


@pytest.mark.parametrize("name", NAMES)
def test_documentation_agrees_with_the_arguments(name):
    module, documentation = documented(name)
    assert documentation["module"] == name
    spec, options = module.argument_spec(), documentation["options"]
    assert set(spec) == set(options)
    for option, described in options.items():
        for key in ("type", "required", "default", "choices", "elements"):
            assert spec[option].get(key) == described.get(key), (option, key)


@pytest.mark.parametrize("name", NAMES)
def test_examples_use_documented_options(name):
    module, documentation = documented(name)
    for task in yaml.safe_load(module.EXAMPLES):
        given = set(task[name])
        required = {option for option, described in documentation["options"].items() if described.get("required")}
        assert required <= given <= set(documentation["options"])


@pytest.mark.parametrize("name", NAMES)
def test_returned_values_are_documented(name):
    module, _ = documented(name)
    returned = yaml.safe_load(module.RETURN)
    assert returned and all({"description", "returned", "type"} <= set(value) for value in returned.values())
