"""A run of a playbook for each machine, at the same time: a slow or broken one keeps nobody waiting."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
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
            f"every machine's run would ask for a password ({', '.join(sorted(asking))}): put it in a file of yours, "
            "named by ANSIBLE_BECOME_PASSWORD_FILE or --vault-password-file; if no machine's sudo wants one, "
            "say --no-ask-become-pass",
            param_hint="--each-machine",
        )
    # That sudo did not want one just now is no promise.
    options = replace(call.options, ask_become_pass=False)
    try:
        machines = ansible.machines_of(limit, options)
    except CoreError as error:
        fail(error)
    if len(machines) < 2:
        play(playbook, limit, call, module=module)
    commands = {
        machine: ansible.playbook_command(playbook, ",".join(bots), options) for machine, bots in machines.items()
    }
    runs = _Runs(quiet=call.as_json)
    codes = runs.attend(commands)
    if call.as_json:
        show_json(_merged(runs.output, codes, module))
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


def _merged(outputs: Mapping[str, bytes], codes: dict[str, int], module: str) -> dict[str, Any]:
    """Results of all bots; a run that told none has failed, whatever its status."""
    merged: dict[str, Any] = {}
    for machine in codes:
        output = outputs.get(machine, b"").decode(errors="replace")
        try:
            merged.update(results_of(output, module))
        except ValueError:
            typer.echo(f"{machine}: Ansible did not answer with JSON\n{output}", err=True)
            codes[machine] = codes[machine] or 1
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
        self._signal = 0

    def attend(self, commands: Mapping[str, list[str]]) -> dict[str, int]:
        """Run all to their end. :returns: exit status by machine, 99 where a signal came before its turn."""

        def end(number: int, _frame: FrameType | None) -> None:
            self._signal = number
            for process in list(self._live):
                self._hand_on(process)

        # What is ignored (nohup) stays so, also for them.
        heeded = [
            each for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) != signal.SIG_IGN
        ]
        before = {number: signal.signal(number, end) for number in heeded}
        try:
            with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
                return dict(zip(commands, pool.map(self._run, commands, commands.values()), strict=True))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hand_on(self, process: subprocess.Popen[bytes]) -> None:
        # The terminal sends Ctrl-C to them as well.
        if self._signal not in (0, signal.SIGINT):
            process.send_signal(self._signal)

    def _run(self, machine: str, command: list[str]) -> int:
        """Nothing that goes wrong here may keep another machine's run from its turn."""
        if self._signal:
            return 99
        environment = {**ansible.environment(), **(ansible.AS_JSON if self._quiet else {})}
        # Into a pipe, Python would hold back what Ansible says.
        environment["PYTHONUNBUFFERED"] = "1"
        if is_rich() and not self._quiet:
            environment.setdefault("ANSIBLE_FORCE_COLOR", "1")
        try:
            process = subprocess.Popen(
                command, cwd=ansible.REPOSITORY, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=None if self._quiet else subprocess.STDOUT,
            )  # fmt: skip
        except OSError as error:
            self._show(machine, f"cannot start: {error}\n".encode())
            return 1
        with process:
            self._live.add(process)
            # One that came between the look above and now.
            self._hand_on(process)
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
        # Where nobody reads any more, the runs go on.
        with self._lock, contextlib.suppress(OSError):
            data = memoryview(f"{machine} | ".encode() + line.rstrip(b"\n") + b"\n")
            while data:
                data = data[os.write(2 if self._quiet else 1, data) :]
