"""Makes ``ansible.module_utils.clawfactory_core`` the same package as ``clawfactory_core``.

Ansible ships the core under the first name to targets, where our modules import it; everything else uses the second.
Imported twice, the package would have two of each class, and an error raised by one would not be caught as the other.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Generator, Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from tests.runner.results import FAILED_FIRST

_ON_TARGETS = "ansible.module_utils.clawfactory_core"
_HERE = "clawfactory_core"


class _SameModule(Loader):
    """Hands out a module that is already imported under another name."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._spec = module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has just given it the other name's spec; relative imports need its own.
        module.__spec__ = self._spec


class _CoreAlias(MetaPathFinder):
    """Finds the core under the name it has on targets."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _ON_TARGETS and not fullname.startswith(f"{_ON_TARGETS}."):
            return None
        module = importlib.import_module(_HERE + fullname.removeprefix(_ON_TARGETS))
        return ModuleSpec(fullname, _SameModule(module), is_package=hasattr(module, "__path__"))


sys.meta_path.insert(0, _CoreAlias())


@pytest.fixture(scope="session", autouse=True)
def _temporary_directory_stays_as_it_is() -> Iterator[None]:
    """Tests change modes and owners, as root: one directory too far, and apt finds ``/tmp`` closed."""
    before = os.stat(tempfile.gettempdir())
    yield
    after = os.stat(tempfile.gettempdir())
    assert [oct(after.st_mode), after.st_uid, after.st_gid] == [oct(before.st_mode), before.st_uid, before.st_gid]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep why a test failed for the report of its second run (``--reruns`` of the runner)."""
    report = yield
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        item.user_properties.append((FAILED_FIRST, crash.message if crash else report.longreprtext))
    return report
