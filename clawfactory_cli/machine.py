"""Commands on a bot's machine that no playbook can be: over SSH or here, as the inventory says."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clawfactory_core.errors import CoreError, InvalidInput
from clawfactory_core.names import check_bot_name

from .ansible import EXIT_BOT_FAILED, EXIT_INTERRUPTED, EXIT_UNREACHABLE, attend, on_terminal

#: The default of role ``host``, which the inventory does not know.
DEFAULT_ROOT = "/srv/clawfactory"
_ADDRESS = re.compile(r"[A-Za-z0-9_\[][A-Za-z0-9_.:%\]-]*")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]*")
_SSH_FAILED = 255


@dataclass(frozen=True)
class Machine:
    """The machine of a bot.

    :param bot: its name, checked.
    :param variables: of the inventory.
    """

    bot: str
    variables: Mapping[str, Any]

    def __post_init__(self) -> None:
        check_bot_name(self.bot)

    @property
    def is_local(self) -> bool:
        """Whether it is the one that this runs on."""
        return self._text("ansible_connection", "ssh") == "local"

    @property
    def address(self) -> str:
        """Its name or address; ``this machine`` for this one."""
        return "this machine" if self.is_local else self._checked("ansible_host", self.bot, _ADDRESS)

    @property
    def user(self) -> str:
        """Who logs in there; empty leaves it to ssh."""
        return self._checked("ansible_user", "", _USER)

    @property
    def root(self) -> Path:
        """ClawFactory's directory on it."""
        path = Path(self._text("clawfactory_root", DEFAULT_ROOT))
        if not path.is_absolute():
            raise self._refused("clawfactory_root", str(path), "give an absolute path")
        return path

    def command(self, arguments: list[str], *, terminal: bool = False) -> list[str]:
        """The command to run here, so that ``arguments`` run there with root's rights.

        :param terminal: give it ours, for a shell, or for sudo to ask for a password.
        :raises InvalidInput: the inventory says something that only Ansible can do.
        """
        there = [*self._as_root(terminal), *arguments]
        if self.is_local:
            return there
        return [*self.ssh(), "-t" if terminal else "-T", "--", self.address, shlex.join(there)]

    def ssh(self) -> list[str]:
        """``ssh`` with the inventory's options, without the address."""
        connection = self._text("ansible_connection", "ssh")
        if connection not in ("ssh", "smart", "ansible.builtin.ssh"):
            raise self._refused("ansible_connection", connection, "only 'local' and 'ssh' work without a playbook")
        command = ["ssh"]
        port = self._text("ansible_port", "")
        if port and not port.isdecimal():
            raise self._refused("ansible_port", port, "give a number")
        for flag, value in (("-p", port), ("-l", self.user), ("-i", self._text("ansible_ssh_private_key_file", ""))):
            command += [flag, str(Path(value).expanduser()) if flag == "-i" else value] if value else []
        for name in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
            command += shlex.split(self._text(name, ""))
        return command

    def tunnel(self, *ports: int) -> str:
        """The command that brings ports of the machine to the same ports here, to be shown."""
        forwards = [part for port in ports for part in ("-L", f"{port}:127.0.0.1:{port}")]
        return shlex.join([*self.ssh(), *forwards, self.address])

    def _as_root(self, terminal: bool) -> list[str]:
        method = self._text("ansible_become_method", "sudo").removeprefix("ansible.builtin.")
        is_root = os.geteuid() == 0 if self.is_local else self.user == "root"
        if is_root or str(self.variables.get("ansible_become", True)).lower() in ("false", "no", "0"):
            return []
        if method != "sudo":
            raise self._refused("ansible_become_method", method, "only 'sudo' works without a playbook")
        # Where nobody can be asked, sudo says so instead of waiting.
        return ["sudo"] if terminal or (self.is_local and interactive()) else ["sudo", "-n"]

    def _checked(self, name: str, default: str, pattern: re.Pattern[str]) -> str:
        value = self._text(name, default)
        if value and not pattern.fullmatch(value):
            raise self._refused(name, value, "it is not a name that ssh can take")
        return value

    def _text(self, name: str, default: str) -> str:
        value = str(self.variables.get(name, default))
        if "{{" in value:
            raise self._refused(name, value, "write it without a template; only a playbook can fill it in")
        return value

    def _refused(self, name: str, value: str, way: str) -> InvalidInput:
        return InvalidInput(f"{self.bot}: {name} is {value!r}: {way}")


def run_there(
    machine: Machine,
    arguments: list[str],
    *,
    terminal: bool = False,
    show: Callable[[bytes], None] | None = None,
) -> None:
    """Run a command on a bot's machine until it ends.

    :param terminal: give it ours, where we have one.
    :param show: gets what it prints, errors too, see :func:`.ansible.attend`; None: the terminal does.
    :raises CommandFailed: it failed; its complaints were shown.
    """
    code, interrupted = attend(
        machine.command(arguments, terminal=terminal and interactive()), show=show, errors_too=True
    )
    # ssh has one code for all that goes wrong.
    if code in (-signal.SIGINT, EXIT_INTERRUPTED) or (code == _SSH_FAILED and interrupted):
        raise CommandFailed("interrupted", EXIT_INTERRUPTED)
    if code == _SSH_FAILED and not machine.is_local:
        raise CommandFailed(f"{machine.bot}: {machine.address} cannot be reached over SSH", EXIT_UNREACHABLE)
    if code != 0:
        shown = f"{machine.bot}: '{shlex.join(arguments)}' ended with {code} on {machine.address}"
        raise CommandFailed(shown, EXIT_BOT_FAILED)


def interactive() -> bool:
    """Whether somebody types and reads; a terminal there would bend what goes into a file or a pipe."""
    return on_terminal() and sys.stdout.isatty()


class CommandFailed(CoreError):
    """A command on a machine failed.

    :param code: exit code that says how.
    """

    def __init__(self, message: str, code: int) -> None:
        self.code = code
        super().__init__(message)
