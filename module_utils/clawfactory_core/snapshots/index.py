"""The local index of the newest snapshot: what a file was like, so that the next one stores what differs.

One file: a header of 4 KiB (JSON, padded with spaces), then one record for each entry in the order of the archive, each
followed by the digests of the file's blocks if the file is larger than :data:`PATCHED`. Never part of a snapshot, never
readable by others.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import CoreError
from .descriptors import read_at, write_at
from .digests import DIGEST_SIZE, KEY_SIZE

#: A file larger than this in bytes has its blocks in the index, and is stored as patches.
PATCHED = 256 << 10
SCHEMA = 1
_HEADER = 4096
_BUFFER = 1 << 18
# ext4 has times until 2446, other file systems further ones; records have 64 bits.
_MOST_NS = (1 << 63) - 1
# Times of files are those of the last tick, and some file systems have coarse ones.
_GRAIN_NS = 2 * 10**9
# kind, database, mode, length of the name, number of blocks, size, size of the file, mtime, ctime, inode, size and
# mtime of the log, digest
_RECORD = struct.Struct("<c?HHQQQqqQQq16s")


class UnusableIndex(CoreError):
    """There is no index, or it cannot be used; the text says why, and the next snapshot is a full one."""


@dataclass(frozen=True)
class IndexHeader:
    """Of which snapshot an index is.

    :param archive_size: bytes of its archive, ``sha256`` the archive's digest.
    :param started_ns: when it began, nanoseconds since the epoch.
    :param key: digest key of the chain, hex.
    :param body_sha256: of everything behind the header.
    """

    bot: str
    id: str
    kind: str
    archive_size: int
    sha256: str
    started_ns: int
    key: str
    body_sha256: str
    schema: int = SCHEMA


@dataclass
class IndexEntry:
    """One entry as it was stored.

    :param size: bytes of the content; of a database with its log worked in, where lstat says ``file_size``.
    :param digest: of a file; the target of a link is ``target``.
    :param log: size and mtime of a database's write-ahead log, zeros without one.
    :param blocks: number of digests that follow, which start at ``offset`` of the index.
    """

    path: bytes
    kind: str
    mode: int
    size: int
    file_size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    digest: bytes = bytes(DIGEST_SIZE)
    target: bytes = b""
    database: bool = False
    log: tuple[int, int] = (0, 0)
    blocks: int = 0
    offset: int = 0

    def pack(self) -> bytes:
        """The record."""
        name = self.path if self.kind != "l" else self.path + b"\0" + self.target
        return (
            _RECORD.pack(
                self.kind.encode(),
                self.database,
                self.mode,
                len(name),
                self.blocks,
                self.size,
                self.file_size,
                self.mtime_ns,
                self.ctime_ns,
                self.inode,
                *self.log,
                self.digest,
            )
            + name
        )


def bounded_ns(time_ns: int) -> int:
    """A time as snapshots have it, 1677 to 2262: what lies beyond becomes the nearest, and is read again each time."""
    return max(-_MOST_NS - 1, min(time_ns, _MOST_NS))


class IndexWriter:
    """Writes records one after the other; the blocks of one file at a time can still be read and changed.

    :param descriptor: of a new file, open for reading and writing; stays open.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray(_HEADER)
        self._offset = 0
        self._record = -1
        self._entry: IndexEntry | None = None

    def add(self, entry: IndexEntry) -> None:
        """Add an entry without blocks."""
        self._buffer += entry.pack()
        if len(self._buffer) >= _BUFFER:
            self._flush()

    def begin(self, entry: IndexEntry) -> None:
        """Begin an entry whose blocks follow; only its path counts for now."""
        self._flush()
        self._record = self._offset
        self._buffer += entry.pack()
        self._flush()

    def read_blocks(self, first: int, count: int) -> bytes:
        """Digests of the entry that was begun, as far as they were written."""
        return read_at(self._descriptor, count * DIGEST_SIZE, self._offset + first * DIGEST_SIZE)

    def write_blocks(self, first: int, digests: bytes) -> None:
        """Set digests of the entry that was begun."""
        write_at(self._descriptor, digests, self._offset + first * DIGEST_SIZE)

    def end(self, entry: IndexEntry) -> None:
        """End the entry that was begun: same path, ``entry.blocks`` digests."""
        write_at(self._descriptor, entry.pack(), self._record)
        self._offset += entry.blocks * DIGEST_SIZE
        os.ftruncate(self._descriptor, self._offset)

    def finish(self) -> None:
        """Write what is still gathered."""
        self._flush()

    def _flush(self) -> None:
        write_at(self._descriptor, bytes(self._buffer), self._offset)
        self._offset += len(self._buffer)
        self._buffer.clear()


