"""Runs Ansible's programs from this environment, in the repository, with the repository's configuration."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from clawfactory_core.errors import CoreError

REPOSITORY = Path(__file__).resolve().parent.parent
PROGRAMS = Path(sys.executable).parent

EXIT_OK = 0
EXIT_ERROR = 1
EXIT_BOT_FAILED = 3
EXIT_UNREACHABLE = 4
EXIT_BOTH = 5
EXIT_INTERRUPTED = 130

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
        if self.vault_password_file is not None:
            arguments += ["--vault-password-file", _from_here(self.vault_password_file)]
        if self.ask_vault_pass:
            arguments.append("--ask-vault-pass")
        return arguments

    def playbook_arguments(self) -> list[str]:
        """All arguments for ``ansible-playbook`` but the playbook and the limit."""
        arguments = self.inventory_arguments()
        for value in self.extra_vars:
            arguments += ["-e", f"@{_from_here(value[1:])}" if value.startswith("@") else value]
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


def run(command: list[str], *, capture: bool = False) -> tuple[int, str]:
    """Run a command to its end and let it handle Ctrl-C itself, so that Ansible can clean up.

    :param capture: collect what it prints instead of showing it.
    :returns: its exit status as one of ours, and its collected output.
    """
    sink = subprocess.PIPE if capture else None
    joined = subprocess.STDOUT if capture else None
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment(), stdout=sink, stderr=joined, text=True) as process:

        def hand_on(number: int, _frame: FrameType | None) -> None:
            process.send_signal(number)

        before = {number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGHUP)}
        # The terminal sends Ctrl-C to the child as well; we only have to outlive it.
        before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda _number, _frame: None)
        try:
            output, _ = process.communicate()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return exit_code(process.returncode), output or ""


def list_bots(options: AnsibleOptions) -> list[str]:
    """Names of the bots in the inventory, in its order.

    :raises CoreError: when Ansible cannot read the inventory.
    """
    command = [str(PROGRAMS / "ansible"), "bots", "--list-hosts", *options.inventory_arguments()]
    result = subprocess.run(command, cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode != 0:
        raise CoreError(f"Ansible cannot read the inventory {', '.join(options.inventory) or 'in inventory/'}")
    # The first line counts: "  hosts (2):"
    return [line.strip() for line in result.stdout.splitlines()[1:] if line.strip()]
