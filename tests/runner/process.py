"""Runs one command with its output shown as it comes, and never longer than allowed."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from clawfactory_cli.ansible import PROGRAMS, REPOSITORY, environment, on_terminal

_GRACE = 20.0
"""Seconds between asking a command that took too long to end and killing it."""
_TIMED_OUT = 124


_LABEL: ContextVar[str] = ContextVar("label", default="")
_RUNNING: dict[subprocess.Popen[str], bool] = {}
_ENDING = threading.Event()
_INTERRUPTED = 130


@contextmanager
def labelled(label: str) -> Iterator[None]:
    """Begin each line of output of the commands in this thread with a label, if it is not empty."""
    token = _LABEL.set(label)
    try:
        yield
    finally:
        _LABEL.reset(token)


def end_all() -> None:
    """Ask every command that runs, in whatever thread, to end; none is started any more."""
    _ENDING.set()
    for process, own_session in list(_RUNNING.items()):
        _end(process, own_session, signal.SIGTERM)


@dataclass(frozen=True)
class Finished:
    """A command that ended: its exit status (124: it took too long), seconds, and lines if they were collected."""

    exit_code: int
    seconds: float
    lines: tuple[str, ...] = ()


def program(name: str) -> str:
    """Path of a program in this Python environment."""
    return str(PROGRAMS / name)


def _end(process: subprocess.Popen[str], own_session: bool, number: signal.Signals) -> None:
    try:
        if own_session:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
    except ProcessLookupError:
        return  # it ended by itself just now
    except PermissionError:  # it runs as root, by sudo
        target = f"-{process.pid}" if own_session else str(process.pid)
        subprocess.run(["sudo", "-n", "kill", f"-{number.value}", "--", target], check=False)


def _watch(process: subprocess.Popen[str], own_session: bool, limit: float, ended: threading.Event) -> None:
    if ended.wait(limit):
        return
    print(f"-- ended: it took longer than {limit:.0f} s", flush=True)
    _end(process, own_session, signal.SIGTERM)
    if not ended.wait(_GRACE):
        _end(process, own_session, signal.SIGKILL)


def stream(
    command: Sequence[str],
    *,
    limit: float,
    variables: Mapping[str, str] | None = None,
    collect: bool = False,
    errors_only: bool = False,
) -> Finished:
    """Run a command in the repository and show its output.

    :param limit: seconds after which it is ended, and has failed.
    :param variables: added to the environment.
    :param collect: return its output lines as well; standard error is part of them.
    :param errors_only: show nothing but its standard error.
    """
    if _ENDING.is_set():
        return Finished(_INTERRUPTED, 0.0)
    label = f"{_LABEL.get()} | " if _LABEL.get() else ""
    print(f"{label}-- {shlex.join(command)}", flush=True)
    # On a terminal it stays in our session, where sudo can ask; elsewhere nothing asks, and all of it can be ended.
    own_session = not on_terminal()
    # Lines of commands that run beside one another are told apart by their labels.
    shown = collect or (bool(label) and not errors_only)
    sink = subprocess.PIPE if shown else subprocess.DEVNULL if errors_only else None
    started = time.monotonic()
    ended = threading.Event()
    lines: list[str] = []
    with subprocess.Popen(
        list(command),
        cwd=REPOSITORY,
        env={**environment(), **(variables or {})},
        stdin=subprocess.DEVNULL if own_session else None,
        stdout=sink,
        stderr=subprocess.STDOUT if shown else None,
        text=True,
        errors="replace",
        start_new_session=own_session,
    ) as process:
        watcher = threading.Thread(target=_watch, args=(process, own_session, limit, ended), daemon=True)
        watcher.start()
        _RUNNING[process] = own_session
        if _ENDING.is_set():  # asked for between the look above and now
            _end(process, own_session, signal.SIGTERM)
        try:
            for line in process.stdout or ():
                print(f"{label}{line}", end="", flush=True)
                if collect:
                    lines.append(line)
            exit_code = process.wait()
        except BaseException:
            _end(process, own_session, signal.SIGTERM)
            raise
        finally:
            ended.set()
            del _RUNNING[process]
    seconds = time.monotonic() - started
    if seconds <= limit:
        return Finished(exit_code, seconds, tuple(lines))
    if own_session:
        _end(process, own_session, signal.SIGKILL)  # the command obeyed; what it started may have not
    return Finished(_TIMED_OUT, seconds, tuple(lines))
