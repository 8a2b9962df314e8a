from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from clawfactory_core.snapshots.databases import DatabaseBusy, DatabaseUnreadable
from clawfactory_core.snapshots.wal_checksum import checksum
from tests.support.live_databases import checkpointed, content, copy_files, fill, opened
from tests.support.sqlite_process import SqliteProcess

WAL = ("pragma journal_mode=wal", "pragma wal_autocheckpoint=0", "create table t(a)")
BIG = "pragma cache_size=2"


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        return connection.execute("select count(*) from t").fetchone()[0]


@pytest.fixture
def killed(tmp_path) -> Path:
    """Its writer was killed in its fourth transaction: three are in the log, and frames of the fourth behind them."""
    path = tmp_path / "bot" / "main.sqlite"
    path.parent.mkdir()
    with SqliteProcess(path, *WAL, fill(20), "pragma wal_checkpoint(restart)", BIG) as other:
        other.sql(fill(5))
        copy_files(path, tmp_path / "early", ("-shm",))
        other.sql(fill(10))
        other.sql("delete from t where rowid % 3 = 0")
        other.sql("begin")
        other.sql(fill(50))
    return path


@pytest.mark.parametrize("index", ["as it was", "none", "early", "empty", "zeros"])
def test_the_killed_writers_commits_are_there_whatever_its_index_says(killed, tmp_path, index):
    shm = killed.with_name("main.sqlite-shm")
    if index == "none":
        shm.unlink()
    if index == "early":
        shm.write_bytes((tmp_path / "early" / shm.name).read_bytes())
    if index in ("empty", "zeros"):
        shm.write_bytes(bytes(32768 if index == "zeros" else 0))
    expected = checkpointed(killed, tmp_path / "expected")
    before = {file.name: file.read_bytes() for file in killed.parent.iterdir()}
    with opened(killed) as database:
        assert content(database) == expected
        assert not database.changed()
    assert {file.name: file.read_bytes() for file in killed.parent.iterdir()} == before
    (tmp_path / "merged").write_bytes(expected)
    assert rows(tmp_path / "merged") == 35 - 11


@pytest.mark.parametrize("lost", [1, 24, 4095, 4096, 4120, 50_000, 100_000, 150_000, 10**9])
def test_a_torn_log_gives_what_sqlite_recovers(killed, tmp_path, lost):
    wal = killed.with_name("main.sqlite-wal")
    os.truncate(wal, max(wal.stat().st_size - lost, 0))
    expected = checkpointed(killed, tmp_path / "expected")
    with opened(killed) as database:
        assert content(database) == expected


@pytest.mark.parametrize("offset", [0, 3, 9, 17, 25, 31, 33, 37, 41, 49, 60, 5_000, 40_000, 70_000, 90_001])
def test_a_flipped_bit_in_the_log_gives_what_sqlite_recovers(killed, tmp_path, offset):
    wal = killed.with_name("main.sqlite-wal")
    data = bytearray(wal.read_bytes())
    data[offset] ^= 4
    wal.write_bytes(data)
    expected = checkpointed(killed, tmp_path / "expected")
    with opened(killed) as database:
        assert content(database) == expected


def test_a_log_with_checksums_of_the_other_byte_order(killed, tmp_path):
    """SQLite writes its machine's byte order; a state may come from another machine."""
    file = killed.with_name("main.sqlite-wal")
    data = bytearray(file.read_bytes())
    data[0:4] = (0x377F0683).to_bytes(4, "big")
    sums = checksum(data[:24], little=False)
    data[24:32] = b"".join(part.to_bytes(4, "big") for part in sums)
    for start in range(32, len(data) - 4119, 4120):
        sums = checksum(data[start : start + 8], *sums, little=False)
        sums = checksum(data[start + 24 : start + 4120], *sums, little=False)
        data[start + 16 : start + 24] = b"".join(part.to_bytes(4, "big") for part in sums)
    file.write_bytes(data)
    expected = checkpointed(killed, tmp_path / "expected")
    with opened(killed) as database:
        assert content(database) == expected
    (tmp_path / "merged").write_bytes(expected)
    assert rows(tmp_path / "merged") > 20


def test_a_newcomer_recovers_and_loses_nothing_while_an_old_index_is_being_read(killed, tmp_path):
    """A stale index that we kept alive would be trusted, and its commits written over."""
    shm = killed.with_name("main.sqlite-shm")
    shm.write_bytes((tmp_path / "early" / shm.name).read_bytes())
    expected = checkpointed(killed, tmp_path / "expected")
    with opened(killed) as database:
        with SqliteProcess(killed) as other:
            assert other.sql("select count(*) from t") == [[24]]
            other.sql("pragma wal_autocheckpoint=1")
            for _ in range(5):
                other.sql(fill(3))
            other.sql("pragma wal_checkpoint(truncate)")
            assert content(database) == expected
            other.close()
        assert content(database) == expected
        assert not database.changed()
    assert rows(killed) == 39


