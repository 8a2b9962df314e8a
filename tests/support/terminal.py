"""The command line in a pseudo-terminal, and stand-ins for the programs that it runs."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

import pexpect

# Writes its arguments, working directory and some environment to $CALL, then behaves as told.
RECORDER = f"""\
#!{sys.executable} -IS
import json, os, sys, time
with open(os.environ["CALL"], "w") as call:
    json.dump({{"program": os.path.basename(sys.argv[0]), "arguments": sys.argv[1:], "cwd": os.getcwd(),
               "config": os.environ.get("ANSIBLE_CONFIG"), "locale": os.environ.get("LC_ALL"),
               "callback": os.environ.get("ANSIBLE_STDOUT_CALLBACK"),
               "password_file": os.environ.get("ANSIBLE_VAULT_PASSWORD_FILE")}}, call)
print(os.environ.get("PRINT", "what Ansible printed"))
for value in sys.argv:
    if value.startswith("{{") and "status_json_file" in value and "STATUS" in os.environ:
        open(json.loads(value)["status_json_file"], "w").write(os.environ["STATUS"])
if "SLEEP" in os.environ:
    try:
        print("at work", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("Ansible cleans up")
        sys.exit(99)
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
PROGRAMS = {"ansible-playbook": RECORDER, "ansible": HOSTS, "ansible-inventory": INVENTORY}
#: What a machine's own programs would be; docker answers with its arguments, and follows until it is interrupted.
MACHINE = {
    "sudo": '#!/bin/sh\n[ "$1" != -n ] || shift\nexec "$@"\n',
    "docker": '#!/bin/sh\necho "docker $*"\ncase "$*" in *--follow*) exec sleep 60 ;; esac\n',
}
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def write_programs(directory: Path, programs: Mapping[str, str]) -> None:
    """Put programs into a directory."""
    for name, text in programs.items():
        (directory / name).write_text(text)
        (directory / name).chmod(stat.S_IRWXU)


class Terminal:
    """A command line in a pseudo-terminal.

    :param programs: directory of the interpreter, and of the programs that are found first.
    """

    def __init__(self, programs: Path, directory: Path) -> None:
        self.programs = programs
        self.directory = directory
        left_out = ("NO_COLOR", "ANSIBLE_VAULT_PASSWORD_FILE")
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in left_out},
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "TERM": "xterm-256color",
            "CLAWFACTORY_SETTINGS": str(directory / "settings"),
            "CALL": str(directory / "call"),
            "BOTS": "bot1",
            "VARIABLES": '{"ansible_connection": "local"}',
        }

    def start(self, *arguments: str, **variables: str) -> pexpect.spawn:
        """Start it; nobody types yet."""
        command = ["-P", "-m", "clawfactory_cli", *arguments]
        environment = {**self.environment, **variables}
        return pexpect.spawn(
            str(self.programs / "python"), command, cwd=self.directory, env=environment, encoding="utf-8", timeout=60,
            dimensions=(40, 160),
        )  # fmt: skip

    def run(self, *arguments: str, **variables: str) -> tuple[int, str]:
        """Run it to its end: exit code and what was on the screen."""
        return finish(self.start(*arguments, **variables))

    @property
    def called(self) -> dict[str, object] | None:
        """What ansible-playbook was called with."""
        record = self.directory / "call"
        return json.loads(record.read_text()) if record.exists() else None


def finish(process: pexpect.spawn) -> tuple[int, str]:
    """Wait for the end: exit code, and what was on the screen since the last answer."""
    process.expect(pexpect.EOF)
    process.close()
    return process.exitstatus if process.exitstatus is not None else -process.signalstatus, process.before


def plain(text: str) -> str:
    """Without colours."""
    return _COLOUR.sub("", text)
