"""A state that becomes another bot's loses its identity, and nothing else; whatever the database is."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from clawfactory_core.errors import CoreError
from clawfactory_core.snapshots import identity
from clawfactory_core.snapshots.identity import renew_identity

UID = 23456 if os.geteuid() == 0 else os.geteuid()
GONE = ("device_identities", "device_pairing_paired", "state_leases")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """As a restore stages it: the bot's, below a directory that only root passes."""
    staging = tmp_path / ".restore"
    database = staging / "state" / "state" / "openclaw.sqlite"
    database.parent.mkdir(parents=True)
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        for table in (*GONE, "task_runs"):
            connection.execute(f"CREATE TABLE {table} (id TEXT)")
            connection.execute(f"INSERT INTO {table} VALUES ('x')")  # noqa: S608 - names of ours
    connection.close()
    (staging / "state" / "identity").mkdir()
    (staging / "state" / "identity" / "device.json").write_text("{}")
    (staging / "state" / "memory.md").write_text("kept")
    own(staging / "state")
    staging.chmod(0o700)
    return staging / "state"


def own(path: Path) -> None:
    for directory, _, files in os.walk(path):
        for item in (directory, *(os.path.join(directory, name) for name in files)):
            os.chown(item, UID, UID, follow_symlinks=False)


def counts(state: Path) -> dict[str, int]:
    with sqlite3.connect(state / "state" / "openclaw.sqlite") as connection:
        return {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - names of ours
            for table in (*GONE, "task_runs")
        }


def test_identity_goes_and_the_rest_stays(state: Path) -> None:
    renew_identity(state, UID, UID)
    assert counts(state) == {**dict.fromkeys(GONE, 0), "task_runs": 1}
    assert not (state / "identity").exists()
    assert (state / "memory.md").read_text() == "kept"


def test_nothing_of_the_identity_stays_in_free_pages(state: Path) -> None:
    with sqlite3.connect(state / "state" / "openclaw.sqlite") as connection:
        connection.execute("INSERT INTO device_identities VALUES (?)", ("PRIVATE-KEY" * 2000,))
    connection.close()
    renew_identity(state, UID, UID)
    assert not any(b"PRIVATE-KEY" in path.read_bytes() for path in (state / "state").iterdir())


def test_a_trigger_that_never_ends_is_ended(state: Path, monkeypatch) -> None:
    monkeypatch.setattr(identity, "_SECONDS", 1)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    with sqlite3.connect(state / "state" / "openclaw.sqlite") as connection:
        connection.execute(f"CREATE TRIGGER t BEFORE DELETE ON device_identities BEGIN {endless}; END")
    connection.close()
    with pytest.raises(CoreError, match="could not be taken out"):
        renew_identity(state, UID, UID)


def test_a_trigger_that_fills_the_disk_is_ended(state: Path) -> None:
    database = state / "state" / "openclaw.sqlite"
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT randomblob(100000) FROM n"
    with sqlite3.connect(database) as connection:
        connection.execute(
            f"CREATE TRIGGER t BEFORE DELETE ON device_identities BEGIN INSERT INTO task_runs {endless}; END"
        )
    connection.close()
    own(state)
    with pytest.raises(CoreError, match="full"):
        renew_identity(state, UID, UID)
    assert sum(path.stat().st_size for path in database.parent.iterdir()) < 32 << 20


def test_a_trigger_that_fills_the_memory_is_ended(state: Path, monkeypatch) -> None:
    monkeypatch.setattr(identity, "_HEAP", 16 << 20)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n ORDER BY -x"
    with sqlite3.connect(state / "state" / "openclaw.sqlite") as connection:
        connection.execute(
            f"CREATE TRIGGER t BEFORE DELETE ON device_identities BEGIN INSERT INTO task_runs {endless}; END"
        )
    connection.close()
    own(state)
    with pytest.raises(CoreError, match="more memory"):
        renew_identity(state, UID, UID)


def test_what_it_runs_ends_with_who_asked_for_it(state: Path) -> None:
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    with sqlite3.connect(state / "state" / "openclaw.sqlite") as connection:
        connection.execute(f"CREATE TRIGGER t BEFORE DELETE ON device_identities BEGIN {endless}; END")
    connection.close()
    own(state)
    asking = os.fork()
    if asking == 0:
        with contextlib.suppress(CoreError):
            renew_identity(state, UID, UID)
        os._exit(0)
    children = Path(f"/proc/{asking}/task/{asking}/children")
    deadline = time.monotonic() + 10
    while not (found := children.read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    os.kill(asking, signal.SIGKILL)
    os.waitpid(asking, 0)
    time.sleep(0.5)
    assert found and not any(lives(int(child)) for child in found)


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_twice_is_as_once(state: Path) -> None:
    renew_identity(state, UID, UID)
    renew_identity(state, UID, UID)
    assert counts(state)["task_runs"] == 1


def test_state_without_a_database_is_fine(state: Path) -> None:
    (state / "state" / "openclaw.sqlite").unlink()
    renew_identity(state, UID, UID)
    assert not (state / "identity").exists()


def test_damaged_database_is_refused_with_its_reason(state: Path) -> None:
    (state / "state" / "openclaw.sqlite").write_bytes(b"no database at all, but long enough to be read as one" * 100)
    with pytest.raises(CoreError, match="not a database"):
        renew_identity(state, UID, UID)


@pytest.mark.parametrize("name", ["identity", "state/openclaw.sqlite", "state"])
def test_link_is_not_followed(state: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with sqlite3.connect(outside / "openclaw.sqlite") as connection:
        connection.execute("CREATE TABLE device_identities (id TEXT)")
        connection.execute("INSERT INTO device_identities VALUES ('another bot')")
    connection.close()
    own(outside)
    (outside / "device.json").write_text("{}")
    (state / name).rename(tmp_path / "aside")
    (state / name).symlink_to(outside / "openclaw.sqlite" if name.endswith("sqlite") else outside)
    if name == "identity":
        renew_identity(state, UID, UID)
    else:
        with pytest.raises(CoreError):
            renew_identity(state, UID, UID)
    assert (outside / "device.json").exists()
    with sqlite3.connect(outside / "openclaw.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM device_identities").fetchone() == (1,)


def test_schema_of_the_bot_runs_nothing_of_it(state: Path) -> None:
    """A trigger of the bot that calls what only SQLite's own programs have."""
    with sqlite3.connect(state / "state" / "openclaw.sqlite") as connection:
        connection.execute(
            "CREATE TRIGGER t AFTER DELETE ON device_identities BEGIN SELECT load_extension('evil.so'); END"
        )
    connection.close()
    own(state)
    with pytest.raises(CoreError):
        renew_identity(state, UID, UID)