class IndexReader:
    """Reads the records in order.

    :param descriptor: of an index that :func:`open_index` accepted.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __iter__(self) -> Iterator[IndexEntry]:
        """:raises UnusableIndex: a record cannot be read."""
        with os.fdopen(os.dup(self._descriptor), "rb", _BUFFER) as file:
            position = file.seek(_HEADER)
            while head := file.read(_RECORD.size):
                entry, length = _parse(head, file)
                position += length
                entry.offset = position
                yield entry
                if entry.blocks:
                    position = file.seek(position + entry.blocks * DIGEST_SIZE)

    def blocks(self, entry: IndexEntry, first: int, count: int) -> bytes:
        """Digests of blocks of an entry."""
        count = max(0, min(count, entry.blocks - first))
        return read_at(self._descriptor, count * DIGEST_SIZE, entry.offset + first * DIGEST_SIZE)


class Parent:
    """What the parent of an incremental snapshot has, read along with the walk.

    :param deleted: told each path that is not there any more, unless what it was in is gone too.
    """

    def __init__(self, index: IndexReader, started_ns: int, deleted: Callable[[bytes], None]) -> None:
        self.settled_before = started_ns - _GRAIN_NS
        self._blocks = index.blocks
        self._entries = iter(index)
        self._next = next(self._entries, None)
        self._deleted = deleted
        self._gone = b""

    def copy_blocks(self, entry: IndexEntry, target: IndexWriter) -> None:
        """Take over the digests of a file's blocks into the entry that was begun."""
        for first in range(0, entry.blocks, 1 << 16):
            target.write_blocks(first, self._blocks(entry, first, 1 << 16))

    def match(self, path: bytes, kind: str) -> IndexEntry | None:
        """The entry of the same path and kind; call it in the order of the walk."""
        key = _key(path)
        while self._next is not None and _key(self._next.path) < key:
            self._skip()
        if self._next is None or self._next.path != path:
            return None
        if self._next.kind != kind:
            self._skip()
            return None
        found, self._next = self._next, next(self._entries, None)
        return found

    def delete(self, path: bytes) -> None:
        """Note that an entry is gone."""
        if not self._gone or not path.startswith(self._gone):
            self._gone = path + b"/"
            self._deleted(path)

    def finish(self) -> None:
        """What has not been matched is gone."""
        while self._next is not None:
            self._skip()

    def _skip(self) -> None:
        if self._next is not None:
            self.delete(self._next.path)
            self._next = next(self._entries, None)


def _key(path: bytes) -> bytes:
    # Byte order of this is the archive's order: no name has a NUL byte.
    return path.replace(b"/", b"\0")


def _parse(head: bytes, file: BinaryIO) -> tuple[IndexEntry, int]:
    try:
        kind, database, mode, length, blocks, size, file_size, mtime, ctime, inode, log_size, log_mtime, digest = (
            _RECORD.unpack(head)
        )
    except struct.error as error:
        raise UnusableIndex("the index ends within a record") from error
    name = file.read(length)
    path, _, target = name.partition(b"\0")
    entry = IndexEntry(
        path,
        kind.decode("latin-1"),
        mode,
        size,
        file_size,
        mtime,
        ctime,
        inode,
        digest,
        target,
        database,
        (log_size, log_mtime),
        blocks,
    )
    return entry, len(head) + length


def write_header(descriptor: int, header: IndexHeader) -> None:
    """Write the header of a finished index and make all of it survive a power cut."""
    data = json.dumps(asdict(header)).encode()
    if len(data) > _HEADER:
        raise CoreError(f"the header of the index has {len(data)} bytes")
    write_at(descriptor, data.ljust(_HEADER), 0)
    os.fsync(descriptor)


def body_digest(descriptor: int) -> str:
    """SHA-256 of an index behind its header."""
    state = hashlib.sha256()
    offset = _HEADER
    while data := os.pread(descriptor, 1 << 20, offset):
        state.update(data)
        offset += len(data)
    return state.hexdigest()


def open_index(path: Path, bot: str) -> tuple[int, IndexHeader]:
    """Open the index of a bot and check it.

    :returns: its descriptor, which the caller closes, and its header.
    :raises UnusableIndex: it is missing, damaged, of another bot or of a newer version.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = "there is no index yet" if isinstance(error, FileNotFoundError) else f"the index: {error.strerror}"
        raise UnusableIndex(reason) from error
    try:
        header = _read_header(descriptor)
        if header.bot != bot:
            raise UnusableIndex(f"the index is of another bot, {header.bot!r}")
        if body_digest(descriptor) != header.body_sha256:
            raise UnusableIndex("the index is damaged")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, header


def _read_header(descriptor: int) -> IndexHeader:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise UnusableIndex("the index is not a regular file")
    try:
        raw: Any = json.loads(os.pread(descriptor, _HEADER, 0))
    except ValueError as error:
        raise UnusableIndex("the index is damaged") from error
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        raise UnusableIndex("the index is of another version")
    for item in fields(IndexHeader):
        if type(raw.get(item.name)).__name__ != item.type:
            raise UnusableIndex("the index is damaged")
    header = IndexHeader(**{item.name: raw[item.name] for item in fields(IndexHeader)})
    if len(header.key) != 2 * KEY_SIZE:
        raise UnusableIndex("the index is damaged")
    return header
