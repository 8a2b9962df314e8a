from __future__ import annotations

import os
import sqlite3

import pytest

from clawfactory_core.errors import Conflict, InvalidInput
from clawfactory_core.snapshots import verify
from clawfactory_core.snapshots.chains import find, list_snapshots
from clawfactory_core.snapshots.swap import checking, locked, sweep_checks
from clawfactory_core.snapshots.tar_reader import ReadLimits
from clawfactory_core.snapshots.verify import VerifyReport, verify_snapshot
from tests.unit.core.snapshots.archive_maker import Directory, File, manifest
from tests.unit.core.snapshots.restore_machine import BASE, Machine


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


def database(tmp_path, damage: bool = False, mode: str = "wal", rows: int = 3000) -> bytes:
    path = tmp_path / "made.sqlite"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode={mode}")
    connection.execute("CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT UNIQUE)")
    connection.executemany("INSERT INTO words (word) VALUES (?)", [(f"word {number}",) for number in range(rows)])
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage:
        data[8192:12288] = os.urandom(4096)
    return bytes(data)


def verified(machine: Machine, name: str = "latest", **other: object) -> VerifyReport:
    options: dict[str, object] = {"content": True, "staging": machine.state.parent, **other}
    before = machine.everything() if options.get("owner") is None else None
    record = find(list_snapshots(machine.directory), name)
    report = verify_snapshot(machine.directory, record, (machine.maker.identity,), **options)
    assert before is None or machine.everything() == before
    return report


def write(machine: Machine, tree: dict[bytes, object], databases: list[bytes]) -> None:
    archive = machine.maker.full(tree)
    listed = [{"path": path.decode(), "as_of": "2026-01-01T00:00:00.000000Z"} for path in databases]
    archive.manifest = manifest(tree, list(tree), databases=listed)
    machine.maker.write(archive)


def test_digests_of_a_good_chain(machine):
    full = machine.maker.write(machine.maker.full(BASE))
    inc = machine.maker.write(machine.maker.inc(full, BASE, {}))
    report = verified(machine, content=False, staging=None)
    assert report.ok and not report.broken
    assert [(check["name"], check["ok"]) for check in report.checks] == [(full.file_name, True), (inc.file_name, True)]


def test_the_broken_link_is_named(machine):
    full = machine.maker.write(machine.maker.full(BASE))
    middle = machine.maker.write(machine.maker.inc(full, BASE, {}))
    last = machine.maker.write(machine.maker.inc(middle, {}, BASE))
    path = machine.directory / middle.file_name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    for content in (False, True):
        report = verified(machine, content=content)
        assert not report.ok
        assert middle.file_name in report.broken
        assert last.file_name not in report.broken
    path.unlink()
    assert middle.id in verified(machine, content=False).broken
    assert not verified(machine, full.id, content=False).broken


def test_success_is_noted_in_the_record(machine):
    machine.maker.write(machine.maker.full(BASE))
    verified(machine, content=False, owner=os.geteuid())
    assert list_snapshots(machine.directory)[0].verified_how == "digest"
    verified(machine, owner=os.geteuid())
    record = list_snapshots(machine.directory)[0]
    assert record.verified_how == "content" and record.verified
    verified(machine, content=False, owner=os.geteuid())
    assert list_snapshots(machine.directory)[0] == record


def test_failure_is_not_noted(machine):
    made = machine.maker.write(machine.maker.full(BASE))
    path = machine.directory / made.file_name
    path.write_bytes(b"x" * made.size)
    assert not verified(machine, content=False, owner=os.geteuid()).ok
    assert not list_snapshots(machine.directory)[0].verified


def test_databases_are_checked_each(machine, tmp_path):
    tree = {
        **BASE,
        b"good.sqlite": File(database(tmp_path), 0o400),
        b"rollback.db": File(database(tmp_path, mode="delete")),
        b"deep": Directory(0o500),
        b"deep/odd \xff": File(database(tmp_path)),
    }
    write(machine, tree, [b"good.sqlite", b"rollback.db"])
    report = verified(machine)
    assert report.ok
    found = {check["name"]: check["detail"] for check in report.checks[1:]}
    assert found == {"good.sqlite": "ok", "rollback.db": "ok", "deep/odd\\0040\\0377": "ok"}


def test_a_damaged_database_is_found(machine, tmp_path):
    write(machine, {b"bad.sqlite": File(database(tmp_path, damage=True))}, [b"bad.sqlite"])
    report = verified(machine)
    assert not report.ok
    assert [check["name"] for check in report.checks if not check["ok"]] == ["bad.sqlite"]
    assert report.problem.startswith("bad.sqlite: ")


