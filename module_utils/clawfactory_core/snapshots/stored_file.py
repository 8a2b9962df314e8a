"""Stores one regular file: as a member, or as the blocks that differ from the parent's."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .capture import Entry, LeaveOut, OpenFile
from .databases import DatabaseUnreadable, is_database
from .digests import BLOCK_SIZE, DIGEST_SIZE, Digester
from .index import PATCHED, IndexEntry, IndexWriter, Parent, bounded_ns
from .manifest import Notes
from .sources import HEAD, Databases, Held, Live, Source, Streamed, log_stamp
from .tar_writer import TarWriter
from .twin import Twin

#: Bytes of data in one patch at most; they are held in memory.
PATCH_BYTES = 8 << 20
#: Bytes that are read, compared and stored at a time.
CHUNK = 1 << 20
_CHUNK_BLOCKS = CHUNK // BLOCK_SIZE
_ATTEMPTS = 4
# Bytes of digests that are compared at once.
_TOGETHER = 16 * DIGEST_SIZE


@dataclass
class Outputs:
    """Where everything goes.

    :param parent: of an incremental snapshot, ``None`` for a full one.
    :param twin: computes digests of files that are compared with the parent's, of :data:`CHUNK` bytes at a time;
        ``None`` where there is no processor for it.
    :param tick: called with the bytes that were read, often; may raise to end it.
    """

    tar: TarWriter
    index: IndexWriter
    digester: Digester
    notes: Notes
    parent: Parent | None
    tick: Callable[[int], None]
    twin: Twin | None = None


class StoredFile:
    """One regular file on its way into the archive, perhaps more than once because it changes meanwhile."""

    def __init__(
        self,
        to: Outputs,
        entry: Entry,
        file: OpenFile,
        old: IndexEntry | None,
        databases: Databases,
    ) -> None:
        self._to = to
        self._entry = entry
        self._file = file
        self._old = old
        self._databases = databases
        self._opaque = False
        # A database that is stored as a plain file.
        self._given_up = False
        self._attempts = 0
        self._new: IndexEntry | None = None
        self._differs = False
        # Blocks of it that the archive has, or its parent; negative until the index was told.
        self._have = -1

    def store(self) -> None:
        """Store it until what was stored is of one moment, at most four times.

        :raises LeaveOut: it cannot be read, and nothing of it was stored.
        """
        while True:
            source = self._source()
            try:
                settled = self._store_once(source)
            except DatabaseUnreadable as error:
                self._databases.give_up(self._entry, str(error))
                # What the archive has of it by now is of no use to compare with.
                self._opaque, self._given_up, self._have = True, True, 0
                continue
            finally:
                source.close()
            self._attempts += 1
            if settled:
                break
            if self._attempts == _ATTEMPTS:
                self._to.notes.went_on_changing(self._entry.path)
                break
        self._finish(source)

    def _source(self) -> Source:
        try:
            held = Held(self._file)
            live = None if self._opaque else self._live(held)
        except LeaveOut:
            if self._new is None:
                raise
            # Of what is in the archive already, a part that cannot be read becomes zeros.
            return Streamed(self._file)
        if live is not None:
            return live
        return held if held.fits else Streamed(self._file)

    def _live(self, held: Held) -> Live | None:
        head = held.read(0, HEAD) if held.fits else self._file.read(0, HEAD)
        live = self._databases.take(self._entry, self._file, head)
        if live is not None and self._attempts >= _ATTEMPTS // 2:
            live.close()
            live = None
            self._databases.give_up(self._entry, "it is written to without SQLite's locks")
        self._opaque = live is None
        self._given_up = live is None and is_database(head)
        return live

    def _store_once(self, source: Source) -> bool:
        """:returns: whether what was stored is the content at one moment."""
        if self._new is None and source.size <= PATCHED:
            data = source.read(0, source.size)
            settled = source.settled()
            if settled or self._attempts == _ATTEMPTS - 1:
                self._store_small(source, data)
            return settled
        if self._patching:
            # Patches are for what stays large: what shrank too far is stored with zeros behind it, as one that changed.
            self._patch(source, max(source.size, PATCHED + 1))
            return source.settled() and source.size > PATCHED
        self._stream(source)
        return source.settled()

    @property
    def _patching(self) -> bool:
        return self._old is not None and self._old.blocks > 0

    def _describe(self, source: Source, size: int) -> IndexEntry:
        new = describe(self._entry.path, "f", source.found)
        new.size = size
        new.blocks = -(-size // BLOCK_SIZE) if size > PATCHED else 0
        if isinstance(source, Live):
            # Whoever writes to the log after this snapshot began leaves a time that is not settled for the next.
            new.database, new.log = True, log_stamp(self._entry) or (0, -1)
        return new

    def _store_small(self, source: Source, data: bytes) -> None:
        new = self._new = self._describe(source, len(data))
        new.digest = self._to.digester.file((self._to.digester.blocks(data),))
        self._differs = self._old is None or differ(self._old, new)
        if self._differs:
            self._to.tar.file(new.path, new.mode, new.mtime_ns, data)
        self._to.tick(len(data))

    def _stream(self, source: Source) -> None:
        new = self._describe(source, source.size)
        if self._new is None:
            self._to.index.begin(new)
        self._new, self._differs, self._have = new, True, new.blocks
        self._to.tar.begin(new.path, new.mode, new.mtime_ns, new.size)
        try:
            new.digest = self._to.digester.file(self._copied(source, new.size))
        finally:
            self._to.tar.end()

    def _copied(self, source: Source, size: int) -> Iterator[bytes]:
        for offset in range(0, size, CHUNK):
            data = self._piece(source, size, offset)
            self._to.tar.write(data)
            digests = self._to.digester.blocks(data)
            self._to.index.write_blocks(offset // BLOCK_SIZE, digests)
            self._to.tick(len(data))
            yield digests

    def _patch(self, source: Source, size: int) -> None:
        new = self._describe(source, size)
        before = self._new or self._old
        if self._new is None and self._old is not None and self._to.parent is not None:
            self._to.index.begin(new)
            self._to.parent.copy_blocks(self._old, self._to.index)
            self._have = self._old.blocks
        patch = _Patch(self._to, new)
        self._new = new
        try:
            new.digest = self._to.digester.file(self._compared(source, new.size, patch))
        finally:
            patch.emit()
        self._have = new.blocks
        if not patch.emitted and (before is None or differ(before, new)):
            patch.emit(empty=True)
        self._differs = self._differs or patch.emitted

    def _compared(self, source: Source, size: int, patch: _Patch) -> Iterator[bytes]:
        """Hand to ``patch`` the blocks that are not as the archive and its parents have them so far."""
        for offset, data, digests in self._digested(source, size):
            first = offset // BLOCK_SIZE
            stored = self._to.index.read_blocks(first, max(0, min(_CHUNK_BLOCKS, self._have - first)))
            if digests != stored:
                patch.add(first, data, digests, stored)
                self._to.index.write_blocks(first, digests)
            self._to.tick(len(data))
            yield digests

    def _digested(self, source: Source, size: int) -> Iterator[tuple[int, bytes, bytes]]:
        """Offset, content and digests of each piece; as many of them as it can do meanwhile are the twin's."""
        twin, digester = self._to.twin, self._to.digester
        pieces = ((offset, self._piece(source, size, offset)) for offset in range(0, size, CHUNK))
        if twin is None:
            for offset, data in pieces:
                yield offset, data, digester.blocks(data)
            return
        twin.discard()  # of a file that could not be read to its end
        ahead: deque[tuple[int, bytes, bytes]] = deque()
        for offset, data in pieces:
            ahead.append((offset, data, b"" if twin.offer(data) else digester.blocks(data)))
            if len(ahead) == twin.PIECES:
                first, before, digests = ahead.popleft()
                yield first, before, digests or twin.digests()
        for offset, data, digests in ahead:
            yield offset, data, digests or twin.digests()

    @staticmethod
    def _piece(source: Source, size: int, offset: int) -> bytes:
        """What is to be stored there: zeros where the file has nothing any more, and nothing behind ``size``."""
        length = max(0, min(CHUNK, size - offset))
        data = source.read(offset, length) if length else b""
        return data + bytes(length - len(data))

    def _finish(self, source: Source) -> None:
        new = self._new
        if new is None:
            raise LeaveOut("cannot be read as a database or a file")
        if isinstance(source, Live):
            self._to.notes.database(new.path, source.as_of)
        if self._given_up:
            # No file has it: the next snapshot looks again, even if nothing was written.
            new.inode = 0
        if self._have < 0:
            self._to.index.add(new)
        else:
            self._to.index.end(new)
        # A database has pages of its log, too.
        blocks = None if isinstance(source, Live) else source.found.st_blocks
        digest, stored = new.digest.hex(), self._differs
        self._to.notes.entry(new.path, "f", new.mode, new.mtime_ns, new.size, digest, stored=stored, blocks=blocks)


