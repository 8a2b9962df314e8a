"""What SQLite's write-ahead log and its index say: which frame holds the newest committed version of a page.

Formats: https://www.sqlite.org/fileformat2.html (section 4) and https://www.sqlite.org/walformat.html (section 2). All
sizes are bytes, pages and frames are counted from 1.
"""

from __future__ import annotations

import math
import os
import struct
import sys
import time
from array import array
from dataclasses import dataclass

from .database_files import DatabaseUnreadable
from .descriptors import read_at
from .wal_checksum import checksum, checksum_page

VERSION = 3007000
WAL_HEADER = 32
FRAME_HEADER = 24
INDEX_HEADER = 48
#: More frames than this are refused: 8 bytes each are kept, and about 100 while they are read.
MAX_FRAMES = 1 << 20
#: Checksums are verified at 50 to 100 MB/s, so a log that nobody has open is followed no further than this.
MAX_RECOVERED = 2 << 30
_LOOK_EVERY = 64  # frames
_MAGIC = 0x377F0682
#: version, (unused), change counter, initialised, big-endian checksums, page size, last frame, pages, checksum of the
#: last frame, salts (bytes as in the log), checksum of all before. In the machine's own byte order.
_INDEX = struct.Struct("=IIIBBHII8s8sII")
_FRAME = struct.Struct(">II8sII")


@dataclass(frozen=True)
class Index:
    """The committed state that the header of a wal-index publishes.

    :param frames: number of the last committed frame; 0 if all is in the database file.
    :param pages: size of the database in pages; 0 if its file says it.
    :param salts: 8 bytes that every frame of this generation of the log carries.
    """

    page_size: int
    frames: int
    pages: int
    salts: bytes


@dataclass(frozen=True)
class Log:
    """Committed pages in a log: ``numbers`` ascending, and for each the frame that holds it.

    :param header: the log's first 32 bytes; they change when the log starts anew. Empty if nothing is read from it.
    """

    page_size: int
    pages: int
    header: bytes
    numbers: array[int]
    frames: array[int]

    @property
    def end(self) -> int:
        """How long the log's file must be for what is in here."""
        return self.data_offset(max(self.frames)) + self.page_size if self.frames else 0

    def data_offset(self, frame: int) -> int:
        """Where the page of a frame begins in the log's file."""
        return WAL_HEADER + (frame - 1) * (FRAME_HEADER + self.page_size) + FRAME_HEADER


def valid_page_size(size: int) -> bool:
    """Whether SQLite can have pages of this size."""
    return 512 <= size <= 65536 and not size & (size - 1)


def parse_index(data: bytes) -> Index | None:
    """:param data: the first 96 bytes of a ``-shm`` file, two copies of its header.
    :returns: ``None`` if no header is there or it is being written.
    """
    if len(data) < 2 * INDEX_HEADER or data[:INDEX_HEADER] != data[INDEX_HEADER : 2 * INDEX_HEADER]:
        return None
    version, _, _, ready, _, size, frames, pages, _, salts, first, second = _INDEX.unpack_from(data)
    page_size = (size & 0xFE00) + ((size & 1) << 16)
    if version != VERSION or not ready or not valid_page_size(page_size):
        return None
    if checksum(data[:40], little=sys.byteorder == "little") != (first, second):
        return None
    return Index(page_size, frames, pages, salts)


def read_indexed(descriptor: int, index: Index, size: int) -> Log:
    """The log as its index publishes it. Nothing but frames of the index's generation counts, as in SQLite.

    :param descriptor: the log. :param size: of its file, in bytes.
    :raises DatabaseUnreadable: index and log do not belong together, or there are too many frames.
    """
    header = read_at(descriptor, WAL_HEADER, 0)
    step = FRAME_HEADER + index.page_size
    if index.frames > MAX_FRAMES or WAL_HEADER + index.frames * step > size:
        raise DatabaseUnreadable(f"the index of the log has {index.frames} frames, more than the log or the limit")
    if header[16:24] != index.salts or not index.pages:
        raise DatabaseUnreadable("the index of the log belongs to another log")
    newest: dict[int, int] = {}
    for frame in range(1, index.frames + 1):
        data = os.pread(descriptor, FRAME_HEADER, WAL_HEADER + (frame - 1) * step)
        if len(data) < FRAME_HEADER:
            raise DatabaseUnreadable("the log shrank while it was read; somebody other than SQLite writes to it")
        page, _, salts, _, _ = _FRAME.unpack(data)
        if not page or salts != index.salts:
            raise DatabaseUnreadable(f"frame {frame} of the log is not of the log's generation")
        newest[page] = frame
    return _log(index.page_size, index.pages, header, newest)


def recover(descriptor: int, size: int, deadline: float = math.inf) -> Log | None:
    """Follow a log without its index as ``walIndexRecover`` does: up to the last commit whose checksums are right.

    :param deadline: by the monotonic clock.
    :returns: ``None`` if no transaction is in it.
    :raises DatabaseUnreadable: of another version, or too large to be followed in time.
    """
    header = read_at(descriptor, WAL_HEADER, 0)
    if size <= WAL_HEADER or len(header) < WAL_HEADER:
        return None
    magic, version, page_size, _, _, _, first, second = struct.unpack(">IIIIIIII", header)
    little = magic == _MAGIC
    sums = checksum(header[:24], little=little)
    if magic & ~1 != _MAGIC or not valid_page_size(page_size) or sums != (first, second):
        return None
    if version != VERSION:
        raise DatabaseUnreadable(f"the log is of version {version}; only {VERSION} is known")
    step = FRAME_HEADER + page_size
    newest: dict[int, int] = {}
    pending: dict[int, int] = {}
    pages = 0
    for frame in range(1, (size - WAL_HEADER) // step + 1):
        data = read_at(descriptor, step, WAL_HEADER + (frame - 1) * step)
        if len(data) < step:
            break
        page, commit, salts, first, second = _FRAME.unpack_from(data)
        if not page or salts != header[16:24]:
            break
        if frame > MAX_FRAMES or frame * step > MAX_RECOVERED:
            raise DatabaseUnreadable("the log is too long to be followed; open the database once with SQLite")
        if not frame % _LOOK_EVERY and time.monotonic() > deadline:
            raise DatabaseUnreadable("the log takes too long to be followed; open the database once with SQLite")
        sums = checksum_page(data[FRAME_HEADER:], *checksum(data[:8], *sums, little=little), little=little)
        if sums != (first, second):
            break
        pending[page] = frame
        if commit:
            newest.update(pending)
            pending.clear()
            pages = commit
    return _log(page_size, pages, header, newest) if pages else None


def _log(page_size: int, pages: int, header: bytes, newest: dict[int, int]) -> Log:
    numbers = array("I", sorted(page for page in newest if page <= pages))
    return Log(page_size, pages, header, numbers, array("I", (newest[page] for page in numbers)))
