"""Walks a directory tree that somebody hostile may own and change meanwhile."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Every level takes two file descriptors, and a process has a thousand.
MAX_DEPTH = 256
_ENTRIES_PER_TICK = 1024
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Between listing a directory and looking at an entry its owner may remove or replace it.
_VANISHED = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}

#: Called with the name of an entry, what lstat says of it, and a descriptor of the directory it is in.
Visit = Callable[[str, os.stat_result, int], None]


@dataclass(frozen=True)
class TreeReport:
    """How a walk went.

    :param entries: files and directories seen.
    :param too_deep: there is more below :data:`MAX_DEPTH` levels, which was not visited.
    :param problem: first error that was not a vanished file, empty if there was none.
    """

    entries: int
    too_deep: bool
    problem: str


def walk_tree(path: Path, visit: Visit, tick: Callable[[], None] | None = None) -> TreeReport:
    """Visit everything below a directory.

    Follows no link, stays on the directory's file system, takes memory by depth and not by size.

    :param visit: an ``OSError`` it raises ends up in the report.
    :param tick: called every thousand entries or so; what it raises ends the walk.
    :raises OSError: ``path`` itself cannot be opened.
    """
    return _Walk(visit, tick or (lambda: None)).run(path)


class _Walk:
    """Depth first, with one open directory, and an iterator over it, a level."""

    def __init__(self, visit: Visit, tick: Callable[[], None]) -> None:
        self._visit = visit
        self._tick = tick
        self._entries = 0
        self._too_deep = False
        self._problem = ""
        # Any: the type of an iterator over a directory has no public name.
        self._stack: list[tuple[int, Any]] = []

    def run(self, path: Path) -> TreeReport:
        top = os.open(path, _OPEN)
        self._device = os.fstat(top).st_dev
        try:
            self._push(top)
            while self._stack:
                self._go_on()
        finally:
            while self._stack:
                self._pop()
        return TreeReport(self._entries, self._too_deep, self._problem)

    def _push(self, descriptor: int) -> None:
        try:
            self._stack.append((descriptor, os.scandir(descriptor)))
        except BaseException:
            os.close(descriptor)
            raise

    def _pop(self) -> None:
        descriptor, entries = self._stack.pop()
        entries.close()
        os.close(descriptor)

    def _go_on(self) -> None:
        """Work through the innermost directory until it ends or a directory in it is entered."""
        parent, entries = self._stack[-1]
        try:
            for entry in entries:
                self._entries += 1
                if self._entries % _ENTRIES_PER_TICK == 0:
                    self._tick()
                if self._enter(entry, parent):
                    return
        except OSError as error:
            self._note(error)
        self._pop()

    def _enter(self, entry: os.DirEntry[str], parent: int) -> bool:
        """Visit an entry; true if it is a directory, which is now the innermost."""
        try:
            found = entry.stat(follow_symlinks=False)
            if found.st_dev != self._device:
                return False
            self._visit(entry.name, found, parent)
            if not stat.S_ISDIR(found.st_mode):
                return False
            if len(self._stack) >= MAX_DEPTH:
                self._too_deep = True
                return False
            self._push(os.open(entry.name, _OPEN, dir_fd=parent))
        except OSError as error:
            self._note(error)
            return False
        return True

    def _note(self, error: OSError) -> None:
        if error.errno not in _VANISHED and not self._problem:
            self._problem = str(error)
