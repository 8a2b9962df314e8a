"""Runs git for the controller: nothing of a repository's or anybody's making decides how, and it has limits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from clawfactory_core.errors import CoreError

#: A pack may name objects that are a thousand times larger than itself; what git takes for one is bounded here.
MEMORY_MB = 160
FILE_MB = 128
_CPU_SECONDS = 120
_LARGEST_ERROR = 16 * 1024  # bytes
#: ulimit counts kibibytes of memory and, in POSIX, blocks of 512 bytes of a file.
#: How lines begin that git and ssh add to every failure of a connection, and nobody can act on.
_IDLE = (
    "Please make sure you have the correct access", "and the repository exists.", "mm_receive_fd:", "proxy dialer did",
)  # fmt: skip
_LIMITED = 'ulimit -d "$1" && ulimit -f "$2" && ulimit -t "$3" && ulimit -c 0 && shift 3 && exec "$@"'
#: For every command. What a configuration file of a repository says otherwise is overruled.
_SETTINGS = {
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.bigFileThreshold": "1m",  # larger blobs are streamed, not held
    "core.packedGitWindowSize": "1m",
    "core.packedGitLimit": "32m",
    "core.deltaBaseCacheLimit": "16m",
    "pack.threads": "1",
    "pack.windowMemory": "32m",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "protocol.allow": "never",
    "credential.helper": "",
    "user.name": "ClawFactory",
    "user.email": "clawfactory@localhost",
}


class GitFailed(CoreError):
    """Git ended with an error.

    :param detail: the end of what it said, printable.
    """

    def __init__(self, command: str, detail: str) -> None:
        self.detail = detail
        super().__init__(f"git {command}: {detail}")


@dataclass(frozen=True)
class GitCommand:
    """One command.

    :param arguments: after ``git``; never a secret.
    :param directory: where it runs.
    :param settings: git settings for this command, in order; a name may come twice. May hold secrets: they travel in
        the environment, which nobody but this user can read.
    :param environment: variables besides git's own.
    :param keep: file descriptors that the process gets.
    """

    arguments: Sequence[str]
    directory: Path
    settings: Sequence[tuple[str, str]] = ()
    environment: Mapping[str, str] | None = None
    keep: tuple[int, ...] = ()

    def variables(self) -> dict[str, str]:
        """The whole environment of the process."""
        variables = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": "/nonexistent",
            "XDG_CONFIG_HOME": "/nonexistent",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            **(self.environment or {}),
        }
        settings = [*_SETTINGS.items(), *self.settings]
        for number, (name, value) in enumerate(settings):
            variables[f"GIT_CONFIG_KEY_{number}"] = name
            variables[f"GIT_CONFIG_VALUE_{number}"] = value
        variables["GIT_CONFIG_COUNT"] = str(len(settings))
        return variables


@asynccontextmanager
async def start_git(command: GitCommand, *, input_wanted: bool = False) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start git; when the block is left, whatever still runs of it is killed."""
    limits = (str(MEMORY_MB * 1024), str(FILE_MB * 2048), str(_CPU_SECONDS))
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", _LIMITED, "sh", *limits, "git", *command.arguments),
        cwd=command.directory,
        env=command.variables(),
        stdin=asyncio.subprocess.PIPE if input_wanted else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=command.keep,
        start_new_session=True,  # its children (index-pack, the hook) are ended with it
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def run_git(command: GitCommand, *, data: bytes = b"", seconds: float, largest: int = 1 << 20) -> bytes:
    """Run git to its end.

    :param data: its input.
    :param seconds: that it may take.
    :param largest: bytes that it may print.
    :returns: what it printed.
    :raises GitFailed: it failed, printed too much, or was too slow.
    """
    try:
        async with asyncio.timeout(seconds), start_git(command, input_wanted=True) as process:
            (output, errors), _ = await asyncio.gather(read_both(process, largest), feed(process, data))
            status = await process.wait()
    except TimeoutError:
        raise GitFailed(command.arguments[0], f"not done within {seconds:g} s") from None
    if len(output) > largest:
        raise GitFailed(command.arguments[0], f"printed more than {largest} bytes")
    if status:
        raise GitFailed(command.arguments[0], printable(errors) or f"ended with status {status}")
    return output


async def feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    """Give ``data`` to the process; one that ends before it has read all says itself why."""
    stream = process.stdin
    if stream is None:
        raise RuntimeError("started without an input")
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stream.write(data)
        await stream.drain()
    stream.close()


async def read_both(process: asyncio.subprocess.Process, largest: int) -> tuple[bytes, bytes]:
    """Output (one byte more than ``largest`` if there was more) and the beginning of the errors."""
    if process.stdout is None or process.stderr is None:
        raise RuntimeError("started without an output")
    output, errors = await asyncio.gather(_read(process.stdout, largest + 1), drain(process.stderr))
    return output, errors


async def _read(stream: asyncio.StreamReader, largest: int) -> bytes:
    found = bytearray()
    while chunk := await stream.read(65536):
        found += chunk[: largest - len(found)]
    return bytes(found)


async def drain(stream: asyncio.StreamReader) -> bytes:
    """Read to the end, so that the process never waits; keep the beginning."""
    return await _read(stream, _LARGEST_ERROR)


def printable(errors: bytes) -> str:
    """The last lines of what git complained about, on one line that a log or an answer may carry."""
    lines = [line.strip() for line in errors.decode("utf-8", "replace").splitlines()]
    text = "; ".join([line for line in lines if line and not line.startswith(_IDLE)][-3:])
    return "".join(character if character.isprintable() else "?" for character in text)[:500]