def test_a_file_that_only_looks_like_a_database_is_no_failure(machine):
    write(machine, {b"looks": File(b"SQLite format 3\0" + b"x" * 5000)}, [])
    report = verified(machine)
    assert report.ok
    assert "stored as a plain file" in report.checks[-1]["detail"]


def test_nothing_but_what_may_be_a_database_is_written(machine, tmp_path, monkeypatch):
    content = database(tmp_path)
    tree = {**BASE, b"good.sqlite": File(content), b"good.sqlite-journal": File(b"old"), b"notes.md": File(b"text")}
    written = []

    def look(aside, *rest):
        written.append({file.name for file in aside.path.rglob("*") if file.is_file() and not file.is_symlink()})

    monkeypatch.setattr(verify, "_verify_databases", look)
    write(machine, tree, [b"good.sqlite"])
    assert verified(machine).ok
    full = list_snapshots(machine.directory)[0]
    machine.maker.write(machine.maker.inc(full, tree, tree))
    assert verified(machine).ok
    # In a chain, a patch can make a database of any file that is large enough to be patched.
    databases = {"good.sqlite", "good.sqlite-journal"}
    assert written == [databases, {*databases, "big"}]


def chain(machine: Machine, before: dict[bytes, object], after: dict[bytes, object], databases: list[bytes]) -> None:
    full = machine.maker.write(machine.maker.full(before))
    archive = machine.maker.inc(full, before, after)
    listed = [{"path": path.decode(), "as_of": "2026-01-01T00:00:00.000000Z"} for path in databases]
    archive.manifest = manifest(after, [path for path in after if before.get(path) != after[path]], databases=listed)
    machine.maker.write(archive)


@pytest.mark.parametrize("damage", [False, True])
def test_a_database_that_a_patch_made_is_checked(machine, tmp_path, damage):
    content = database(tmp_path, damage, rows=12_000)
    chain(machine, {b"large": File(b"x" * len(content))}, {b"large": File(content)}, [b"large"])
    report = verified(machine)
    assert [check["ok"] for check in report.checks if check["name"] == "large"] == [not damage]


def test_what_a_database_was_before_does_not_pass_for_it(machine, tmp_path):
    chain(machine, {b"x": File(database(tmp_path))}, {b"x": File(b"no database any more")}, [b"x"])
    report = verified(machine)
    assert [check["detail"] for check in report.checks if not check["ok"]] == [
        "is no SQLite database, yet the manifest says so"
    ]


def test_a_database_of_the_manifest_that_is_none(machine):
    write(machine, BASE, [b"big"])
    report = verified(machine)
    assert [check["detail"] for check in report.checks if not check["ok"]] == [
        "is no SQLite database, yet the manifest says so"
    ]


def test_a_hot_journal_is_rolled_back_before_the_check(machine, tmp_path):
    path = tmp_path / "hot.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA cache_size=1")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("CREATE TABLE t (a TEXT UNIQUE)")
    connection.executemany("INSERT INTO t VALUES (?)", [(f"{number:0500}",) for number in range(200)])
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DELETE FROM t WHERE rowid % 2")
    tree = {name.encode(): File((tmp_path / name).read_bytes()) for name in ("hot.db", "hot.db-journal")}
    connection.close()
    for name in ("hot.db", "hot.db-journal"):
        (tmp_path / name).unlink(missing_ok=True)
    write(machine, tree, [b"hot.db"])
    report = verified(machine)
    assert report.ok, report


@pytest.mark.parametrize("beside", [{}, {b"made.sqlite-journal": File(b"old")}])
def test_check_constraints_are_the_bots_own_matter(machine, tmp_path, beside):
    """Neither rows that break one nor a function that is not here is damage, whether SQLite may write or not."""
    path = tmp_path / "made.sqlite"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.create_function("of_the_bot", 1, lambda value: True, deterministic=True)
    connection.execute("CREATE TABLE t (a INTEGER CHECK (a > 0), b TEXT CHECK (of_the_bot(b)))")
    connection.execute("PRAGMA ignore_check_constraints=ON")
    connection.execute("INSERT INTO t VALUES (-1, 'x')")
    connection.close()
    write(machine, {b"made.sqlite": File(path.read_bytes()), **beside}, [b"made.sqlite"])
    report = verified(machine)
    assert report.ok, report.problem
    assert {"name": "made.sqlite", "ok": True, "detail": "ok"} in report.checks


def test_a_database_that_takes_too_long(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "_SECONDS_FOR_A_DATABASE", -1)
    monkeypatch.setattr(verify, "_CALLBACK_EVERY", 10)
    write(machine, {b"slow.sqlite": File(database(tmp_path))}, [b"slow.sqlite"])
    report = verified(machine)
    assert not report.ok
    assert "interrupted" in report.checks[-1]["detail"]


