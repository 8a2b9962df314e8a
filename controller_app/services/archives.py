"""The bot's encrypted snapshots as files, which are read-only here: without the key nobody can read them."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from clawfactory_core.errors import CoreError, InvalidInput
from clawfactory_core.snapshots.names import parse_file_name

_CHUNK = 256 * 1024  # bytes
#: Downloads at once; each takes a thread now and then.
_AT_ONCE = 4


class UnknownSnapshot(InvalidInput):
    """There is no such archive here."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no archive of a snapshot {name!r} here; GET /snapshot lists them")


class TooManyDownloads(CoreError):
    """Others have to end first."""

    def __init__(self) -> None:
        super().__init__(f"{_AT_ONCE} downloads go on already; wait until one is done")


@dataclass(frozen=True)
class Archive:
    """An open archive.

    :param name: of the file.
    :param size: bytes.
    """

    name: str
    size: int
    file: BinaryIO


class ArchiveStore:
    """Opens archives.

    :param directory: of the bot's snapshots.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._going = 0

    async def open(self, name: str) -> Archive:
        """Open the archive of a snapshot.

        :param name: its id, or the file's name.
        :raises UnknownSnapshot: there is none.
        :raises TooManyDownloads: too many are open.
        :raises CoreError: it cannot be read.
        """
        if self._going >= _AT_ONCE:
            raise TooManyDownloads
        return await asyncio.to_thread(self._open, name)

    async def stream(self, archive: Archive) -> AsyncIterator[bytes]:
        """Yield the archive in pieces, and close it; of one that grows, as much as was promised."""
        left = archive.size
        self._going += 1
        try:
            while left and (piece := await asyncio.to_thread(archive.file.read, min(left, _CHUNK))):
                left -= len(piece)
                yield piece
        finally:
            self._going -= 1
            archive.file.close()

    def _open(self, name: str) -> Archive:
        try:
            # The name is only compared: no path is made of it.
            files = [file for file in map(parse_file_name, os.listdir(self._directory)) if file is not None]
            found = next((file.name for file in files if name in (file.id, file.name)), None)
            if found is None:
                raise UnknownSnapshot(name)
            descriptor = os.open(self._directory / found, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise CoreError(f"snapshots cannot be read here: {error.strerror}") from error
        file = os.fdopen(descriptor, "rb")
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode):
            file.close()
            raise UnknownSnapshot(name)
        return Archive(found, seen.st_size, file)
