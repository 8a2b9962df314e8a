from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clawfactory_core.adapters.age import make_key_pair
from clawfactory_core.errors import Conflict, InvalidInput
from clawfactory_core.snapshots import create, index, sources, stored_file, storing, swap, tar_reader
from clawfactory_core.snapshots.capture import Entry, Limits
from clawfactory_core.snapshots.chains import list_snapshots
from clawfactory_core.snapshots.create import apply_snapshot, plan_snapshot
from clawfactory_core.snapshots.restore import RestoreRequest, stage_restore
from clawfactory_core.snapshots.rules import Rules
from clawfactory_core.snapshots.stored_file import describe
from clawfactory_core.snapshots.tar_reader import ReadLimits
from tests.support.open_directories import open_to_others
from tests.support.snapshot_states import Archive, Bench, on_disk

LARGE = 256 * 1024


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


SIZES = st.sampled_from([0, 1, 4095, 4096, 4097, LARGE, LARGE + 1, LARGE + 5000, (1 << 20) + 17])
CONTENT = st.tuples(SIZES, st.integers(0, 255), st.booleans())
NAMES = st.one_of(
    st.binary(min_size=1, max_size=6).map(lambda name: name.replace(b"/", b"-").replace(b"\0", b"-")),
    st.sampled_from([b"a", b"b", b"c", b"a b", b"a-", b"a.", b"\xff" * 120, "ü\U0001f600".encode(), b"n" * 255]),
).filter(lambda name: name not in (b".", b"..", b".clawfactory") and not Rules().reason(name, name))
KINDS = st.sampled_from(["f", "f", "f", "d", "l"])
PATHS = st.lists(NAMES, min_size=1, max_size=4)
TIMES = st.sampled_from([0, 1, 10**9, 1_700_000_000_123_456_789, -1_500_000_000, 2**33 * 10**9 + 5])
MAKE = st.tuples(st.just("make"), PATHS, KINDS, CONTENT, st.sampled_from([0o600, 0o644, 0o755, 0o4755, 0o400]), TIMES)
CHANGE = st.tuples(
    st.sampled_from(["write", "cut", "grow", "remove", "mode", "time", "retype"]), st.integers(0), CONTENT
)