def test_all_databases_together_have_a_limit_too(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "_SECONDS_FOR_ALL", -1)
    monkeypatch.setattr(verify, "_CALLBACK_EVERY", 10)
    write(machine, {b"one": File(database(tmp_path))}, [b"one"])
    assert "interrupted" in verified(machine).problem


def test_of_files_that_only_look_like_databases_a_few_are_looked_at(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "_MOST_OTHERS", 3)
    tree = {b"%d" % number: File(b"SQLite format 3\0" + b"x" * 5000) for number in range(10)}
    write(machine, {**tree, b"real": File(database(tmp_path))}, [b"real"])
    report = verified(machine)
    assert report.ok
    assert len(report.checks) == 1 + 1 + 3


def test_what_a_database_says_cannot_steer_a_terminal(machine, tmp_path):
    path = tmp_path / "evil.sqlite"
    connection = sqlite3.connect(path)
    connection.execute('CREATE TABLE "\x1b[2Jevil" (word TEXT)')
    connection.execute('INSERT INTO "\x1b[2Jevil" VALUES (NULL)')
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("UPDATE sqlite_master SET sql = replace(sql, 'TEXT', 'TEXT NOT NULL')")
    connection.commit()
    connection.close()
    write(machine, {b"evil": File(path.read_bytes())}, [b"evil"])
    path.unlink()
    report = verified(machine)
    assert "evil" in report.problem.removeprefix("evil: ")
    assert report.problem.isprintable()


def test_what_content_needs(machine):
    machine.maker.write(machine.maker.full(BASE))
    record = list_snapshots(machine.directory)[0]
    with pytest.raises(InvalidInput, match="private key is needed"):
        verify_snapshot(machine.directory, record, None, content=True, staging=machine.state.parent)
    with pytest.raises(InvalidInput, match="beside the bot's state"):
        verify_snapshot(machine.directory, record, (machine.maker.identity,), content=True)
    with locked(machine.state), pytest.raises(Conflict, match="is running"):
        verified(machine)


def test_an_archive_of_the_original(machine):
    machine.maker.legacy(b"no tar at all" * 100)
    assert verified(machine, content=False).checks[0]["detail"] == "has no record to compare with"
    report = verified(machine)
    assert not report.ok and "old--2025" in report.broken


def test_a_full_disk_says_nothing_about_an_archive(machine):
    machine.maker.write(machine.maker.full(BASE))
    with pytest.raises(Conflict, match="make room"):
        verified(machine, limits=ReadLimits(min_free_bytes=1 << 62))
    assert not list_snapshots(machine.directory)[0].verified


def test_a_locked_bot_is_not_decrypted(machine):
    machine.maker.write(machine.maker.full(BASE))
    (machine.root / "locks" / "bot1").touch()
    with pytest.raises(Conflict, match="playbooks/unlock"):
        verified(machine)
    assert verified(machine, content=False).ok


def test_one_verification_at_a_time_and_snapshots_beside_it(machine):
    machine.maker.write(machine.maker.full(BASE))
    with checking(machine.state, machine.directory):
        with locked(machine.state, shared=True):
            pass
        with pytest.raises(Conflict, match="another verification"):
            verified(machine)


@pytest.mark.parametrize("at_work", [False, True])
def test_leftovers_of_another_snapshot_go_unless_somebody_is_at_work(machine, at_work):
    machine.maker.write(machine.maker.full(BASE))
    left = machine.state.parent / ".verify-old--2026-01-01T00-00-00Z"
    (left / "state").mkdir(parents=True)
    if at_work:
        # In it from before the other one comes.
        left.rename(machine.root / "aside")
        with checking(machine.state, machine.directory):
            (machine.root / "aside").rename(left)
            sweep_checks(machine.state, machine.directory)
            assert left.exists()
        sweep_checks(machine.state, machine.directory)
    else:
        record = list_snapshots(machine.directory)[0]
        assert verify_snapshot(
            machine.directory, record, (machine.maker.identity,), content=True, staging=machine.state.parent
        ).ok
    assert os.listdir(machine.state.parent) == ["state"]


def test_leftovers_of_one_that_was_killed_are_removed(machine):
    machine.maker.write(machine.maker.full(BASE))
    record = list_snapshots(machine.directory)[0]
    left = machine.state.parent / f".verify-{record.id}" / "state"
    left.mkdir(parents=True)
    (left / "plaintext").write_text("secret")
    report = verify_snapshot(
        machine.directory, record, (machine.maker.identity,), content=True, staging=machine.state.parent
    )
    assert report.ok
    assert os.listdir(machine.state.parent) == ["state"]
