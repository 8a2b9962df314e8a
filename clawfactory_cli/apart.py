"""A run of a playbook for each machine, at the same time: a slow or broken one keeps nobody waiting."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, NoReturn

import typer

from clawfactory_core.errors import CoreError

from . import ansible
from .output import is_rich, show_json
from .parameters import Call, fail
from .playing import play, results_of

#: Runs at the same time; each takes about 100 MB here.
MOST_AT_ONCE = 16


def play_apart(playbook: str, limit: str, call: Call, *, module: str = "") -> NoReturn:
    """Run a playbook in a run of its own on each machine that ``limit`` is about; as :func:`.playing.play` else.

    Each line is told with the machine it comes from, as it comes.
    """
    asking = {"--ask-become-pass", "--ask-vault-pass"} & set(call.options.playbook_arguments())
    if asking:
        raise typer.BadParameter(
            f"every machine's run would ask for a password ({', '.join(sorted(asking))}); put it in a file only you "
            "can read, named by ANSIBLE_BECOME_PASSWORD_FILE or --vault-password-file",
            param_hint="--each-machine",
        )
    try:
        machines = ansible.machines_of(limit, call.options)
    except CoreError as error:
        fail(error)
    if len(machines) < 2:
        play(playbook, limit, call, module=module)
    commands = {
        machine: ansible.playbook_command(playbook, ",".join(bots), call.options) for machine, bots in machines.items()
    }
    runs = _Runs(quiet=call.as_json)
    codes = runs.attend(commands)
    if call.as_json:
        show_json(_merged(runs.output, module))
    else:
        wrong = [machine for machine, code in codes.items() if code != 0]
        typer.echo(f"{len(codes) - len(wrong)} of {len(codes)} machines done{_named(wrong)}", err=True)
    raise typer.Exit(ansible.exit_code(combined(list(codes.values()))))


def combined(codes: list[int]) -> int:
    """Exit status of runs together, as Ansible itself would have it: of bots that failed 2, of those not reached 4.

    :param codes: of each run; negative: the signal that ended it.
    """
    others = [code for code in codes if code not in (0, 2, 4, 6)]
    if others:
        # What nobody asked for before what somebody did (Ctrl-C is 99).
        return next((code for code in others if code != 99), 99)
    return (2 if any(code & 2 for code in codes) else 0) | (4 if any(code & 4 for code in codes) else 0)


def _merged(outputs: Mapping[str, bytes], module: str) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for machine, output in outputs.items():
        try:
            merged.update(results_of(output.decode(errors="replace"), module))
        except ValueError:
            typer.echo(f"{machine}: {output.decode(errors='replace')}", err=True, nl=False)
    return merged


def _named(machines: list[str]) -> str:
    return f"; failed: {', '.join(machines)}" if machines else ""


class _Runs:
    """Runs beside one another.

    :param quiet: collect what they print on standard output, as JSON, instead of showing it.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.output: dict[str, bytes] = {}
        self._quiet = quiet
        self._live: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._ended = False

    def attend(self, commands: Mapping[str, list[str]]) -> dict[str, int]:
        """Run all to their end. :returns: exit status by machine, 99 where Ctrl-C came before its turn."""

        def end(number: int, _frame: FrameType | None) -> None:
            self._ended = True
            # The terminal sends Ctrl-C to them as well.
            for process in list(self._live) if number != signal.SIGINT else []:
                process.send_signal(number)

        before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
                return dict(zip(commands, pool.map(self._run, commands, commands.values()), strict=True))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _run(self, machine: str, command: list[str]) -> int:
        if self._ended:
            return 99
        environment = {**ansible.environment(), **(ansible.AS_JSON if self._quiet else {})}
        if is_rich() and not self._quiet:
            environment.setdefault("ANSIBLE_FORCE_COLOR", "1")
        with subprocess.Popen(
            command, cwd=ansible.REPOSITORY, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=None if self._quiet else subprocess.STDOUT,
        ) as process:  # fmt: skip
            self._live.add(process)
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            if self._quiet:
                self.output[machine] = process.stdout.read()
            else:
                for line in process.stdout:
                    self._show(machine, line)
            process.wait()
            self._live.discard(process)
        return process.returncode

    def _show(self, machine: str, line: bytes) -> None:
        with self._lock:
            os.write(1, f"{machine} | ".encode() + line.rstrip(b"\n") + b"\n")
