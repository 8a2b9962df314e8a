"""Runs Ansible's programs from this environment, in the repository, with the repository's configuration."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from clawfactory_core.errors import CoreError

from .settings import REPOSITORY as REPOSITORY
from .settings import vault_password_file

PROGRAMS = Path(sys.executable).parent

EXIT_OK = 0
EXIT_ERROR = 1
EXIT_BOT_FAILED = 3
EXIT_UNREACHABLE = 4
EXIT_BOTH = 5
EXIT_INTERRUPTED = 130

#: Have Ansible report as JSON, without a playbook too.
AS_JSON = {"ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1"}
# Ansible's own codes; its 2 would read as "wrong usage", which is 2 for every other program.
_EXIT_CODES = {0: EXIT_OK, 2: EXIT_BOT_FAILED, 4: EXIT_UNREACHABLE, 6: EXIT_BOTH, 99: EXIT_INTERRUPTED}


@dataclass(frozen=True)
class AnsibleOptions:
    """What the operator may hand through to Ansible.

    :param inventory: inventory files, directories or host lists; empty: the one that ``ansible.cfg`` names.
    :param extra_vars: values of ``--extra-vars``, as typed.
    :param verbosity: number of ``-v``.
    :param ask_become_pass: ask for the sudo password; None: when sudo needs one and somebody can answer.
    """

    inventory: tuple[str, ...] = ()
    extra_vars: tuple[str, ...] = ()
    verbosity: int = 0
    ask_become_pass: bool | None = None
    vault_password_file: str | None = None
    ask_vault_pass: bool = False
    check: bool = False
    diff: bool = False

    def inventory_arguments(self) -> list[str]:
        """Arguments that choose and open the inventory; every Ansible program takes them."""
        arguments = [part for name in self.inventory for part in ("-i", _from_here(name))]
        password_file = self.password_file()
        if password_file is not None:
            arguments += ["--vault-password-file", password_file]
        if self.ask_vault_pass:
            arguments.append("--ask-vault-pass")
        return arguments

    def password_file(self) -> str | None:
        """The vault's password file that was named, else the one that ``init`` made; None leaves it to Ansible."""
        if self.vault_password_file is not None:
            return _from_here(self.vault_password_file)
        made = vault_password_file()
        chosen = self.ask_vault_pass or "ANSIBLE_VAULT_PASSWORD_FILE" in os.environ
        return str(made) if not chosen and made.is_file() else None

    def variable_arguments(self) -> list[str]:
        """Arguments with the variables of this run."""
        values = (f"@{_from_here(value[1:])}" if value.startswith("@") else value for value in self.extra_vars)
        return [word for value in values for word in ("-e", value)]

    def playbook_arguments(self) -> list[str]:
        """All arguments for ``ansible-playbook`` but the playbook and the limit."""
        arguments = [*self.inventory_arguments(), *self.variable_arguments()]
        arguments += [flag for flag, wanted in (("--check", self.check), ("--diff", self.diff)) if wanted]
        if self.verbosity:
            arguments.append(f"-{'v' * self.verbosity}")
        if needs_become_password() if self.ask_become_pass is None else self.ask_become_pass:
            arguments.append("--ask-become-pass")
        return arguments


def _from_here(name: str) -> str:
    """The absolute form of a path typed by the operator: Ansible runs in the repository, they may be elsewhere."""
    path = Path(name).expanduser()
    return str(path.absolute()) if path.exists() else name


def on_terminal() -> bool:
    """Whether somebody can be asked; standard input may be closed altogether."""
    return sys.stdin is not None and sys.stdin.isatty()


def needs_become_password() -> bool:
    """Whether sudo wants a password from us and there is a terminal to ask on."""
    if os.geteuid() == 0 or not on_terminal() or "ANSIBLE_BECOME_PASSWORD_FILE" in os.environ:
        return False
    sudo = shutil.which("sudo")
    return sudo is not None and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode != 0


