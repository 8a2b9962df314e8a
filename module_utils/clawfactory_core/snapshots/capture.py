"""Walks and reads a state directory whose owner may be hostile and change it meanwhile.

Everything goes through descriptors of directories: no path is looked up twice, no link is followed, nothing is opened
that could block. What is not wanted, or goes on changing into something else, is told to ``left_out`` and skipped.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import CoreError
from .descriptors import read_at
from .digests import escape_path
from .rules import Rules

#: The bot's own entry of this name is left out: an archive uses it for what is about the snapshot.
RESERVED = b".clawfactory"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_ATTEMPTS = 4
_KINDS = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l"}
_SPECIAL = {stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}

MOUNT_POINT = "mount point of an approved file"
OTHER_FILE_SYSTEM = "another file system"
FOREIGN_LINK = "hard link to a file of another user"
UNREADABLE = "cannot be read"
UNSTEADY = "was replaced again and again"
RESERVED_NAME = "reserved name"
TOO_DEEP = "deeper than max_depth"
TOO_MANY = "beyond max_entries"
TOO_LARGE = "larger than max_file_bytes"
TOO_MUCH = "beyond max_bytes"

#: Told the path and the reason of what is left out.
LeftOut = Callable[[bytes, str], None]


@dataclass(frozen=True)
class Limits:
    """What a state may ask of the machine.

    :param max_entries: entries that are looked at; what comes after them is left out.
    :param max_bytes: bytes of regular files; a file that would go beyond is left out.
    :param max_depth: components of a path; a directory that has as many is left out with what is in it.
    :param max_file_bytes: a larger file is left out.
    :param max_seconds: a snapshot that takes longer is given up.
    :param max_text: bytes of the manifest, which readers hold in memory: :attr:`.tar_reader.ReadLimits.max_document`.
    """

    max_entries: int = 2_000_000
    max_bytes: int = 256 << 30
    max_depth: int = 64
    max_file_bytes: int = 64 << 30
    max_seconds: float = 3600.0
    max_text: int = 384 << 20


class Vanished(CoreError):
    """An entry is not there any more."""


class LeaveOut(CoreError):
    """An entry cannot be stored; the text is the reason."""


@dataclass
class Entry:
    """One entry of the state.

    :param path: from the state directory.
    :param directory: descriptor of the directory it is in, open until the walk goes on.
    :param found: what lstat says.
    :param kind: ``f``, ``d`` or ``l``.
    """

    path: bytes
    name: bytes
    directory: int
    found: os.stat_result
    kind: str


@dataclass
class _Level:
    descriptor: int
    prefix: bytes
    names: Iterator[bytes]
    # Why the directory is left out, but for what is included all the same.
    reason: str


class Walk:
    """Every entry that belongs in a snapshot, directories first, in the order of the archive.

    Memory goes with the largest directory, not with the tree.

    :param top: descriptor of the state directory.
    """

    def __init__(self, top: int, rules: Rules, limits: Limits, left_out: LeftOut) -> None:
        self._top = top
        self._rules = rules
        self._limits = limits
        self._left_out = left_out
        found = os.fstat(top)
        self._device = found.st_dev
        self._owner = found.st_uid
        self._seen = 0
        self._text = 0
        self._levels: list[_Level] = []

    def __iter__(self) -> Iterator[Entry]:
        """:raises OSError: the state directory itself cannot be read."""
        try:
            self._enter(os.open(".", _DIRECTORY, dir_fd=self._top), b"", "")
            while self._levels:
                level = self._levels[-1]
                name = next(level.names, None)
                if name is None:
                    os.close(self._levels.pop().descriptor)
                    continue
                entry = self._look(level, name)
                if entry is None:
                    continue
                if entry.kind != "d":
                    yield entry
                    continue
                descriptor = self._open_directory(entry)
                if descriptor is not None:
                    self._enter(descriptor, entry.path + b"/", self._rules.reason(entry.path, entry.name, level.reason))
                    yield entry
        finally:
            for level in self._levels:
                os.close(level.descriptor)
            self._levels.clear()

    def _enter(self, descriptor: int, prefix: bytes, reason: str) -> None:
        level = _Level(descriptor, prefix, iter(()), reason)
        self._levels.append(level)
        names: list[bytes] = []
        allowed = self._limits.max_entries - self._seen
        with os.scandir(descriptor) as found:
            for item in found:
                if len(names) >= allowed:
                    self._left_out(prefix.rstrip(b"/") or b".", TOO_MANY)
                    break
                names.append(os.fsencode(item.name))
        self._seen += len(names)
        names.sort()
        level.names = iter(names)

    def _look(self, level: _Level, name: bytes) -> Entry | None:
        path = level.prefix + name
        left_out = reason = self._rules.reason(path, name, level.reason)
        if reason and self._rules.leads_to_included(path):
            reason = ""
        if not reason and path == RESERVED:
            reason = RESERVED_NAME
        if not reason:
            try:
                found = look(name, level.descriptor)
            except FileNotFoundError:
                return None
            except OSError as error:
                reason = f"{UNREADABLE}: {error.strerror}"
            else:
                reason = self.refusal(found)
                if left_out and not stat.S_ISDIR(found.st_mode):
                    reason = left_out
                reason = reason or self._too_much_text(path, found)
                if not reason:
                    return Entry(path, name, level.descriptor, found, _KINDS[stat.S_IFMT(found.st_mode)])
        self._left_out(path, reason)
        return None

    def refusal(self, found: os.stat_result) -> str:
        """Why an entry is not stored whatever its name, empty if it is."""
        kind = stat.S_IFMT(found.st_mode)
        if kind not in _KINDS:
            return _SPECIAL.get(kind, "unknown type")
        if found.st_dev != self._device:
            return OTHER_FILE_SYSTEM
        if kind == stat.S_IFDIR:
            return TOO_DEEP if len(self._levels) >= self._limits.max_depth else ""
        if kind == stat.S_IFREG and found.st_uid != self._owner:
            # Docker makes an empty file of root's wherever it mounts one.
            if found.st_size == 0 and found.st_uid == 0:
                return MOUNT_POINT
            if found.st_nlink > 1:
                return FOREIGN_LINK
        if kind == stat.S_IFREG and found.st_size > self._limits.max_file_bytes:
            return TOO_LARGE
        return ""

    def _too_much_text(self, path: bytes, found: os.stat_result) -> str:
        text = escape_path(path)
        # A byte of a link's target is six at most.
        size = len(text) + text.count("\\") + 110 + (6 * found.st_size if stat.S_ISLNK(found.st_mode) else 0)
        if self._text + size > self._limits.max_text:
            return TOO_MANY
        self._text += size
        return ""

    def _open_directory(self, entry: Entry) -> int | None:
        try:
            descriptor = os.open(entry.name, _DIRECTORY, dir_fd=entry.directory)
        except FileNotFoundError:
            return None
        except OSError as error:
            # A link or a file by now is ELOOP or ENOTDIR.
            self._left_out(entry.path, f"{UNREADABLE}: {error.strerror}")
            return None
        found = os.fstat(descriptor)
        if found.st_dev != self._device:
            os.close(descriptor)
            self._left_out(entry.path, OTHER_FILE_SYSTEM)
            return None
        entry.found = found
        return descriptor

    def open_file(self, entry: Entry) -> OpenFile:
        """Open a regular file of the walk; its ``entry.found`` is brought up to date.

        :raises Vanished: it is gone.
        :raises LeaveOut: it cannot be read, or is something else each time one looks.
        """
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._look_again(entry)
            try:
                descriptor = os.open(entry.name, _FILE, dir_fd=entry.directory)
            except FileNotFoundError as error:
                raise Vanished(repr(entry.path)) from error
            except OSError as error:
                # A link by now is ELOOP, a socket ENXIO.
                if error.errno in (errno.ELOOP, errno.ENXIO):
                    continue
                raise LeaveOut(f"{UNREADABLE}: {error.strerror}") from error
            found = os.fstat(descriptor)
            same = (found.st_dev, found.st_ino, found.st_mode) == (
                entry.found.st_dev,
                entry.found.st_ino,
                entry.found.st_mode,
            )
            if same and (found.st_ctime_ns == entry.found.st_ctime_ns or not self.refusal(found)):
                entry.found = found
                return OpenFile(descriptor, found)
            os.close(descriptor)
        raise LeaveOut(UNSTEADY)

    def _look_again(self, entry: Entry) -> None:
        try:
            entry.found = look(entry.name, entry.directory)
        except FileNotFoundError as error:
            raise Vanished(repr(entry.path)) from error
        if not stat.S_ISREG(entry.found.st_mode):
            raise LeaveOut(UNSTEADY)
        reason = self.refusal(entry.found)
        if reason:
            raise LeaveOut(reason)


class OpenFile:
    """A regular file that is open, whatever its path leads to by now. :ivar found: what fstat said at first."""

    def __init__(self, descriptor: int, found: os.stat_result) -> None:
        self.found = found
        self._descriptor = descriptor

    def stat(self) -> os.stat_result:
        """What fstat says now."""
        return os.fstat(self._descriptor)

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``, fewer only where the file ends.

        :raises LeaveOut: the file system reports an error.
        """
        try:
            return read_at(self._descriptor, length, offset)
        except OSError as error:
            raise LeaveOut(f"{UNREADABLE}: {error.strerror}") from error

    def close(self) -> None:
        """Close it; again does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def look(name: bytes, directory: int) -> os.stat_result:
    """What lstat says of a name in an open directory."""
    return os.stat(name, dir_fd=directory, follow_symlinks=False)


def read_link(entry: Entry) -> bytes:
    """Where a symbolic link points.

    :raises Vanished: it is gone. :raises LeaveOut: it is something else by now.
    """
    try:
        return os.readlink(entry.name, dir_fd=entry.directory)
    except FileNotFoundError as error:
        raise Vanished(repr(entry.path)) from error
    except OSError as error:
        raise LeaveOut(UNSTEADY) from error


def same_content(before: os.stat_result, after: os.stat_result) -> bool:
    """Whether nobody wrote to a file between two looks."""
    return (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )
