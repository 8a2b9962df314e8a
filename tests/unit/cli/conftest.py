"""The command line with stand-ins for Ansible's programs."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clawfactory_cli.app import app
from tests.support.terminal import MACHINE, PROGRAMS, Terminal, write_programs

# A shell has what it starts in the background ignore Ctrl-C, and that is inherited by all that is started from there.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Runs a command line; returns the result and what ansible-playbook was called with (None: not at all)."""
    programs = tmp_path / "programs"
    programs.mkdir()
    write_programs(programs, PROGRAMS)
    monkeypatch.setattr("clawfactory_cli.ansible.PROGRAMS", programs)
    monkeypatch.setenv("CLAWFACTORY_SETTINGS", str(tmp_path / "settings"))
    monkeypatch.setenv("CALL", str(tmp_path / "call"))
    monkeypatch.setenv("BOTS", "bot1")
    monkeypatch.setenv("VARIABLES", '{"ansible_connection": "local"}')
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)

    def run(*arguments):
        record = tmp_path / "call"
        record.unlink(missing_ok=True)
        result = CliRunner().invoke(app, list(arguments))
        return result, json.loads(record.read_text()) if record.exists() else None

    return run


@pytest.fixture(scope="session")
def fake_environment(tmp_path_factory):
    """A Python environment like ours, with stand-ins beside its interpreter: the command line runs what is there."""
    root = tmp_path_factory.mktemp("environment")
    programs = root / "bin"
    programs.mkdir()
    prefix = Path(sys.prefix)
    shutil.copy(prefix / "pyvenv.cfg", root)
    (root / "lib").symlink_to(prefix / "lib")
    (programs / "python").symlink_to(Path(sys.executable).resolve())
    write_programs(programs, PROGRAMS | MACHINE)
    return programs


@pytest.fixture
def terminal(fake_environment, tmp_path):
    """A pseudo-terminal with stand-ins for Ansible's programs."""
    return Terminal(fake_environment, tmp_path)


@pytest.fixture
def real_terminal(tmp_path):
    """A pseudo-terminal with the real programs."""
    return Terminal(Path(sys.executable).parent, tmp_path)
