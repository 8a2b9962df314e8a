from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from clawfactory_core.snapshots.databases import LiveDatabase
from tests.support.live_databases import checkpointed, content, fill, opened
from tests.support.sqlite_process import ROWS, SETUP, SqliteProcess, SqliteWriter

READS = 20


@pytest.fixture
def path(tmp_path) -> Path:
    (tmp_path / "bot").mkdir()
    path = tmp_path / "bot" / "main.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SETUP)
    return path


def slowly(database: LiveDatabase) -> bytes:
    """As ``content``, with time for a writer in between."""
    parts = []
    for offset in range(0, database.size, 1 << 16):
        parts.append(database.read(offset, 1 << 16))
        time.sleep(0.001)
    return b"".join(parts)


def check(copy: Path) -> int:
    """The counter of a sound copy."""
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        (counter,) = connection.execute("select value from counter").fetchone()
        rows = connection.execute("select count(*), min(n), max(n) from log").fetchone()
        assert rows == (ROWS, counter - ROWS + 1, counter)
    return counter


@pytest.mark.parametrize(
    "options",
    [
        {"rate": 5},
        {"rate": 40},
        {"rate": 0},
        {"rate": 0, "before": ["pragma wal_autocheckpoint=3"]},
        {"rate": 0, "beside": ["pragma wal_checkpoint(truncate)", "pragma wal_checkpoint(restart)"], "every": 5},
        {"rate": 0, "beside": ["vacuum"], "every": 50},
        {"rate": 0, "beside": ["begin", "select * from log", "commit"], "every": 3},
    ],
    ids=["5/s", "40/s", "fast", "checkpoints", "explicit", "vacuum", "readers"],
)
def test_copies_of_a_database_that_is_written_to_are_sound_and_complete(path, tmp_path, options):
    writer = SqliteWriter(path, **options)
    for number in range(READS):
        committed = writer.committed()
        with opened(path) as database:
            merged = slowly(database)
            assert not database.changed()
            assert len(merged) == database.size
            assert database.companions == ()
        copy = tmp_path / f"{number}.sqlite"
        copy.write_bytes(merged)
        assert check(copy) >= committed
    assert writer.stop() == ""
    assert check(path) >= committed


def test_setting_the_mode_anew_as_openclaw_does_is_no_change(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma journal_mode=wal")
        connection.execute("update counter set value = value")
        connection.commit()
        with opened(path) as database:
            before = path.stat().st_ctime_ns
            while path.stat().st_ctime_ns == before:
                path.chmod(0o600)
            assert slowly(database)
            assert not database.changed()


def test_a_writer_with_a_rollback_journal_goes_on_after_each_copy(path, tmp_path):
    writer = SqliteWriter(path, rate=40, mode="delete", timeout=10)
    for number in range(READS):
        committed = writer.committed()
        with opened(path) as database:
            assert database.holds_writers
            merged = slowly(database)
            assert not database.changed()
            assert database.companions == ()
        copy = tmp_path / f"{number}.sqlite"
        copy.write_bytes(merged)
        assert check(copy) >= committed
        time.sleep(0.03)
    assert writer.stop() == ""


@pytest.mark.parametrize("page_size", [512 << power for power in range(8)])
def test_every_page_size(tmp_path, page_size):
    path = tmp_path / "main.sqlite"
    with SqliteProcess(path, f"pragma page_size={page_size}", "pragma journal_mode=wal", "create table t(a)") as other:
        other.sql("pragma wal_checkpoint")
        other.sql(fill(100))
        expected = checkpointed(path, tmp_path / "copy")
        with opened(path) as database:
            assert content(database) == expected
            assert content(database, 4096) == expected
            assert content(database, 1000) == expected
            assert database.read(len(expected) - 5, 100) == expected[-5:]
            assert database.read(len(expected), 100) == b""
