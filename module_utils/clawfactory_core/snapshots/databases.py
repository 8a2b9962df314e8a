"""Reading a live SQLite database as of one moment: without SQLite, without a copy, without holding up its writers.

The files may belong to a hostile bot, so SQLite never opens them; this reads bytes, and answers with a ``CoreError``
to whatever is not as SQLite leaves it. Why it is sound, in terms of ``wal.c`` and ``os_unix.c``:

**Write-ahead log, and somebody has the database open** (a shared lock on the dead man's switch, byte 128 of ``-shm``):

* SHARED on the database file. The last connection to close takes EXCLUSIVE before it checkpoints and deletes the log
  (``sqlite3WalClose``), and so does whoever changes the journal mode: they are refused, and leave all files there.
* The dead man's switch, shared: nobody truncates ``-shm`` and builds it anew (``unixLockSharedMemory``). It is taken
  only while somebody else holds it: an index that nobody holds may be older than its log after a power cut, and
  whoever opened the database next would trust it because of us.
* CHECKPOINT, exclusive: nothing is written to the database file. Checkpoints give up at once (``sqlite3WalCheckpoint``
  calls no busy handler for this lock), so not even one with a timeout makes a writer wait.
* READ_4, shared: a writer starts the log anew only with READ_1 to READ_4 exclusive (``walRestartLog``), and otherwise
  goes on appending. Readers have three other marks, and can share this one.

WRITE is never touched, so writers commit all the while; what they append lies behind the last frame of the header
that is read here, which is what a reader that began at this moment sees.

**Nobody has it open**: the log itself is followed, as SQLite will. READ_0 is held shared if there is a ``-shm``: a
newcomer's recovery does not need it (since SQLite 3.34), but checkpoints do, and without one the log cannot start anew.
Without ``-shm`` nothing can be held; :meth:`LiveDatabase.changed` then tells whether somebody came and wrote.

**Rollback journal**: SHARED on the database file. Nobody can commit until :meth:`LiveDatabase.close`, so do not keep
these open for longer than it takes to read them (:attr:`LiveDatabase.holds_writers`).

Never use this in a process that has the same database open through SQLite: closing a descriptor here would take away
the locks that SQLite has there.
"""

from __future__ import annotations

import fcntl
import math
import os
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from datetime import datetime, timezone
from types import TracebackType

from .database_files import (
    CHECKPOINT,
    DEAD_MAN_SWITCH,
    READ_0,
    READ_4,
    RESERVED,
    WRITE,
    DatabaseBusy,
    DatabaseUnreadable,
    Locks,
    Stamp,
    check_name,
    fill,
    open_regular,
    settled_stamp,
    stamp,
)
from .descriptors import read_at
from .wal import INDEX_HEADER, WAL_HEADER, Index, Log, parse_index, read_indexed, recover, valid_page_size

__all__ = ["DatabaseBusy", "DatabaseUnreadable", "LiveDatabase", "is_database"]

_MAGIC = b"SQLite format 3\0"
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_WAL_MODE = 2
#: SQLite's own limit is 256 TiB; anything near it is a sparse file.
MAX_BYTES = 1 << 40
_PAUSE = 0.002
#: After so many looks, each a pause apart, an index that is not valid is no longer one that is being written.
_LOOKS = 50


def is_database(head: bytes) -> bool:
    """:param head: the first 16 bytes of a file, or more. :returns: whether it says that it is a SQLite database."""
    return head.startswith(_MAGIC)


