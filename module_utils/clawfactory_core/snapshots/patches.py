"""Changed blocks of large files, on their way from an archive into the files."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO

from . import archive
from .archive import Patch
from .digests import BLOCK_SIZE, DIGEST_SIZE, Digester
from .tar_reader import BadArchive, Member, TarReader, show
from .tree_writer import FileWriter

_MAX_RANGES = 64 << 20
_COPY = 1 << 20


class PatchData:
    """Ranges and data of the patches of one archive, as they come.

    :param spend: told the bytes that are written to ``spool``; may raise to end it.
    """

    def __init__(self, spool: BinaryIO, digester: Digester, spend: Callable[[int], None]) -> None:
        self.ranges: list[list[tuple[int, int]]] = []
        self._spool = spool
        self._digester = digester
        self._spend = spend
        self._data: list[tuple[int, int, bytes]] = []
        self._position = 0
        self._ranges_size = 0
        spool.seek(0)
        spool.truncate()

    def read(self, member: Member, reader: TarReader) -> None:
        """Take in one member below ``.clawfactory/patch/``."""
        match = archive.PATCH.fullmatch(member.path)
        # Pairs in the order of their numbers, ranges first.
        place = (len(self._data), b"ranges" if len(self.ranges) == len(self._data) else b"data")
        if match is None or (int(match[1]), match[2]) != place:
            raise BadArchive(f"{show(member.path)} has no place there")
        if match[2] == b"ranges":
            self._ranges_size += member.size
            if self._ranges_size > _MAX_RANGES:
                raise BadArchive(f"the ranges of its patches have more than {_MAX_RANGES} bytes")
            self.ranges.append(archive.parse_ranges(reader.document("ranges", _MAX_RANGES)))
            return
        digests = []
        for piece in reader.pieces():
            digests.append(self._digester.blocks(piece))
            self._spend(len(piece))
            self._spool.write(piece)
        if block_count(member.size) != sum(count for _, count in self.ranges[-1]):
            raise BadArchive(f"{show(member.path)} has {member.size} bytes, which is not what its ranges say")
        self._data.append((self._position, member.size, b"".join(digests)))
        self._position += member.size

    def check_complete(self, count: int) -> None:
        """:raises BadArchive: there are more or fewer pairs than ``patch`` lines."""
        if not len(self.ranges) == len(self._data) == count:
            raise BadArchive(f"it has {len(self._data)} patches, its changes name {count}")

    def write(self, number: int, patch: Patch, blocks: bytearray, file: FileWriter) -> None:
        """Write a patch into its file, and its digests into those of the file."""
        position, left, digests = self._data[number]
        done = 0
        self._spool.flush()
        for first, count in self.ranges[number]:
            # Only the last block of the file is short.
            size = min(count * BLOCK_SIZE, patch.size - first * BLOCK_SIZE)
            if first + count > block_count(patch.size) or size > left:
                raise BadArchive(f"the patch of {show(patch.path)} does not fit its size {patch.size}")
            blocks[first * DIGEST_SIZE : (first + count) * DIGEST_SIZE] = digests[done : done + count * DIGEST_SIZE]
            done += count * DIGEST_SIZE
            if file.written:
                self._copy(position, size, file, first * BLOCK_SIZE)
            position += size
            left -= size
        if left:
            raise BadArchive(f"the patch of {show(patch.path)} has more data than ranges")

    def _copy(self, position: int, size: int, file: FileWriter, offset: int) -> None:
        while size:
            piece = os.pread(self._spool.fileno(), min(size, _COPY), position)
            file.write_at(offset, piece)
            position += len(piece)
            offset += len(piece)
            size -= len(piece)


def resize(blocks: bytearray, before: int, size: int) -> None:
    """Adapt the digests of a file's blocks to its new size.

    What that alone changes gets a digest that nothing has: the patch, or one after it, must bring these blocks, for
    nothing is read back.
    """
    if size == before:
        return
    unchanged = min(before, size) // BLOCK_SIZE * DIGEST_SIZE
    length = block_count(size) * DIGEST_SIZE
    blocks[unchanged:] = bytes(length - unchanged)


def block_count(size: int) -> int:
    """Blocks of a file of ``size`` bytes."""
    return -(-size // BLOCK_SIZE)
