from __future__ import annotations

import contextlib
import importlib
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from tests.support.ownership import Ownership, make_ownership


@pytest.fixture
def ownership(monkeypatch) -> Ownership:
    return make_ownership(monkeypatch)


@pytest.fixture(autouse=True)
def system_log(monkeypatch) -> list[str]:
    """What modules write to the system log of the machine."""
    lines: list[str] = []
    monkeypatch.setattr("syslog.syslog", lambda *arguments: lines.append(str(arguments[-1])))
    with contextlib.suppress(ImportError):
        monkeypatch.setattr("systemd.journal.send", lambda text, **fields: lines.append(f"{text} {fields}"))
    return lines


@pytest.fixture
def run_module() -> Callable[..., dict[str, Any]]:
    """Run a module of ``library/`` as Ansible does; returns the JSON it prints, with the text itself as ``text``."""

    def run(name: str, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
        module = importlib.import_module(f"library.{name}")
        printed = io.StringIO()
        with (
            patch_module_args({**arguments, "_ansible_check_mode": check, "_ansible_diff": True}),
            contextlib.redirect_stdout(printed),
            pytest.raises(SystemExit),
        ):
            module.main()
        return {**json.loads(printed.getvalue()), "text": printed.getvalue()}

    return run
