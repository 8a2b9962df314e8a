"""Where the content of a file comes from: its bytes, held or read as they come, or a live database."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import Protocol

from ..errors import CoreError
from .capture import Entry, LeaveOut, Limits, OpenFile, Walk, look, same_content
from .databases import DatabaseBusy, DatabaseUnreadable, LiveDatabase, is_database
from .digests import escape_path
from .index import bounded_ns
from .manifest import Notes

#: Files up to this size are read into memory, and again if they changed meanwhile.
HELD = 1 << 20
#: Databases that are kept open together, so that they are of one moment.
TOGETHER = 64
#: More are stored as plain files: a state with so many was made to keep us busy.
MAX_DATABASES = 1024
_SMALLEST_PAGE = 512
#: Enough of a file to tell a database.
HEAD = 16
# Seconds to wait for locks, of one database and of all; a bot that starts on a busy machine holds its own for long.
_PATIENCE = 20.0
_ALL_PATIENCE = 60.0
# Seconds to follow logs that nobody has open, all together.
_ALL_FOLLOWING = 600.0
_ATTEMPTS = 3
_SIBLINGS = (b"-wal", b"-shm", b"-journal")


class Source(Protocol):
    """Content as of some moment.

    :ivar found: size, mode and times of the file.
    :ivar size: bytes of the content.
    """

    found: os.stat_result
    size: int

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``, fewer where it ends."""

    def settled(self) -> bool:
        """Whether what was read is the content at one moment."""

    def close(self) -> None:
        """Let go of it."""


class Held:
    """A small file in memory.

    :raises LeaveOut: it cannot be read.
    """

    def __init__(self, file: OpenFile) -> None:
        self._data = b""
        self.size = 0
        self._settled = False
        after = file.found
        for _ in range(_ATTEMPTS):
            self.found = after
            if self.found.st_size > HELD:
                break
            self._data = file.read(0, self.found.st_size)
            self.size = len(self._data)
            after = file.stat()
            self._settled = same_content(self.found, after) and self.size == after.st_size
            if self._settled:
                break

    def read(self, offset: int, length: int) -> bytes:
        """See :class:`Source`."""
        return self._data[offset : offset + length]

    @property
    def fits(self) -> bool:
        """Whether it is small enough to be held."""
        return self.found.st_size <= HELD

    def settled(self) -> bool:
        """See :class:`Source`."""
        return self._settled

    def close(self) -> None:
        """See :class:`Source`."""


class Streamed:
    """A large file, read as it comes: as long as it was at first, whatever happens to it."""

    def __init__(self, file: OpenFile) -> None:
        self.found = file.stat()
        self.size = self.found.st_size
        self._file = file
        self._failed = False

    def read(self, offset: int, length: int) -> bytes:
        """See :class:`Source`; a read error passes for the end."""
        try:
            return self._file.read(offset, min(length, self.size - offset))
        except LeaveOut:
            self._failed = True
            return b""

    def settled(self) -> bool:
        """See :class:`Source`."""
        return not self._failed and same_content(self.found, self._file.stat())

    def close(self) -> None:
        """See :class:`Source`."""


class Live:
    """A database with its log worked in.

    :param release: is given the database when it has been read.
    """

    def __init__(self, database: LiveDatabase, file: OpenFile, release: Callable[[LiveDatabase], None]) -> None:
        self.found = file.stat()
        self.size = database.size
        self.as_of = database.as_of
        self._database = database
        self._release = release

    def read(self, offset: int, length: int) -> bytes:
        """See :class:`Source`. :raises DatabaseUnreadable: somebody broke it meanwhile."""
        return self._database.read(offset, length)

    def settled(self) -> bool:
        """See :class:`Source`."""
        return not self._database.changed()

    def close(self) -> None:
        """See :class:`Source`."""
        self._release(self._database)


