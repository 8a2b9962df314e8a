"""Git by GitPython, with nothing of the machine's own configuration."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..errors import CoreError, MissingDependency

#: No prompt, no system or user configuration, no hooks or filters from a template of somebody else.
ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    # Set but empty: git asks no other program either.
    "GIT_ASKPASS": "",
    # Over SSH only with a command of our own; see promotion.ssh.
    "GIT_ALLOW_PROTOCOL": "file:git:http:https",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    # A replaced object would be judged as one thing and checked out as another.
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_GRAFT_FILE": "/nonexistent/grafts",
    "GIT_LITERAL_PATHSPECS": "1",
    # Looking takes no lock.
    "GIT_OPTIONAL_LOCKS": "0",
    # Not the ignore and attribute files of whoever runs Ansible either.
    "HOME": "/nonexistent",
    "XDG_CONFIG_HOME": "/nonexistent",
    "GIT_AUTHOR_NAME": "ClawFactory",
    "GIT_AUTHOR_EMAIL": "clawfactory@localhost",
    "GIT_COMMITTER_NAME": "ClawFactory",
    "GIT_COMMITTER_EMAIL": "clawfactory@localhost",
}
#: Settings that hold for every command, whatever the repository's own configuration says.
SETTINGS = (
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    # Proposals borrow objects of origin.git; git must not throw away what it sees no use for itself.
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("advice.detachedHead", "false"),
    # A server that sends nothing is given up.
    ("http.lowSpeedLimit", "100"),
    ("http.lowSpeedTime", "30"),
)
_LOGIN = re.compile(r"(?<=://)[^/\s'\"@]*@")


@dataclass(frozen=True)
class GitCall:
    """How git is run; the defaults suit a quick command that only looks.

    :param uid: user (and group) id that git runs as: a repository is never read with more rights than its owner has.
    :param environment: more variables; credentials belong here, never among the arguments.
    :param settings: more configuration, ``("core.bare", "true")``, stronger than any file.
    :param stdin: what git reads.
    :param timeout: seconds after which git and what it started are killed.
    :param max_output: bytes after which git is killed and the output ends.
    :param answers: exit codes that are answers, not failures.
    :param umask: of the files that git makes.
    """

    uid: int
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    settings: Sequence[tuple[str, str]] = ()
    stdin: bytes = field(default=b"", repr=False)
    timeout: float = 600.0
    max_output: int | None = None
    answers: tuple[int, ...] = (0,)
    umask: int = 0o077


@dataclass(frozen=True)
class GitAnswer:
    """What git printed and how it ended; ``cut`` says that ``max_output`` was reached."""

    code: int
    output: bytes
    cut: bool = False


def run_git(directory: Path, *arguments: str, uid: int) -> str:
    """Run one git command in ``directory``.

    :param uid: user (and group) id that git runs as: a repository is never read with more rights than its owner has.
    :returns: what it printed.
    :raises CoreError: git fails; the message is git's.
    :raises MissingDependency: GitPython cannot be imported.
    """
    return call_git(directory, GitCall(uid), *arguments).output.decode("utf-8", "replace").removesuffix("\n")


def call_git(directory: Path, call: GitCall, *arguments: str) -> GitAnswer:
    """Run one git command in ``directory``, which is a repository or what is to become one.

    :raises CoreError: git fails or takes too long; the message is git's, without logins.
    :raises MissingDependency: GitPython cannot be imported.
    """
    process = _start(directory, call, arguments)
    try:
        output, errors, cut = _talk(process, call)
    except subprocess.TimeoutExpired:
        raise CoreError(f"git {arguments[0]} in {directory} took longer than {call.timeout:g} s; try again") from None
    finally:
        _end(process)
    if not cut and process.returncode not in call.answers:
        text = _LOGIN.sub("", errors.decode("utf-8", "replace")).strip()
        raise CoreError(f"git {arguments[0]}: {text or f'ended with code {process.returncode}'}")
    return GitAnswer(process.returncode, output, cut)


def import_library() -> Any:
    """GitPython, which takes a moment the first time.

    :raises MissingDependency: it cannot be imported.
    """
    try:
        import git
    except ImportError as error:
        raise MissingDependency("git") from error
    return git


def _start(directory: Path, call: GitCall, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
    git = import_library()
    if not directory.is_dir():
        # GitPython would run git where the process happens to be.
        raise CoreError(f"git {arguments[0]}: {directory} is not a directory")
    command: Any = git.Git(str(directory))
    wanted = {**ENVIRONMENT, "GIT_CEILING_DIRECTORIES": str(directory.parent), **_settings(call), **call.environment}
    command.update_environment(**wanted)
    # GIT_DIR and its like of whoever started us would turn git to another repository.
    foreign = sorted(name for name in os.environ if name.startswith("GIT_") and name not in wanted)
    without = ["env", *(word for name in foreign for word in ("-u", name))] if foreign else []
    identity = {} if os.geteuid() == call.uid else {"user": call.uid, "group": call.uid, "extra_groups": []}
    try:
        started = command.execute(
            [*without, "git", *arguments],
            istream=subprocess.PIPE,
            as_process=True,
            start_new_session=True,
            umask=call.umask,
            **identity,
        )
    except git.CommandError as error:
        raise CoreError(f"git cannot be started ({error.stderr.strip() or error}); install the package git") from error
    process: subprocess.Popen[bytes] = started.proc
    # GitPython would end the process when its own handle is forgotten.
    started.proc = None
    return process


def _settings(call: GitCall) -> dict[str, str]:
    pairs = [*SETTINGS, *call.settings]
    numbered = {}
    for number, (key, value) in enumerate(pairs):
        numbered.update({f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value})
    return {"GIT_CONFIG_COUNT": str(len(pairs)), **numbered}


def _talk(process: subprocess.Popen[bytes], call: GitCall) -> tuple[bytes, bytes, bool]:
    if call.max_output is None:
        output, errors = process.communicate(call.stdin, timeout=call.timeout)
        return output, errors, False
    return _read_some(process, call, call.max_output)


def _read_some(process: subprocess.Popen[bytes], call: GitCall, most: int) -> tuple[bytes, bytes, bool]:
    """For commands that are given nothing to read and print no long complaints."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        os.killpg(process.pid, signal.SIGKILL)

    watchdog = threading.Timer(call.timeout, expire)
    watchdog.start()
    try:
        with closing(_pipe(process.stdout)) as stdout, closing(_pipe(process.stderr)) as stderr:
            output = stdout.read(most + 1)
            if len(output) > most:
                return output[:most], b"", True
            errors = stderr.read()
        process.wait()
    finally:
        watchdog.cancel()
    if expired.is_set():
        raise subprocess.TimeoutExpired(process.args, call.timeout)
    return output, errors, False


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise CoreError("git was started without its pipes")
    return pipe


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what still runs, helpers that git started included, and close the pipes."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None and not pipe.closed:
            pipe.close()
