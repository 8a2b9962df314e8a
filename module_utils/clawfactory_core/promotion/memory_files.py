"""Reads the markdown of a bot's memory as the bot's own user, locked into the state, whatever it makes of its files."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import CoreError
from ..snapshots.worker import Confinement, Report, Worker, wait

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TOP = ("MEMORY.md", "memory.md")
_BASE = "workspace"


@dataclass(frozen=True)
class MemoryLimits:
    """How much memory is copied.

    :param files: so many files.
    :param file_bytes: bytes of one.
    :param total_bytes: bytes of all; what the worker says has to fit into one message.
    :param depth: directories in each other below ``memory``.
    """

    files: int = 5000
    file_bytes: int = 2 << 20
    total_bytes: int = 24 << 20
    depth: int = 8


@dataclass(frozen=True)
class Memory:
    """What was read.

    :param files: path below the workspace to content.
    :param left_out: path to reason.
    """

    files: dict[str, bytes] = field(repr=False)
    left_out: dict[str, str]


def read_memory(state: Path, uid: int, limits: MemoryLimits | None = None) -> Memory:
    """Markdown files of a bot's memory.

    :param state: the state directory, whose parent is root's.
    :param uid: the bot's own user.
    :raises CoreError: the state is no directory, or cannot be read.
    """
    try:
        root = os.open(state, _DIRECTORY)
    except OSError as error:
        raise CoreError(f"{state} cannot be read: {error.strerror}") from error
    bounds = limits or MemoryLimits()
    try:
        worker = Worker(lambda report: _read(report, bounds), Confinement(root, uid, uid))
        wait([worker], lambda message: None)
    finally:
        os.close(root)
    if worker.failure is not None:
        raise worker.failure.error
    files = {path: base64.b64decode(content) for path, content in worker.result["files"].items()}
    return Memory(files, dict(worker.result["left_out"]))


def _read(_: Report, limits: MemoryLimits) -> dict[str, Any]:
    """Runs in the worker, whose working directory is the state."""
    files: dict[str, str] = {}
    left_out: dict[str, str] = {}
    total = 0
    for path, name, directory in _candidates(limits, left_out):
        try:
            content = _content(name, directory, limits.file_bytes)
        except (OSError, ValueError) as error:
            left_out[_shown(path)] = error.strerror or "" if isinstance(error, OSError) else str(error)
            continue
        total += len(content)
        if len(files) >= limits.files or total > limits.total_bytes:
            left_out[_shown(path)] = "there is too much"
            break
        files[path] = base64.b64encode(content).decode("ascii")
    return {"files": files, "left_out": left_out}


def _candidates(limits: MemoryLimits, left_out: dict[str, str]) -> Iterator[tuple[str, str, int]]:
    """Path, name and open directory of each file that may be memory."""
    try:
        workspace = os.open(_BASE, _DIRECTORY)
    except FileNotFoundError:
        return
    try:
        for name in _TOP:
            if _exists(name, workspace):
                yield name, name, workspace
        if _exists("memory", workspace):
            yield from _walk("memory", "memory", workspace, limits.depth, left_out)
    finally:
        os.close(workspace)


def _walk(path: str, name: str, parent: int, depth: int, left_out: dict[str, str]) -> Iterator[tuple[str, str, int]]:
    try:
        directory = os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        left_out[_shown(path)] = error.strerror or "it cannot be opened"
        return
    try:
        for entry in sorted(os.listdir(directory)):
            below = f"{path}/{entry}"
            if stat.S_ISDIR(os.stat(entry, dir_fd=directory, follow_symlinks=False).st_mode):
                if not _is_utf8(entry):
                    left_out[_shown(below)] = "its name is not UTF-8"
                elif depth:
                    yield from _walk(below, entry, directory, depth - 1, left_out)
                else:
                    left_out[_shown(below)] = "it is too deep"
            elif entry.endswith(".md"):
                yield below, entry, directory
    finally:
        os.close(directory)


def _content(name: str, directory: int, most: int) -> bytes:
    """:raises ValueError: this is no memory."""
    if not name.isprintable() or '"' in name or "\\" in name or len(os.fsencode(name)) > 200:
        raise ValueError("its name is not one for a repository")
    descriptor = os.open(name, _FILE, dir_fd=directory)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is no regular file")
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most} bytes")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    return content


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _exists(name: str, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _shown(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")[:300]
