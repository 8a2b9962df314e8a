"""Stand-ins for Ansible's programs, for the tests of the command line."""

from __future__ import annotations

import json
import stat
import sys

import pytest
from typer.testing import CliRunner

from clawfactory_cli.app import app

# Writes its arguments, working directory and some environment to $CALL, then behaves as told.
RECORDER = f"""\
#!{sys.executable} -IS
import json, os, sys
with open(os.environ["CALL"], "w") as call:
    json.dump({{"program": os.path.basename(sys.argv[0]), "arguments": sys.argv[1:], "cwd": os.getcwd(),
               "config": os.environ.get("ANSIBLE_CONFIG"), "locale": os.environ.get("LC_ALL"),
               "callback": os.environ.get("ANSIBLE_STDOUT_CALLBACK")}}, call)
print(os.environ.get("PRINT", "what Ansible printed"))
for value in sys.argv:
    if value.startswith("{{") and "status_json_file" in value and "STATUS" in os.environ:
        open(json.loads(value)["status_json_file"], "w").write(os.environ["STATUS"])
sys.exit(int(os.environ.get("EXIT", "0")))
"""
# Lists the hosts, or says what a program printed on a bot's machine.
HOSTS = """\
#!/bin/sh
case "$*" in
  *--list-hosts*) ;;
  *) printf '%s\\n' "$THERE"; case "$THERE" in *'"failures": 1'*) exit 2 ;; esac; exit 0 ;;
esac
printf '  hosts (N):\\n'
for bot in $BOTS; do printf '    %s\\n' "$bot"; done
exit "${HOSTS_EXIT:-0}"
"""
INVENTORY = """\
#!/bin/sh
case "$*" in
  *--list*) printf '{"_meta": {"hostvars": {"bot1": %s}}}' "$VARIABLES" ;;
  *) printf '%s' "$VARIABLES" ;;
esac
"""


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Runs a command line; returns the result and what ansible-playbook was called with (None: not at all)."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("ansible-playbook", RECORDER), ("ansible", HOSTS), ("ansible-inventory", INVENTORY)):
        (programs / name).write_text(text)
        (programs / name).chmod(stat.S_IRWXU)
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