def test_an_opener_that_checkpoints_without_an_index_to_lock_is_noticed(killed, tmp_path):
    killed.with_name("main.sqlite-shm").unlink()
    with opened(killed) as database:
        assert not database.changed()
        with SqliteProcess(killed, "pragma wal_checkpoint(truncate)"):
            assert database.changed()
    with opened(killed) as database:
        assert content(database) == checkpointed(killed, tmp_path / "expected")


def test_the_last_connection_closes_while_we_read(tmp_path):
    path = tmp_path / "main.sqlite"
    with SqliteProcess(path, *WAL, fill(20)) as other:
        expected = checkpointed(path, tmp_path / "expected")
        with opened(path) as database:
            other.sql("pragma wal_autocheckpoint=1")
            other.sql(fill(20))
            other.close()
            assert content(database) == expected
            assert not database.changed()
            with SqliteProcess(path, fill(1)) as another:
                assert another.sql("select count(*) from t") == [[41]]
                another.close()
            assert content(database) == expected
            assert not database.changed()
    assert rows(path) == 41
    assert not path.with_name("main.sqlite-wal").exists()


def test_a_finished_log_is_not_started_anew_while_we_read(tmp_path):
    path = tmp_path / "main.sqlite"
    with SqliteProcess(path, *WAL, fill(20)) as other:
        assert other.sql("pragma wal_checkpoint")[0][0] == 0
        expected = checkpointed(path, tmp_path / "expected")
        with opened(path) as database:
            other.sql("update t set a = randomblob(3000)")
            assert content(database) == expected
            assert not database.changed()


def test_checkpoints_give_up_at_once_while_we_read_and_work_afterwards(tmp_path):
    path = tmp_path / "main.sqlite"
    with SqliteProcess(path, *WAL, fill(20), "pragma busy_timeout=600000") as other:
        with opened(path):
            for kind in ("passive", "full", "restart", "truncate"):
                assert other.sql(f"pragma wal_checkpoint({kind})")[0][0] == 1
        assert other.sql("pragma wal_checkpoint(truncate)") == [[0, 0, 0]]


def test_a_log_that_was_just_emptied(tmp_path):
    path = tmp_path / "main.sqlite"
    with SqliteProcess(path, *WAL, fill(20), "delete from t where rowid > 5", "vacuum") as other:
        other.sql("pragma wal_checkpoint(truncate)")
        with opened(path) as database:
            assert content(database) == path.read_bytes()


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_locks_and_descriptors_are_gone_after_closing_and_after_a_refusal(tmp_path, mode):
    path = tmp_path / "main.sqlite"
    with SqliteProcess(path, f"pragma journal_mode={mode}", "create table t(a)") as other:
        change = f"pragma journal_mode={'delete' if mode == 'wal' else 'wal'}"
        descriptors = len(os.listdir("/proc/self/fd"))
        with opened(path) as database:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.sql(change)
            child = subprocess.Popen(["sleep", "60"], pass_fds=database._descriptors)
            database.close()
            database.close()
        try:
            with pytest.raises(DatabaseUnreadable, match="limit of 1"), opened(path, max_bytes=1):
                pass
            assert len(os.listdir("/proc/self/fd")) == descriptors
            other.sql(change)
        finally:
            child.kill()
            child.wait()


def test_a_hot_journal_is_named_and_rolls_the_copy_back(tmp_path):
    path = tmp_path / "bot" / "main.sqlite"
    path.parent.mkdir()
    with SqliteProcess(path, "create table t(a)", fill(50), BIG) as other:
        # Without syncs the journal is valid from the beginning.
        other.sql("pragma synchronous=off")
        other.sql("begin immediate")
        other.sql("update t set a = 1 where rowid = 1")
        with opened(path) as database:
            assert database.companions == ()
        other.sql("update t set a = randomblob(2000)")
        with pytest.raises(DatabaseBusy), opened(path, patience=0.05):
            pass
    with opened(path) as database:
        assert database.companions == (b"main.sqlite-journal",)
        (tmp_path / "main.sqlite").write_bytes(content(database))
        copy_files(path, tmp_path / "journal", ("-journal",))
    (tmp_path / "journal" / "main.sqlite-journal").rename(tmp_path / "main.sqlite-journal")
    assert rows(tmp_path / "main.sqlite") == 50
    with closing(sqlite3.connect(tmp_path / "main.sqlite")) as connection:
        assert connection.execute("select count(*) from t where length(a) = 3000").fetchone() == (50,)


def test_a_connection_in_exclusive_mode_is_busy(tmp_path):
    path = tmp_path / "main.sqlite"
    other = SqliteProcess(path, "pragma locking_mode=exclusive", *WAL)
    with other, pytest.raises(DatabaseBusy, match="locked by another"), opened(path, patience=0.05):
        pass


def test_a_thousand_frames_of_one_page_and_a_database_that_shrank(tmp_path):
    path = tmp_path / "main.sqlite"
    with SqliteProcess(path, *WAL, fill(200), "pragma wal_checkpoint") as other:
        for _ in range(300):
            other.sql("update t set a = randomblob(3000) where rowid = 7")
        other.sql("delete from t where rowid > 20")
        other.sql("vacuum")
        expected = checkpointed(path, tmp_path / "expected")
        assert len(expected) < path.stat().st_size
        with opened(path) as database:
            assert content(database) == expected