class LiveDatabase:
    """One database as of the moment it was opened. Use :meth:`open`; a context manager closes it.

    :ivar size: bytes of the database with its log worked in.
    :ivar as_of: the moment, UTC, ``YYYY-MM-DDTHH:MM:SS.ffffffZ``.
    :ivar companions: names of files that must be stored beside it because SQLite will roll them back: a hot journal.
    :ivar holds_writers: whether writers cannot commit before :meth:`close` (rollback mode).
    """

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.size = 0
        self.as_of = ""
        self.companions: tuple[bytes, ...] = ()
        self.holds_writers = False
        self._descriptors: list[int] = []
        self._file = self._wal = -1
        self._stamp: Stamp = (0, 0, 0)
        self._page_size = 0
        self._pages = 0
        self._log: Log | None = None
        self._following = math.inf
        self._may_follow: Callable[[os.stat_result], bool] = lambda _: True

    @classmethod
    def open(
        cls,
        directory_fd: int,
        name: str | bytes,
        *,
        patience: float = 5.0,
        max_bytes: int = MAX_BYTES,
        following: float = math.inf,
        may_follow: Callable[[os.stat_result], bool] = lambda _: True,
    ) -> LiveDatabase:
        """Take the locks and find out what is committed: milliseconds, or 10 to 20 s per GB of a log nobody has open.

        The process must be the owner of the files; root would do things with them that their owner cannot.

        :param directory_fd: directory that holds the database and the files beside it.
        :param patience: seconds to try for each lock.
        :param max_bytes: a larger database is refused.
        :param following: seconds for a log that nobody has open.
        :param may_follow: asked before that.
        :raises DatabaseBusy: a lock was not to be had. :raises DatabaseUnreadable: not as SQLite leaves it.
        :raises InvalidInput: ``name`` is not a plain name.
        """
        database = cls(check_name(name))
        database._following, database._may_follow = following, may_follow
        try:
            database._begin(directory_fd, patience, max_bytes)
        except OSError as error:
            database.close()
            raise DatabaseUnreadable(f"{database.name!r} cannot be read: {error.strerror}") from error
        except BaseException:
            database.close()
            raise
        return database

    def read(self, offset: int, length: int) -> bytes:
        """:returns: up to ``length`` bytes of the merged database, fewer only at its end.
        :raises DatabaseUnreadable: the files cannot be read any more.
        """
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        try:
            return self._read(offset, length)
        except OSError as error:
            raise DatabaseUnreadable(f"{self.name!r} cannot be read: {error.strerror}") from error

    def changed(self) -> bool:
        """Whether somebody wrote to the database all the same: ask after the last :meth:`read`, and if so, begin again.

        Connections that came while nobody had it open can do that, and programs that do not ask for SQLite's locks.
        Its change time does not count: OpenClaw sets the mode of its databases anew up to several times a second.
        """
        if stamp(self._file)[:2] != self._stamp[:2]:
            return True
        if self._log is None:
            return False
        return os.fstat(self._wal).st_size < self._log.end or read_at(self._wal, WAL_HEADER, 0) != self._log.header

    def close(self) -> None:
        """Give up all locks, also those that a forked child inherited; calling it again does nothing."""
        descriptors, self._descriptors = self._descriptors, []
        for descriptor in descriptors:
            try:
                Locks(descriptor).release()
            finally:
                os.close(descriptor)

    def __enter__(self) -> LiveDatabase:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, directory_fd: int, patience: float, max_bytes: int) -> None:
        file = self._open(directory_fd, b"")
        if file is None:
            raise DatabaseUnreadable(f"{self.name!r} is gone")
        self._file, locks, deadline = file, Locks(file), time.monotonic() + patience
        while not locks.read_database():
            self._wait(deadline)
        mode = self._read_header()
        # Only now, when nobody can delete them any more; the log last, as SQLite creates it before the index.
        index = self._open(directory_fd, b"-shm", write=True)
        wal = self._open(directory_fd, b"-wal")
        self.holds_writers = mode != _WAL_MODE and wal is None
        if index is not None and not self.holds_writers:
            as_others = self._settle(index, wal, patience)
        else:
            as_others = False
            self._begin_at(settled_stamp(file, time.time_ns, time.sleep))
            self._follow(wal)
        self._measure(max_bytes)
        if not as_others and self._hot_journal(directory_fd, locks):
            if self._log is not None:
                raise DatabaseUnreadable(
                    f"{self.name!r} has a log and a journal to roll back; open it once with SQLite"
                )
            self.companions = (self.name + b"-journal",)

    def _open(self, directory_fd: int, suffix: bytes, *, write: bool = False) -> int | None:
        descriptor = open_regular(directory_fd, self.name + suffix, write=write)
        if descriptor is not None:
            self._descriptors.append(descriptor)
        return descriptor

    def _begin_at(self, found: Stamp) -> None:
        """Everything that is committed by now will be found, and what is written later tells by the file's stamp."""
        self._stamp = found
        self.as_of = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _wait(self, deadline: float) -> None:
        if time.monotonic() >= deadline:
            raise DatabaseBusy(f"{self.name!r} is locked by another process; try again")
        time.sleep(_PAUSE)

    def _read_header(self) -> int:
        """:returns: the journal mode, 1 (rollback) or 2 (write-ahead log)."""
        head = read_at(self._file, 100, 0)
        size = int.from_bytes(head[16:18], "big")
        self._page_size = 65536 if size == 1 else size
        if len(head) < 100 or not is_database(head) or not valid_page_size(self._page_size) or head[19] not in (1, 2):
            raise DatabaseUnreadable(f"{self.name!r} does not begin as a SQLite database")
        return head[19]

    def _settle(self, index: int, wal: int | None, patience: float) -> bool:
        """Take the locks of ``-shm`` and find the log's end. :returns: whether by the index, as others see it."""
        locks, deadline, looks = Locks(index), time.monotonic() + patience, 0
        while True:
            switch = locks.held_by_others(DEAD_MAN_SWITCH)
            abandoned = looks > _LOOKS and locks.held_by_others(WRITE) == fcntl.F_UNLCK
            if switch == fcntl.F_UNLCK or abandoned:
                # Whoever came between the look and the lock has an index that counts.
                if locks.shared(READ_0) and (abandoned or locks.held_by_others(DEAD_MAN_SWITCH) == fcntl.F_UNLCK):
                    self._begin_at(stamp(self._file))
                    self._follow(wal)
                    return False
            elif locks.shared(DEAD_MAN_SWITCH) and locks.exclusive(CHECKPOINT) and locks.shared(READ_4):
                self._begin_at(stamp(self._file))
                found = parse_index(read_at(index, 2 * INDEX_HEADER, 0))
                if found is not None:
                    self._use(found, wal)
                    return True
                looks += 1
            locks.release()
            self._wait(deadline)

    def _use(self, index: Index, wal: int | None) -> None:
        if index.page_size != self._page_size:
            raise DatabaseUnreadable(f"{self.name!r} has pages of {self._page_size} bytes, its index {index.page_size}")
        self._pages = index.pages
        if index.frames:
            if wal is None:
                raise DatabaseUnreadable(f"{self.name!r} has an index of {index.frames} frames but no log")
            self._wal, self._log = wal, read_indexed(wal, index, os.fstat(wal).st_size)

    def _follow(self, wal: int | None) -> None:
        log = None
        if wal is not None:
            found = os.fstat(wal)
            if found.st_size > WAL_HEADER and not self._may_follow(found):
                raise DatabaseUnreadable(f"the log of {self.name!r} is that of another database, too")
            log = recover(wal, found.st_size, time.monotonic() + self._following)
        if wal is not None and log is not None:
            if log.page_size != self._page_size:
                raise DatabaseUnreadable(f"{self.name!r} has pages of {self._page_size} bytes, its log {log.page_size}")
            self._wal, self._log, self._pages = wal, log, log.pages

    def _measure(self, max_bytes: int) -> None:
        in_file = -(-self._stamp[0] // self._page_size)
        in_log = len(self._log.numbers) if self._log is not None else 0
        # SQLite never writes the one page that holds the lock bytes.
        if self._pages > in_file + in_log + 1:
            raise DatabaseUnreadable(
                f"{self.name!r} claims {self._pages} pages but has {in_file} and {in_log} in its log"
            )
        self.size = self._pages * self._page_size or self._stamp[0]
        if self.size > max_bytes:
            raise DatabaseUnreadable(f"{self.name!r} has {self.size} bytes, more than the limit of {max_bytes}")

    def _hot_journal(self, directory_fd: int, locks: Locks) -> bool:
        """As ``hasHotJournal``: a journal that no writer is at.

        A writer that comes and goes in between can make this true; its journal then holds what the database holds.
        """
        if locks.held_by_others(RESERVED) != fcntl.F_UNLCK:
            return False
        journal = self._open(directory_fd, b"-journal")
        return journal is not None and os.pread(journal, len(_JOURNAL_MAGIC), 0) == _JOURNAL_MAGIC

    def _read(self, offset: int, length: int) -> bytes:
        first, last = offset // self._page_size + 1, (offset + length - 1) // self._page_size + 1
        log = self._log
        start = stop = 0
        if log is not None:
            start, stop = bisect_left(log.numbers, first), bisect_right(log.numbers, last)
        if log is None or start == stop:
            data = read_at(self._file, length, offset)
            return data if len(data) == length else data + bytes(length - len(data))
        merged = bytearray(length)
        view = memoryview(merged)
        if stop - start <= last - first:
            fill(self._file, view, offset)
        for number, frame in zip(log.numbers[start:stop], log.frames[start:stop], strict=True):
            page = (number - 1) * self._page_size
            begin, end = max(page, offset), min(page + self._page_size, offset + length)
            if (
                fill(self._wal, view[begin - offset : end - offset], log.data_offset(frame) + begin - page)
                < end - begin
            ):
                raise DatabaseUnreadable(f"the log of {self.name!r} shrank; somebody other than SQLite writes to it")
        return bytes(merged)
