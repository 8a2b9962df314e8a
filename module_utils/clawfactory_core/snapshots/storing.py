"""Stores a walk of the state in an archive: all of it, or what differs from the parent."""

from __future__ import annotations

import stat
from datetime import datetime, timezone

from .capture import TOO_MUCH, Entry, LeaveOut, Limits, Vanished, Walk, read_link
from .digests import escape_path
from .index import IndexEntry
from .records import timestamp
from .sources import Databases, log_stamp
from .stored_file import Outputs, StoredFile, describe


class Storing:
    """Writes members, index and notes.

    :param limits: only ``max_bytes`` counts here; the walk sees to the others.
    """

    def __init__(self, to: Outputs, limits: Limits) -> None:
        self._to = to
        self._limits = limits

    def run(self, walk: Walk, databases: Databases) -> None:
        """Store everything that ``walk`` finds.

        :raises OSError: the state directory cannot be read, or the archive or the index not be written.
        """
        for entry in walk:
            self._to.tick(0)
            kind = entry.kind
            old = self._to.parent.match(entry.path, kind) if self._to.parent is not None else None
            try:
                if kind == "d":
                    self._directory(entry, old)
                elif kind == "l":
                    self._link(entry, old)
                else:
                    self._file(entry, old, walk, databases)
            except (Vanished, LeaveOut) as error:
                if isinstance(error, LeaveOut):
                    self._to.notes.left_out(entry.path, str(error))
                if self._to.parent is not None and old is not None:
                    self._to.parent.delete(entry.path)
        if self._to.parent is not None:
            self._to.parent.finish()
        self._to.index.finish()

    def _directory(self, entry: Entry, old: IndexEntry | None) -> None:
        new = describe(entry.path, "d", entry.found)
        stored = old is None or (old.mode, old.mtime_ns) != (new.mode, new.mtime_ns)
        if stored:
            self._to.tar.directory(entry.path, new.mode, new.mtime_ns)
        self._note(new, "", stored=stored)

    def _link(self, entry: Entry, old: IndexEntry | None) -> None:
        new = describe(entry.path, "l", entry.found)
        new.target = read_link(entry)
        stored = old is None or (old.mode, old.mtime_ns, old.target) != (new.mode, new.mtime_ns, new.target)
        if stored:
            self._to.tar.link(entry.path, new.mode, new.mtime_ns, new.target)
        self._note(new, escape_path(new.target), stored=stored)

    def _note(self, new: IndexEntry, digest: str, *, stored: bool) -> None:
        self._to.index.add(new)
        self._to.notes.entry(new.path, new.kind, new.mode, new.mtime_ns, new.size, digest, stored=stored)

    def _file(self, entry: Entry, old: IndexEntry | None, walk: Walk, databases: Databases) -> None:
        if databases.is_sibling(entry.path):
            raise Vanished(repr(entry.path))
        if old is not None and self._unchanged(entry, old):
            if old.database:
                databases.done(entry.path)
                databases.keep(entry)
                self._to.notes.database(entry.path, timestamp(datetime.now(timezone.utc)))
            self._keep(entry, old)
            return
        with walk.open_file(entry) as file:
            if self._to.notes.bytes + entry.found.st_size > self._limits.max_bytes:
                raise LeaveOut(TOO_MUCH)
            StoredFile(self._to, entry, file, old, databases).store()
        databases.stored(entry.path)

    def _unchanged(self, entry: Entry, old: IndexEntry) -> bool:
        found = entry.found
        before = self._to.parent.settled_before if self._to.parent is not None else 0
        if (
            (found.st_size, found.st_mtime_ns, found.st_ctime_ns) != (old.file_size, old.mtime_ns, old.ctime_ns)
            or (found.st_ino, stat.S_IMODE(found.st_mode)) != (old.inode, old.mode)
            or max(found.st_mtime_ns, found.st_ctime_ns) >= before
        ):
            return False
        if not old.database:
            return True
        log = log_stamp(entry)
        return log is not None and log == old.log and log[1] < before

    def _keep(self, entry: Entry, old: IndexEntry) -> None:
        blocks = None if old.database else entry.found.st_blocks
        digest = old.digest.hex()
        self._to.notes.entry(old.path, "f", old.mode, old.mtime_ns, old.size, digest, stored=False, blocks=blocks)
        self._to.tick(old.size)
        if not old.blocks or self._to.parent is None:
            self._to.index.add(old)
            return
        self._to.index.begin(old)
        self._to.parent.copy_blocks(old, self._to.index)
        self._to.index.end(old)