class Databases:
    """The live databases of a state: which files they are, and which beside them are not stored."""

    def __init__(self, limits: Limits, notes: Notes) -> None:
        self._limits = limits
        self._notes = notes
        self._open: dict[bytes, LiveDatabase] = {}
        self._siblings: set[bytes] = set()
        # By the path of a hot journal: who opens the database before that is stored rolls it back and deletes it.
        self._held: dict[bytes, LiveDatabase] = {}
        self._count = 0
        self._patience = _ALL_PATIENCE
        self._following = min(_ALL_FOLLOWING, limits.max_seconds / 4)
        # Database by the log that was followed for it.
        self._logs: dict[tuple[int, int], bytes] = {}

    def open_together(self, entry: Entry, walk: Walk) -> None:
        """In a first walk: open what is a database, so that all of them are as of nearly one moment."""
        size = entry.found.st_size
        if len(self._open) >= TOGETHER or size < _SMALLEST_PAGE or size % _SMALLEST_PAGE:
            return
        try:
            with walk.open_file(entry) as file:
                database = self._begin(entry) if is_database(file.read(0, HEAD)) else None
        except CoreError:
            # Again at its turn, where it is noted.
            return
        if database is not None and database.holds_writers:
            database.close()
        elif database is not None:
            self._open[entry.path] = database

    def take(self, entry: Entry, file: OpenFile, head: bytes) -> Live | None:
        """The database behind a file, ``None`` if it is none or cannot be read as one.

        :param head: the first bytes of the file.
        """
        known = self._open.pop(entry.path, None)
        if known is None:
            if not is_database(head):
                return None
            if self._count >= MAX_DATABASES:
                self.give_up(entry, f"there are more than {MAX_DATABASES} databases")
                return None
            self._count += 1
            try:
                known = self._begin(entry)
            except (DatabaseBusy, DatabaseUnreadable) as error:
                self.give_up(entry, str(error))
                return None
        if known.companions and len(self._held) >= TOGETHER:
            known.close()
            self.give_up(entry, f"more than {TOGETHER} databases wait for their journals")
            return None
        self.keep(entry, known.companions)
        return Live(known, file, functools.partial(self._release, entry))

    def _release(self, entry: Entry, database: LiveDatabase) -> None:
        if not database.companions:
            database.close()
            return
        for name in database.companions:
            path = entry.path.removesuffix(entry.name) + name
            self.stored(path)
            self._held[path] = database

    def stored(self, path: bytes) -> None:
        """Close the database that was held for a file, which has been stored."""
        database = self._held.pop(path, None)
        if database is not None:
            database.close()

    def keep(self, entry: Entry, companions: tuple[bytes, ...] = ()) -> None:
        """Do not store what lies beside a database, but for its companions."""
        self._siblings.update(entry.path + suffix for suffix in _SIBLINGS if entry.name + suffix not in companions)

    def give_up(self, entry: Entry, why: str) -> None:
        """Store a database and what lies beside it as plain files."""
        self._siblings.difference_update(entry.path + suffix for suffix in _SIBLINGS)
        self._notes.went_on_changing(entry.path)
        self._notes.warn(f"{escape_path(entry.path)} is stored as a plain file, not as a database: {why}")

    def is_sibling(self, path: bytes) -> bool:
        """Whether a file is worked into a database that is stored."""
        return path in self._siblings

    def done(self, path: bytes) -> None:
        """Close a database that turned out not to have changed."""
        database = self._open.pop(path, None)
        if database is not None:
            database.close()

    def close(self) -> None:
        """Close all that are still open."""
        for database in (*self._open.values(), *self._held.values()):
            database.close()
        self._open.clear()
        self._held.clear()

    def _begin(self, entry: Entry) -> LiveDatabase:
        start = time.monotonic()
        patience = min(_PATIENCE, self._patience)
        try:
            return LiveDatabase.open(
                entry.directory,
                entry.name,
                patience=patience,
                max_bytes=self._limits.max_file_bytes,
                following=self._following,
                # Hard links would have one long log followed as often as it has names.
                may_follow=lambda log: self._logs.setdefault((log.st_dev, log.st_ino), entry.path) == entry.path,
            )
        finally:
            took = time.monotonic() - start
            self._patience = max(0.0, self._patience - took)
            self._following = max(0.0, self._following - took)


def log_stamp(entry: Entry) -> tuple[int, int] | None:
    """Size and mtime of a database's log, zeros without one; ``None`` if it has a journal that may count."""
    stamp = (0, 0)
    try:
        if look(entry.name + b"-journal", entry.directory).st_size:
            return None
    except OSError:
        pass
    try:
        found = look(entry.name + b"-wal", entry.directory)
        stamp = (found.st_size, bounded_ns(found.st_mtime_ns))
    except OSError:
        pass
    return stamp
