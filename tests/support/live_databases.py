"""Opening databases in tests, and what SQLite itself makes of them."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from clawfactory_core.snapshots.databases import LiveDatabase

SUFFIXES = ("", "-wal", "-shm", "-journal")


@contextmanager
def opened(path: Path, **options: float) -> Iterator[LiveDatabase]:
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with LiveDatabase.open(directory, path.name, **options) as database:
            yield database
    finally:
        os.close(directory)


def content(database: LiveDatabase, step: int = 1 << 20) -> bytes:
    return b"".join(database.read(offset, step) for offset in range(0, database.size, step))


def copy_files(path: Path, directory: Path, suffixes: tuple[str, ...] = SUFFIXES) -> Path:
    """Byte copies of a database and the files beside it."""
    directory.mkdir()
    for suffix in suffixes:
        if path.with_name(path.name + suffix).exists():
            shutil.copyfile(path.with_name(path.name + suffix), directory / (path.name + suffix))
    return directory / path.name


def checkpointed(path: Path, directory: Path) -> bytes:
    """What SQLite makes of a byte copy of the files, without the index."""
    copy = copy_files(path, directory, ("", "-wal", "-journal"))
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("pragma schema_version")
        assert connection.execute("pragma wal_checkpoint(truncate)").fetchone()[0] == 0
    return copy.read_bytes()


def fill(count: int) -> str:
    """A statement that adds rows of 3000 bytes to ``t``."""
    return " union all ".join(["insert into t select randomblob(3000)"] + ["select randomblob(3000)"] * (count - 1))
