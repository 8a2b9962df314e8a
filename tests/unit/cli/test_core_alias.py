"""Our modules' tests see the core under its name on targets, and it is the same package."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import clawfactory_core

NAMES = [module.name for module in pkgutil.walk_packages(clawfactory_core.__path__, "clawfactory_core.")]


@pytest.mark.parametrize("name", ["clawfactory_core", *NAMES])
def test_both_names_mean_one_module(name):
    here = importlib.import_module(name)
    on_target = importlib.import_module(f"ansible.module_utils.{name}")
    assert on_target is here
    assert here.__spec__ is not None and here.__spec__.name == name


def test_errors_raised_under_one_name_are_caught_under_the_other():
    from ansible.module_utils.clawfactory_core.errors import CoreError

    from clawfactory_core.errors import InvalidInput

    with pytest.raises(CoreError):
        raise InvalidInput("no")
