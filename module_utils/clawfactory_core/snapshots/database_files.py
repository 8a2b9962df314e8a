"""The files of a SQLite database that may be hostile, and SQLite's own locks on them.

Numbers are those of SQLite's ``os.h``, ``os_unix.c`` and ``wal.c``; they are part of its file format and do not change
(https://www.sqlite.org/walformat.html, sections 2 and 2.3).

The locks here are *open file description* locks (fcntl(2), Linux). They conflict with the process-wide POSIX locks that
SQLite takes, in both directions, but are not lost when another descriptor of the same file is closed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Callable

from ..errors import CoreError, InvalidInput

#: On the database file: SQLite's PENDING and RESERVED bytes, and the range that a reader locks.
PENDING = 0x40000000
RESERVED = 0x40000001
SHARED, SHARED_LENGTH = 0x40000002, 510
#: On the ``-shm`` file: one byte each.
WRITE, CHECKPOINT, READ_0, READ_4, DEAD_MAN_SWITCH = 120, 121, 123, 127, 128

#: ``struct flock`` of 64-bit Linux: type, whence, start, length, process (0 for these locks).
_FLOCK = struct.Struct("@hhqqi4x")


class DatabaseUnreadable(CoreError):
    """This is no SQLite database whose content can be told; it can still be read as any other file."""


class DatabaseBusy(CoreError):
    """Somebody held a lock for longer than was waited; the same call can succeed later."""


class Locks:
    """SQLite's locks on one descriptor. None of the calls waits."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def shared(self, start: int, length: int = 1) -> bool:
        """Take a shared lock; ``False`` if somebody is in the way."""
        return self._set(fcntl.F_RDLCK, start, length)

    def exclusive(self, start: int, length: int = 1) -> bool:
        """Take an exclusive lock, which needs a descriptor open for writing; ``False`` if somebody is in the way."""
        return self._set(fcntl.F_WRLCK, start, length)

    def release(self, start: int = 0, length: int = 0) -> None:
        """Give up locks; without arguments all of them."""
        self._set(fcntl.F_UNLCK, start, length)

    def held_by_others(self, start: int) -> int:
        """:returns: ``F_UNLCK``, ``F_RDLCK`` or ``F_WRLCK``: what others hold on this byte."""
        answer = fcntl.fcntl(self._descriptor, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, start, 1, 0))
        return int(_FLOCK.unpack(answer)[0])

    def read_database(self) -> bool:
        """Take SQLite's SHARED lock on a database file, as ``unixLock`` does."""
        if not self.shared(PENDING):
            return False
        try:
            return self.shared(SHARED, SHARED_LENGTH)
        finally:
            self.release(PENDING, 1)

    def _set(self, kind: int, start: int, length: int) -> bool:
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True


def check_name(name: str | bytes) -> bytes:
    """:returns: ``name`` as bytes. :raises InvalidInput: it is not the name of a file inside a directory."""
    raw = os.fsencode(name)
    if not raw or b"/" in raw or b"\0" in raw or raw in (b".", b".."):
        raise InvalidInput(f"{raw!r} is not a file name; give the directory as a descriptor and the name alone")
    return raw


def open_regular(directory_fd: int, name: bytes, *, write: bool = False) -> int | None:
    """Open a regular file of the directory's own file system, following no link and never waiting.

    ``O_NONBLOCK`` also makes open(2) fail at once where a lease is held on the file.

    :param write: for exclusive locks; nothing is ever written.
    :returns: a descriptor, or ``None`` if there is no such file.
    :raises DatabaseUnreadable: it is something else, or cannot be opened.
    """
    flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        descriptor = os.open(name, flags, dir_fd=directory_fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DatabaseUnreadable(f"{name!r} cannot be opened ({error.strerror}); it must be a plain file") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_dev != os.fstat(directory_fd).st_dev:
        os.close(descriptor)
        raise DatabaseUnreadable(f"{name!r} is not a plain file of this file system; remove or replace it")
    return descriptor


def fill(descriptor: int, target: memoryview, offset: int) -> int:
    """Read into ``target``. :returns: how many bytes there were before the file ended."""
    done = 0
    while done < len(target):
        got = os.preadv(descriptor, [target[done:]], offset + done)
        if not got:
            break
        done += got
    return done


Stamp = tuple[int, int, int]


def stamp(descriptor: int) -> Stamp:
    """:returns: size, mtime and ctime (ns) of a file; nobody wrote if size and mtime are equal around a reading."""
    found = os.fstat(descriptor)
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def settled_stamp(descriptor: int, clock: Callable[[], int], wait: Callable[[float], None]) -> Stamp:
    """As :func:`stamp`, of a file that was last written long enough ago for the next write to show in its times.

    Kernels before 6.13 stamp files with the time of the last tick, so two writes within 10 ms can look like one.

    :param clock: Unix time in ns. :param wait: sleeps so many seconds.
    """
    for _ in range(10):
        found = stamp(descriptor)
        if not 0 <= clock() - max(found[1:]) < 20_000_000:
            break
        wait(0.02)
    return found