class _Patch:
    """Changed blocks of a file, gathered and written as pairs of members."""

    def __init__(self, to: Outputs, new: IndexEntry) -> None:
        self.emitted = False
        self._to = to
        self._new = new
        self._ranges: list[list[int]] = []
        self._data = bytearray()

    def add(self, first: int, data: bytes, digests: bytes, stored: bytes) -> None:
        """Take the blocks of ``data`` whose digest is not as ``stored``."""
        for number in _different(digests, stored):
            block = first + number
            if self._ranges and sum(self._ranges[-1]) == block:
                self._ranges[-1][1] += 1
            else:
                self._ranges.append([block, 1])
            self._data += data[number * BLOCK_SIZE : (number + 1) * BLOCK_SIZE]
            if len(self._data) >= PATCH_BYTES:
                self.emit()

    def emit(self, *, empty: bool = False) -> None:
        """Write what was gathered; nothing if there is none, unless ``empty`` asks for mode, time and size alone."""
        if not self._ranges and not empty:
            return
        new, number = self._new, self._to.notes.patches
        self._to.notes.patches += 1
        ranges = "".join(f"{start} {count}\n" for start, count in self._ranges).encode("ascii")
        self._to.tar.file(b".clawfactory/patch/%d.ranges" % number, 0o600, 0, ranges)
        self._to.tar.file(b".clawfactory/patch/%d.data" % number, 0o600, 0, bytes(self._data))
        self._to.notes.patch(number, new.path, new.size, new.mode, new.mtime_ns)
        self._ranges, self._data, self.emitted = [], bytearray(), True


def _different(digests: bytes, stored: bytes) -> Iterator[int]:
    """Numbers of the blocks whose digests are not the same; most are."""
    for many in range(0, len(digests), _TOGETHER):
        if digests[many : many + _TOGETHER] == stored[many : many + _TOGETHER]:
            continue
        for at in range(many, min(many + _TOGETHER, len(digests)), DIGEST_SIZE):
            if digests[at : at + DIGEST_SIZE] != stored[at : at + DIGEST_SIZE]:
                yield at // DIGEST_SIZE


def describe(path: bytes, kind: str, found: os.stat_result) -> IndexEntry:
    """An entry of the index from what lstat or fstat says."""
    size = found.st_size if kind == "f" else 0
    mtime_ns, ctime_ns = bounded_ns(found.st_mtime_ns), bounded_ns(found.st_ctime_ns)
    return IndexEntry(path, kind, stat.S_IMODE(found.st_mode), size, size, mtime_ns, ctime_ns, found.st_ino)


def differ(old: IndexEntry, new: IndexEntry) -> bool:
    """Whether a regular file is another one than before for who restores it."""
    return (old.mode, old.mtime_ns, old.size, old.digest) != (new.mode, new.mtime_ns, new.size, new.digest)