def environment() -> dict[str, str]:
    """The environment for Ansible's programs: this repository's configuration, this environment's programs, UTF-8."""
    variables = dict(os.environ)
    variables["ANSIBLE_CONFIG"] = str(REPOSITORY / "ansible.cfg")
    variables["PATH"] = f"{PROGRAMS}{os.pathsep}{variables.get('PATH', os.defpath)}"
    locale = next((variables[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if variables.get(name)), "")
    if "utf" not in locale.lower():
        variables["LC_ALL"] = "C.UTF-8"  # Ansible refuses to start in another encoding
    return variables


def module_command(bot: str, arguments: list[str], options: AnsibleOptions) -> list[str]:
    """The command that runs a program on a bot's machine, as root, without a playbook."""
    module = ["--become", "-m", "ansible.builtin.command", "-a", json.dumps({"argv": arguments})]
    return [str(PROGRAMS / "ansible"), bot, *module, *options.playbook_arguments()]


def playbook_command(playbook: str, limit: str | None, options: AnsibleOptions) -> list[str]:
    """The command that runs a playbook.

    :param playbook: path inside the repository, for example ``playbooks/stop.yml``.
    :param limit: bots or host pattern; None: every host the playbook names.
    """
    limit_arguments = [] if limit is None else ["-l", limit]
    return [str(PROGRAMS / "ansible-playbook"), playbook, *limit_arguments, *options.playbook_arguments()]


def exit_code(ansible_code: int) -> int:
    """Ansible's exit status as one of ours (``clawfactory --help`` lists them); negative: the signal that ended it."""
    if ansible_code < 0:
        return 128 - ansible_code
    return _EXIT_CODES.get(ansible_code, EXIT_ERROR)


def attend(
    command: list[str],
    *,
    show: Callable[[bytes], None] | None = None,
    errors_too: bool = False,
    variables: Mapping[str, str] | None = None,
) -> tuple[int, bool]:
    """Run a command to its end and let it handle Ctrl-C itself, so that it can clean up.

    :param show: gets what it prints on standard output, as it comes; None: the terminal does.
    :param errors_too: give ``show`` what it prints on standard error as well.
    :param variables: of its environment, besides ours.
    :returns: its exit status, negative: the signal that ended it; and whether Ctrl-C was pressed meanwhile.
    """
    interrupted = False
    environ = {**environment(), **(variables or {})}
    sink = None if show is None else subprocess.PIPE
    errors = subprocess.STDOUT if errors_too else None
    with subprocess.Popen(command, cwd=REPOSITORY, env=environ, stdout=sink, stderr=errors, bufsize=0) as process:

        def hand_on(number: int, _frame: FrameType | None) -> None:
            process.send_signal(number)

        def outlive(_number: int, _frame: FrameType | None) -> None:
            nonlocal interrupted
            interrupted = True

        before = {number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGHUP)}
        # The terminal sends Ctrl-C to the child as well; we only have to outlive it.
        before[signal.SIGINT] = signal.signal(signal.SIGINT, outlive)
        try:
            while show is not None and process.stdout is not None and (data := process.stdout.read(65536)):
                show(data)
            process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return process.returncode, interrupted


def run(command: list[str], *, capture: bool = False, variables: Mapping[str, str] | None = None) -> tuple[int, str]:
    """As :func:`attend`, for a program of Ansible.

    :param capture: collect what it prints on standard output instead of showing it.
    :returns: its exit status as one of ours, and its collected output.
    """
    output: list[bytes] = []
    code, _ = attend(command, show=output.append if capture else None, variables=variables)
    return exit_code(code), b"".join(output).decode(errors="replace")


def _ask(
    program: str,
    arguments: list[str],
    options: AnsibleOptions,
    *,
    quiet: bool = False,
    variables: Mapping[str, str] | None = None,
) -> str:
    """What a program of Ansible prints about the inventory.

    :param quiet: do not show what it complains about either.
    :param variables: of its environment, besides ours.
    :raises CoreError: when Ansible cannot read the inventory.
    """
    command = [str(PROGRAMS / program), *arguments, *options.inventory_arguments()]
    errors = subprocess.DEVNULL if quiet else None
    result = subprocess.run(
        command, cwd=REPOSITORY, env={**environment(), **(variables or {})}, stdout=subprocess.PIPE, stderr=errors,
        text=True, check=False,
    )  # fmt: skip
    if result.returncode != 0:
        raise CoreError(f"Ansible cannot read the inventory {', '.join(options.inventory) or 'in inventory/'}")
    return result.stdout


def list_bots(options: AnsibleOptions, pattern: str = "bots", *, quiet: bool = False) -> list[str]:
    """Names of the bots in the inventory, in its order.

    :param pattern: which of them.
    :raises CoreError: when Ansible cannot read the inventory.
    """
    # The first line counts: "  hosts (2):"
    lines = _ask("ansible", [pattern, "--list-hosts"], options, quiet=quiet).splitlines()[1:]
    return [line.strip() for line in lines if line.strip()]


def machines_of(pattern: str, options: AnsibleOptions) -> dict[str, list[str]]:
    """Bots by the machine they are on, both by name; nothing is connected to.

    :param pattern: which of them.
    :raises CoreError: when Ansible cannot read the inventory, or where a bot's machine is not known.
    """
    message = "msg={{ hostvars[inventory_hostname] | clawfactory_machine }}"
    asked = [f"{pattern},&bots", "-m", "ansible.builtin.debug", "-a", message, *options.variable_arguments()]
    told = _ask("ansible", asked, options, variables={**AS_JSON, "ANSIBLE_VERBOSITY": "0", "ANSIBLE_NO_LOG": "0"})
    machines: dict[str, list[str]] = {}
    try:
        [play] = json.loads(told)["plays"]
        for bot, result in sorted(play["tasks"][0]["hosts"].items()) if play["tasks"] else ():
            machines.setdefault(str(result["msg"]), []).append(bot)
    except (ValueError, KeyError) as error:
        raise CoreError(f"Ansible did not say which machines {pattern} is about: {told[:500]}") from error
    return dict(sorted(machines.items()))


def variables_of(bot: str, options: AnsibleOptions) -> dict[str, Any]:
    """A bot's inventory variables, with vaults opened and templates as they are written.

    :raises CoreError: when Ansible cannot read the inventory, or does not know the bot.
    """
    found: dict[str, Any] = json.loads(_ask("ansible-inventory", ["--host", bot], options))
    return found


def all_variables(options: AnsibleOptions) -> dict[str, dict[str, Any]]:
    """The same for all bots of the inventory, in its order."""
    read = json.loads(_ask("ansible-inventory", ["--list"], options))
    known: dict[str, dict[str, Any]] = read["_meta"]["hostvars"]
    return {bot: known.get(bot, {}) for bot in list_bots(options)}