def content(described: tuple[int, int, bool]) -> bytes:
    size, seed, empty = described
    return bytes(size) if empty else (bytes([seed, 7, seed ^ 0x55]) * (size // 3 + 1))[:size]


def make(state: Path, path: list[bytes], kind: str, described: tuple[int, int, bool], mode: int, mtime: int) -> None:
    target = os.path.join(os.fsencode(state), *path)
    if os.path.lexists(target) or any(
        os.path.islink(os.path.join(os.fsencode(state), *path[:n]))
        or os.path.isfile(os.path.join(os.fsencode(state), *path[:n]))
        for n in range(1, len(path))
    ):
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if kind == "d":
        os.mkdir(target)
    elif kind == "l":
        os.symlink(content(described)[:150].replace(b"\0", b"x") or b"nowhere", target)
    else:
        Path(os.fsdecode(target)).write_bytes(content(described))
    if kind != "l":
        os.chmod(target, mode | (0o700 if kind == "d" else 0))
    os.utime(target, ns=(mtime, mtime), follow_symlinks=False)


def change(state: Path, how: str, which: int, described: tuple[int, int, bool]) -> None:
    paths = sorted(on_disk(state))
    if not paths:
        return
    path = os.path.join(os.fsencode(state), paths[which % len(paths)])
    found = os.lstat(path)
    regular = stat.S_ISREG(found.st_mode)
    if how == "remove" or how == "retype":
        shutil.rmtree(path) if stat.S_ISDIR(found.st_mode) else os.unlink(path)
        if how == "retype":
            os.mkdir(path) if regular else Path(os.fsdecode(path)).write_bytes(content(described))
    elif how == "mode" and not stat.S_ISLNK(found.st_mode):
        os.chmod(path, 0o500)
    elif how == "time":
        os.utime(path, ns=(5, 10**18 + 7), follow_symlinks=False)
    elif regular and how == "cut":
        os.truncate(path, found.st_size // 2)
    elif regular:
        with open(path, "r+b") as file:
            file.seek(found.st_size if how == "grow" else found.st_size // 3)
            file.write(content(described)[: LARGE // 2])


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(MAKE, max_size=12), st.lists(st.lists(st.one_of(MAKE, CHANGE), max_size=6), min_size=1, max_size=3))
@pytest.mark.parametrize("grain", [index._GRAIN_NS, -(10**15)])
def test_a_chain_gives_the_tree_that_was_there_each_time(grain, first, later):
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        # With the second value, what has the same size and times is taken for unchanged however new it is.
        patch.setattr(index, "_GRAIN_NS", grain)
        bench = Bench(Path(scratch))
        records = []
        for steps in [first, *later]:
            for step in steps:
                if step[0] == "make":
                    make(bench.state, *step[1:])
                else:
                    change(bench.state, *step)
            # Times of files have the grain of the kernel's tick.
            time.sleep(0.005)
            records.append(apply_snapshot(bench.request()).record)
            assert bench.restored(*records) == on_disk(bench.state)
        assert [record.kind for record in records] == ["full", *("inc" for _ in later)]


def test_an_unchanged_state_gives_an_empty_incremental_one(bench):
    (bench.state / "large").write_bytes(os.urandom(LARGE * 2))
    (bench.state / "dir").mkdir()
    (bench.state / "dir" / "small").write_text("x")
    full = apply_snapshot(bench.request()).record
    second = apply_snapshot(bench.request()).record
    assert bench.archive(second).paths == []
    assert bench.archive(second).changes == []
    assert bench.restored(full, second) == on_disk(bench.state)


def test_a_large_file_is_stored_as_its_changed_blocks(bench):
    large = bench.state / "large"
    large.write_bytes(os.urandom(40 << 20))
    full = apply_snapshot(bench.request()).record
    with large.open("r+b") as file:
        file.seek(5 * 4096 + 10)
        file.write(b"changed")
        file.seek(20 << 20)
        file.write(os.urandom(17 << 20))
    second = apply_snapshot(bench.request()).record
    archive = bench.archive(second)
    assert archive.own[b"patch/0.ranges"].startswith(b"5 1\n")
    # No patch is larger than 8 MiB.
    assert len(archive.changes) == 3
    assert max(len(data) for name, data in archive.own.items() if name.endswith(b".data")) == 8 << 20
    assert bench.restored(full, second) == on_disk(bench.state)


def test_a_large_file_whose_times_alone_changed_takes_no_data(bench):
    large = bench.state / "large"
    large.write_bytes(os.urandom(LARGE * 2))
    full = apply_snapshot(bench.request()).record
    os.utime(large, ns=(1, 2))
    second = apply_snapshot(bench.request()).record
    assert bench.archive(second).own[b"patch/0.data"] == b""
    assert bench.restored(full, second) == on_disk(bench.state)


def test_what_was_written_within_the_grain_of_time_is_read_again(bench):
    file = bench.state / "file"
    file.write_bytes(b"a" * 100)
    found = file.stat()
    full = apply_snapshot(bench.request()).record
    # Same size and mtime; the ctime is newer than the snapshot, so that a look alone must not settle it.
    file.write_bytes(b"b" * 100)
    os.utime(file, ns=(found.st_mtime_ns, found.st_mtime_ns))
    second = apply_snapshot(bench.request()).record
    assert bench.restored(full, second) == on_disk(bench.state)


def test_modes_that_are_set_anew_as_openclaw_does_store_nothing(bench):
    """They are read again, because a new ctime may also mean that somebody wrote and set the mtime back."""
    connection = sqlite3.connect(bench.state / "main.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t(x)")
    connection.executemany("INSERT INTO t VALUES(?)", [(os.urandom(2000),) for _ in range(300)])
    (bench.state / "large").write_bytes(os.urandom(LARGE * 2))
    (bench.state / "small").write_text("small")
    apply_snapshot(bench.request())
    for path in (bench.state, *bench.state.iterdir()):
        path.chmod(path.stat().st_mode & 0o777)
    second = apply_snapshot(bench.request()).record
    assert second.kind == "inc"
    archive = bench.archive(second)
    assert archive.manifest["databases"][0]["path"] == "main.sqlite"
    assert (archive.paths, archive.changes) == ([], [])
    connection.close()


def test_a_database_is_stored_with_its_log_worked_in(bench):
    connection = sqlite3.connect(bench.state / "main.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t(x)")
    connection.executemany("INSERT INTO t VALUES(?)", [(os.urandom(2000),) for _ in range(300)])
    records = [apply_snapshot(bench.request()).record]
    connection.execute("INSERT INTO t VALUES('later')")
    records.append(apply_snapshot(bench.request()).record)
    tree = bench.restored(*records)
    assert sorted(tree) == [b"main.sqlite"]
    copy = bench.base / "copy.sqlite"
    copy.write_bytes(tree[b"main.sqlite"][3])
    with sqlite3.connect(copy) as other:
        assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert other.execute("SELECT count(*), max(x = 'later') FROM t").fetchone() == (301, 1)
    manifest = bench.archive(records[1]).manifest
    assert [item["path"] for item in manifest["databases"]] == ["main.sqlite"]
    assert manifest["databases_as_of"][0] >= bench.archive(records[1]).header["started"]
    connection.close()


def test_a_database_with_the_same_times_and_log_is_not_read_again(bench, monkeypatch):
    connection = sqlite3.connect(bench.state / "main.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t(x)")
    connection.execute("INSERT INTO t VALUES('first')")
    monkeypatch.setattr(index, "_GRAIN_NS", -(10**15))
    records = [apply_snapshot(bench.request()).record, apply_snapshot(bench.request()).record]
    assert bench.archive(records[1]).paths == []
    assert bench.archive(records[1]).manifest["databases"][0]["path"] == "main.sqlite"
    time.sleep(0.01)
    connection.execute("INSERT INTO t VALUES('second')")
    records.append(apply_snapshot(bench.request()).record)
    copy = bench.base / "copy.sqlite"
    copy.write_bytes(bench.restored(*records)[b"main.sqlite"][3])
    with sqlite3.connect(copy) as other:
        assert other.execute("SELECT x FROM t").fetchall() == [("first",), ("second",)]
    connection.close()


def test_a_broken_database_and_its_log_are_plain_files(bench):
    (bench.state / "bad.sqlite").write_bytes(b"SQLite format 3\0" + os.urandom(1008))
    for name in ("bad.sqlite-shm", "bad.sqlite-wal"):
        (bench.state / name).write_bytes(os.urandom(1024))
    result = apply_snapshot(bench.request())
    assert bench.restored(result.record) == on_disk(bench.state)
    assert bench.archive(result.record).manifest["changed"] == ["bad.sqlite"]
    assert "bad.sqlite is stored as a plain file" in " ".join(result.warnings)


def test_several_recipients_can_each_open_it(bench):
    identity, recipient = make_key_pair()
    (bench.state / "file").write_text("x")
    record = apply_snapshot(bench.request(recipients=(bench.recipient, recipient))).record
    data = (bench.snapshots / record.file_name).read_bytes()
    assert Archive(data, identity).members == Archive(data, bench.identity).members
    assert record.recipients == (bench.recipient, recipient)


def test_another_recipient_begins_a_new_chain(bench):
    apply_snapshot(bench.request())
    _, other = make_key_pair()
    plan = plan_snapshot(bench.request(recipients=(other,)))
    assert plan.kind == "full"
    assert "recipients" in plan.why


def test_a_hot_journal_is_stored_before_somebody_can_roll_it_back(bench, tmp_path, monkeypatch):
    path = bench.state / "hot.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t(x)")
        connection.executemany("INSERT INTO t VALUES (?)", [(f"{number:0500}",) for number in range(2000)])
        connection.commit()
    # Killed when pages had gone from its cache into the file, and their old content into the journal.
    script = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA cache_size=5'); c.execute('BEGIN'); c.execute('UPDATE t SET x = x || x'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == 9
    assert (bench.state / "hot.db-journal").stat().st_size > 0
    original = storing.StoredFile.store

    def store(self):
        original(self)
        if self._entry.name == b"hot.db":
            # As OpenClaw does when it starts in just this moment; the state may be all that this process sees.
            seen = next(each for each in (path, Path("/hot.db")) if each.exists())
            with closing(sqlite3.connect(seen, timeout=0)) as connection, suppress(sqlite3.OperationalError):
                connection.execute("SELECT count(*) FROM t")

    monkeypatch.setattr(storing.StoredFile, "store", store)
    tree = bench.restored(apply_snapshot(bench.request()).record)
    assert sorted(tree) == [b"hot.db", b"hot.db-journal"]
    for name in tree:
        (tmp_path / f"copy-{name.decode()}").write_bytes(tree[name][3])
    with closing(sqlite3.connect(tmp_path / "copy-hot.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*), sum(length(x)) FROM t").fetchone() == (2000, 1_000_000)


def test_the_plan_says_what_comes_and_changes_nothing(bench):
    (bench.state / "file").write_text("x")
    before = sorted(bench.base.rglob("*"))
    plan = plan_snapshot(bench.request(label="before update"))
    assert (plan.kind, plan.why, plan.parent) == ("full", "there is no index yet", "")
    assert plan.id.startswith("before-update--")
    assert sorted(bench.base.rglob("*")) == before
    first = apply_snapshot(bench.request()).record
    plan = plan_snapshot(bench.request())
    assert (plan.kind, plan.parent) == ("inc", first.id)
    assert plan_snapshot(bench.request(kind="full")).kind == "full"


def test_a_long_chain_and_large_changes_end_in_a_full_one(bench):
    (bench.state / "file").write_bytes(os.urandom(50_000))
    kinds = [apply_snapshot(bench.request(max_chain=3)).record.kind for _ in range(4)]
    assert kinds == ["full", "inc", "inc", "full"]
    (bench.state / "other").write_bytes(os.urandom(50_000))
    assert apply_snapshot(bench.request(max_delta_ratio=0.5)).record.kind == "inc"
    assert "changes since" in plan_snapshot(bench.request(max_delta_ratio=0.5)).why


def test_files_belong_to_the_owner_and_latest_points_at_the_newest(bench):
    (bench.state / "file").write_text("x")
    apply_snapshot(bench.request(owner=4321))
    record = apply_snapshot(bench.request(owner=4321)).record
    assert os.readlink(bench.snapshots / "latest") == record.file_name
    for path in bench.snapshots.iterdir():
        found = path.lstat()
        if not path.is_symlink():
            assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (4321, 4321, 0o600)
    assert stat.S_IMODE(bench.index.stat().st_mode) == 0o600
    assert (bench.index.stat().st_uid, len(list(bench.index.parent.iterdir()))) == (0, 1)


def test_members_belong_to_the_owner_of_the_state(bench):
    (bench.state / "file").write_text("x")
    for path in (bench.state, bench.state / "file"):
        os.chown(path, 20123, 3_000_000)
    archive = bench.archive(apply_snapshot(bench.request()).record)
    assert (archive.header["uid"], archive.header["gid"]) == (20123, 3_000_000)
    assert archive.pax[2]["gid"] == "3000000"


def test_progress_tells_bytes_and_ends_at_all_of_them(bench):
    (bench.state / "file").write_bytes(os.urandom(3 << 20))
    reports = []
    apply_snapshot(bench.request(), reports.append)
    assert reports[-1].phase == "archiving"
    assert reports[-1].done == reports[-1].total == 3 << 20


def test_requests_that_cannot_be_met_are_refused(bench):
    with pytest.raises(InvalidInput, match="age1wrong"):
        apply_snapshot(bench.request(recipients=("age1wrong",)))
    with pytest.raises(InvalidInput, match="no recipient"):
        apply_snapshot(bench.request(recipients=()))
    with pytest.raises(InvalidInput, match="kind 'inc'"):
        apply_snapshot(bench.request(kind="inc"))
    with pytest.raises(InvalidInput, match="empty component"):
        apply_snapshot(bench.request(exclude=("a//b",)))
    with pytest.raises(InvalidInput, match="No such file"):
        apply_snapshot(bench.request(state=bench.base / "none"))
    (bench.base / "link").symlink_to(bench.state)
    with pytest.raises(InvalidInput, match="not a directory"):
        apply_snapshot(bench.request(state=bench.base / "link"))
    with pytest.raises(Conflict, match="are free in"):
        apply_snapshot(bench.request(min_free_bytes=1 << 60))
    (bench.base / "locks").mkdir()
    (bench.base / "locks" / "bot1").touch()
    with pytest.raises(Conflict, match="bot1 is locked"):
        plan_snapshot(bench.request())
    assert list(bench.snapshots.iterdir()) in ([], [bench.snapshots / ".lock"])


def restored(bench: Bench, name: str = "latest", limits: ReadLimits | None = None) -> Path:
    """What the real reader makes of it."""
    request = RestoreRequest(
        bench.base, "bot1", bench.state, bench.snapshots, name, (bench.identity,), 0, 0, limits=limits or ReadLimits()
    )
    return stage_restore(request).path


FAR = (10**10, 2**36, -(2**33), 2**62)


@pytest.mark.parametrize("kind", ["file", "directory", "link", "log"])
def test_times_beyond_those_of_an_index_end_nothing(bench, monkeypatch, kind):
    real, far = os.stat, 2**62 * 10**9 + 5

    def moved(found):
        return Moved(found, far)

    class Moved:
        def __init__(self, found, when):
            self._found = found
            self.st_mtime_ns = self.st_ctime_ns = when

        def __getattr__(self, name):
            return getattr(self._found, name)

    entry = describe(b"x", {"file": "f", "directory": "d"}.get(kind, "l"), moved(real(bench.state)))
    if kind == "log":
        entry.mtime_ns = entry.ctime_ns = 0
        (bench.state / "x").touch()
        monkeypatch.setattr(sources, "look", lambda name, _: moved(real(bench.state / "x")))
        entry.log = sources.log_stamp(Entry(b"y", b"y", 0, real(bench.state), "f")) or (0, far)
    assert entry.pack()


def test_files_of_other_centuries_are_stored_and_restored(bench):
    for number, seconds in enumerate(FAR):
        for path in (bench.state / f"file{number}", bench.state / f"directory{number}"):
            path.write_text("x") if path.name.startswith("file") else path.mkdir()
            with suppress(OSError, OverflowError):
                os.utime(path, (seconds, seconds))
    first = apply_snapshot(bench.request()).record
    (bench.state / "more").touch()
    second = apply_snapshot(bench.request()).record
    assert (first.kind, second.kind) == ("full", "inc")
    found = restored(bench)
    assert sorted(os.listdir(found)) == sorted(os.listdir(bench.state))
    assert abs(os.stat(found / "file0").st_mtime_ns) <= 1 << 63


def test_no_more_names_than_a_reader_takes(bench):
    """Names of which each byte is escaped: a state with many must not give what cannot be restored."""
    for number in range(2000):
        (bench.state / os.fsdecode(b"%06d" % number + b"\xff" * 240)).touch()
    for number in range(20):
        (bench.state / f"{number:06d}-link").symlink_to("\x01" * 2000)
    done = apply_snapshot(bench.request(limits=Limits(max_text=300_000)))
    assert 0 < done.record.count < 300
    assert {item["reason"] for item in done.left_out} == {"beyond max_entries"}
    assert len(bench.archive(done.record).own[b"manifest.json"]) < 1_900_000
    assert len(os.listdir(restored(bench, limits=ReadLimits(max_document=1_900_000)))) == done.record.count


def test_a_large_file_that_goes_on_changing_can_be_restored(bench, monkeypatch):
    """It is in the archive up to four times, so that the tar is larger than the state may be."""
    path = bench.state / "restless"
    path.write_bytes(os.urandom(4 << 20))
    monkeypatch.setattr(tar_reader, "_BESIDE_FILES", 1 << 20)
    real = stored_file.StoredFile._store_once

    def store(self, source):
        real(self, source)
        descriptor = os.open("restless", os.O_WRONLY, dir_fd=self._entry.directory)
        os.pwrite(descriptor, os.urandom(4 << 20), 0)
        os.close(descriptor)
        return source.settled()

    monkeypatch.setattr(stored_file.StoredFile, "_store_once", store)
    limits = Limits(max_bytes=5 << 20)
    done = apply_snapshot(bench.request(limits=limits))
    assert done.warnings and done.record.size > 12 << 20
    assert os.stat(restored(bench, limits=ReadLimits(max_bytes=5 << 20)) / "restless").st_size == 4 << 20


def test_what_is_included_is_taken_out_of_a_directory_that_is_left_out(bench):
    for path in (
        "installed/keep",
        "installed/other/keep",
        "workspace/node_modules/mine/a/b",
        "workspace/node_modules/x/y",
    ):
        (bench.state / path).parent.mkdir(parents=True, exist_ok=True)
        (bench.state / path).touch()
    done = apply_snapshot(bench.request(include=("/installed/keep", "workspace/node_modules/mine")))
    assert set(bench.restored(done.record)) == {
        b"installed",
        b"installed/keep",
        b"workspace",
        b"workspace/node_modules",
        b"workspace/node_modules/mine",
        b"workspace/node_modules/mine/a",
        b"workspace/node_modules/mine/a/b",
    }
    assert {item["path"]: item["reason"] for item in done.left_out} == {
        "installed/other": "installed software",
        "workspace/node_modules/x": "installed software",
    }


def abandoned_log(path: Path) -> None:
    """A database whose writer was killed, so that nobody has its log open."""
    with closing(sqlite3.connect(path.with_name("made"))) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("CREATE TABLE t (a)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 4000,)] * 300)
        connection.commit()
        shutil.copyfile(path.with_name("made"), path)
        shutil.copyfile(path.with_name("made-wal"), f"{path}-wal")
    path.with_name("made").unlink()


def test_a_log_with_many_names_is_followed_once(bench):
    abandoned_log(bench.state / "a.db")
    for number in range(5):
        shutil.copyfile(bench.state / "a.db", bench.state / f"b{number}.db")
        os.link(bench.state / "a.db-wal", bench.state / f"b{number}.db-wal")
    done = apply_snapshot(bench.request())
    assert len([warning for warning in done.warnings if "that of another database" in warning]) == 5
    assert [item["path"] for item in bench.archive(done.record).manifest["databases"]] == ["a.db"]


def test_logs_are_followed_for_so_long_and_no_longer(bench, monkeypatch):
    abandoned_log(bench.state / "a.db")
    monkeypatch.setattr(sources, "_ALL_FOLLOWING", 0.0)
    done = apply_snapshot(bench.request())
    assert any("takes too long to be followed" in warning for warning in done.warnings)
    assert {b"a.db", b"a.db-wal"} <= set(bench.restored(done.record))


def test_hot_journals_do_not_use_up_the_descriptors(bench):
    made = bench.base / "made.db"
    with closing(sqlite3.connect(made)) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.commit()
    data, journal = made.read_bytes(), bytes.fromhex("d9d505f920a163d7") + bytes(504)
    directory = bench.state
    # Names between a database's and its journal's: all are held until those are stored.
    for _ in range(2):
        for number in range(100):
            (directory / ("a" + "!" * number)).write_bytes(data)
            (directory / ("a" + "!" * number + "-journal")).write_bytes(journal)
        directory = directory / ("a" + "!" * 100)
        directory.mkdir()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        done = apply_snapshot(bench.request())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert not done.left_out
    assert any("wait for their journals" in warning for warning in done.warnings)


def test_no_restore_swaps_while_a_snapshot_is_made(bench, monkeypatch):
    """Otherwise a walk through a state that goes away is published, with what was left of it."""
    real = create._make

    def make(*arguments, **options):
        with pytest.raises(Conflict, match="is running"), swap.locked(bench.state):
            pass
        return real(*arguments, **options)

    monkeypatch.setattr(create, "_make", make)
    apply_snapshot(bench.request())
    with swap.locked(bench.state), pytest.raises(Conflict, match="a restore, snapshot or verification"):
        apply_snapshot(bench.request())


def test_plaintext_of_a_killed_verification_goes(bench):
    left = bench.base / ".verify-old--2026-01-01T00-00-00Z" / "state"
    left.mkdir(parents=True)
    (left / "secret").write_text("plain")
    with swap.checking(bench.state, bench.snapshots):
        left.mkdir(parents=True)
        apply_snapshot(bench.request())
        assert left.exists()
    apply_snapshot(bench.request())
    assert not left.parent.exists()


def test_the_owner_of_a_state_can_make_them_without_root(bench, tmp_path):
    open_to_others(tmp_path)
    (bench.state / "file").write_text("x")
    for path in (bench.base, bench.state, bench.state / "file", bench.snapshots):
        os.chown(path, 20001, 20001)
    # The user below cannot read this interpreter's library: all of it must be imported by now.
    apply_snapshot(bench.request(kind="full"))
    plan_snapshot(bench.request())
    for path in [*bench.snapshots.iterdir(), bench.index, bench.index.parent]:
        path.unlink() if not path.is_dir() else path.rmdir()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(20001, 20001, 20001)
            os.setresuid(20001, 20001, 20001)
            for _ in range(2):
                apply_snapshot(bench.request(owner=20001, index=bench.base / "index"))
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    records = sorted(list_snapshots(bench.snapshots), key=lambda record: record.started)
    assert [record.kind for record in records] == ["full", "inc"]
    assert bench.restored(*records) == on_disk(bench.state)


def test_what_is_committed_before_the_start_is_in_it_while_others_write(bench):
    database = bench.state / "main.sqlite"
    program = f"""
import os, sqlite3, sys
c = sqlite3.connect({str(database)!r}, isolation_level=None)
c.execute("PRAGMA journal_mode=WAL")
c.execute("PRAGMA wal_autocheckpoint=20")
c.execute("CREATE TABLE t(n INTEGER PRIMARY KEY, filler)")
n = 0
while True:
    n += 1
    c.execute("INSERT INTO t VALUES(?, ?)", (n, os.urandom(1500)))
    print(n, flush=True)
"""
    writer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    records = []
    try:
        for _ in range(6):
            committed = int(writer.stdout.readline())
            records.append(apply_snapshot(bench.request()).record)
            # The pipe is full of older numbers; none of them may be missing.
            copy = bench.base / "copy.sqlite"
            copy.write_bytes(bench.restored(*records)[b"main.sqlite"][3])
            with closing(sqlite3.connect(copy)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                count, last = connection.execute("SELECT count(*), max(n) FROM t").fetchone()
            assert count == last >= committed
    finally:
        writer.kill()
        writer.communicate()
