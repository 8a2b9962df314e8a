"""Each case is made by the user that owns the state, most of them while the snapshot runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clawfactory_core.errors import CoreError
from clawfactory_core.snapshots import pipeline, sources
from clawfactory_core.snapshots.create import Limits, apply_snapshot
from tests.support.open_directories import open_to_others
from tests.support.snapshot_states import Bench, on_disk

BOT = 20001
SECRET = b"of somebody else"
ROUNDS = 12


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (outside / "secret").write_bytes(SECRET)
    # What a link from inside would reach, were it followed and not for the lock into the state.
    open_to_others(tmp_path)
    os.chown(bench.state, BOT, BOT)
    return bench


@pytest.fixture(params=["locked in", "not locked in"])
def confinement(request, monkeypatch):
    """Not every container lets root change its root directory; descriptors alone must be enough."""
    if request.param == "not locked in":

        def refuse(path):
            raise PermissionError(path)

        monkeypatch.setattr(os, "chroot", refuse)


def as_bot(task: Callable[[], None]) -> int:
    """Start ``task`` as the bot; it ends by itself or is killed."""
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setresgid(BOT, BOT, BOT)
            os.setresuid(BOT, BOT, BOT)
            task()
            status = 0
        os._exit(status)
    return child


def do(task: Callable[[], None]) -> None:
    """Run ``task`` as the bot to its end."""
    assert os.waitpid(as_bot(task), 0)[1] == 0


@contextlib.contextmanager
def meanwhile(*steps: Callable[[], None]) -> Iterator[None]:
    """Repeat steps as the bot, without a pause."""

    def repeat() -> None:
        while True:
            for step in steps:
                with contextlib.suppress(OSError):
                    step()

    child = as_bot(repeat)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


def write(path: Path, data: bytes = b"mine") -> Callable[[], None]:
    return lambda: path.write_bytes(data) and None


def swaps(path: Path, *makers: Callable[[Path], None]) -> list[Callable[[], None]]:
    """Put each of several things at ``path`` in turn, by rename."""

    def put(maker: Callable[[Path], None]) -> Callable[[], None]:
        fresh = path.with_name(f"{path.name}.tmp")

        def step() -> None:
            maker(fresh)
            try:
                os.rename(fresh, path)
            except OSError:
                # A directory is in the way, or is what comes.
                os.rename(path, path.with_name(f"aside-{os.urandom(6).hex()}.tmp"))
                os.rename(fresh, path)

        return step

    return [put(maker) for maker in makers]


def test_a_file_that_becomes_a_link_again_and_again_is_never_followed(bench, confinement):
    targets = [bench.state / f"file{number}" for number in range(3)]
    secret = bench.base / "outside" / "secret"
    steps = [
        step
        for target in targets
        for step in swaps(target, lambda path: path.write_bytes(b"mine"), lambda path: path.symlink_to(secret))
    ]
    with meanwhile(*steps):
        for _ in range(ROUNDS):
            result = apply_snapshot(bench.request(kind="full"))
            tree = bench.restored(result.record)
            for path, (kind, _, _, content) in tree.items():
                assert (kind, content) in [("f", b"mine"), ("f", b""), ("l", os.fsencode(secret))], path


def test_a_directory_that_becomes_a_link_again_and_again_is_never_followed(bench, confinement):
    outside = bench.base / "outside"

    def directory(path: Path) -> None:
        path.mkdir()
        (path / "own").write_bytes(b"mine")

    with meanwhile(*swaps(bench.state / "dir", directory, lambda path: path.symlink_to(outside))):
        for _ in range(ROUNDS):
            tree = bench.restored(apply_snapshot(bench.request(kind="full")).record)
            assert b"dir/secret" not in tree
            assert SECRET not in [node[3] for node in tree.values()]


def test_a_file_that_becomes_a_fifo_a_socket_or_a_directory_does_not_block(bench, confinement):
    def listening(path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))

    steps = swaps(bench.state / "odd", lambda path: path.write_bytes(b"mine"), os.mkfifo, listening, os.mkdir)
    with meanwhile(*steps):
        for _ in range(ROUNDS):
            tree = bench.restored(apply_snapshot(bench.request(kind="full")).record)
            assert tree.get(b"odd", ("d",))[0] in "fd"


def test_a_chain_over_a_restless_state_is_sound(bench):
    """Incremental ones too: what they say of the whole state is what a reader gets."""
    large = bench.state / "large"

    def shrink_and_grow() -> None:
        with open(large, "ab") as file:
            file.write(os.urandom(300_000))
        if large.stat().st_size > 3 << 20:
            os.truncate(large, 270_000)

    steps = swaps(bench.state / "x", lambda path: path.write_bytes(os.urandom(9)), os.mkdir)
    records = []
    with meanwhile(*steps, shrink_and_grow):
        for _ in range(6):
            records.append(apply_snapshot(bench.request()).record)
            assert bench.restored(*records)
    records.append(apply_snapshot(bench.request()).record)
    left = tuple(path for path in on_disk(bench.state) if b".tmp" in path)
    assert bench.restored(*records) == on_disk(bench.state, without=left)


def test_special_files_are_left_out_and_listed(bench):
    def make() -> None:
        os.mkfifo(bench.state / "fifo")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(bench.state / "socket"))
        (bench.state / ".clawfactory").mkdir()
        (bench.state / ".clawfactory" / "snapshot.json").write_text("{}")
        (bench.state / "kept").write_text("x")
        os.mkfifo(bench.state / "main.sqlite-wal")

    do(make)
    os.mknod(bench.state / "device", 0o600 | 0o020000, os.makedev(1, 5))
    os.chown(bench.state / "device", BOT, BOT)
    result = apply_snapshot(bench.request())
    assert {item["path"]: item["reason"] for item in result.left_out} == {
        ".clawfactory": "reserved name",
        "device": "device",
        "fifo": "FIFO",
        "main.sqlite-wal": "FIFO",
        "socket": "socket",
    }
    assert list(bench.restored(result.record)) == [b"kept"]


def test_files_of_others_come_only_without_other_names(bench):
    os.link(bench.base / "outside" / "secret", bench.state / "hardlink")
    (bench.state / "given").write_bytes(b"by root")
    (bench.state / "mounted").touch()
    do(write(bench.state / "own"))
    do(lambda: os.link(bench.state / "own", bench.state / "own too"))
    (bench.base / "outside" / "secret").chmod(0o644)
    result = apply_snapshot(bench.request())
    assert {item["path"]: item["reason"] for item in result.left_out} == {
        "hardlink": "hard link to a file of another user",
        "mounted": "mount point of an approved file",
    }
    assert {path: node[3] for path, node in bench.restored(result.record).items()} == {
        b"given": b"by root",
        b"own": b"mine",
        b"own too": b"mine",
    }


def test_another_file_system_is_left_out(bench):
    mount = bench.state / "mount"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", mount], check=True)
    try:
        (mount / "inside").write_text("x")
        result = apply_snapshot(bench.request())
    finally:
        subprocess.run(["umount", mount], check=True)
    assert result.left_out == [{"path": "mount", "reason": "another file system"}]


def test_a_terabyte_of_nothing_is_left_out(bench):
    do(lambda: os.truncate(os.open(bench.state / "sparse", os.O_CREAT | os.O_WRONLY), 1 << 40))
    do(write(bench.state / "kept"))
    result = apply_snapshot(bench.request())
    assert result.left_out == [{"path": "sparse", "reason": "larger than max_file_bytes"}]
    assert list(bench.restored(result.record)) == [b"kept"]


def test_limits_end_what_is_stored_and_say_so(bench):
    def make() -> None:
        deep = bench.state
        for _ in range(70):
            deep = deep / "d"
            deep.mkdir()
        for name in ("a", "b", "c"):
            (bench.state / name).write_bytes(bytes(1000))

    do(make)
    result = apply_snapshot(bench.request())
    assert result.left_out == [{"path": "/".join("d" * 64), "reason": "deeper than max_depth"}]
    result = apply_snapshot(bench.request(limits=Limits(max_bytes=2500), kind="full"))
    assert {"path": "c", "reason": "beyond max_bytes"} in result.left_out
    assert result.record.bytes == 2000
    result = apply_snapshot(bench.request(limits=Limits(max_entries=10), kind="full"))
    assert result.record.count == 10
    assert result.left_out_count == {"beyond max_entries": 1}
    result = apply_snapshot(bench.request(limits=Limits(max_file_bytes=999), kind="full"))
    assert result.left_out_count["larger than max_file_bytes"] == 3


def test_the_list_of_what_was_left_out_is_bounded_and_the_important_comes_first(bench):
    def make() -> None:
        (bench.state / "z").mkdir()
        for number in range(1500):
            (bench.state / f"{number}.tmp").touch()
        (bench.state / "z" / "deep").mkdir()

    do(make)
    result = apply_snapshot(bench.request(limits=Limits(max_depth=2)))
    assert len(result.left_out) == 1000
    assert result.left_out[0] == {"path": "z/deep", "reason": "deeper than max_depth"}
    assert result.left_out_count["temporary file"] == 1500
    assert result.record.left_out == 1501


def test_a_database_that_is_held_locked_is_a_plain_file(bench, monkeypatch):
    monkeypatch.setattr(sources, "_PATIENCE", 0.05)
    database = bench.state / "held.sqlite"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE t(x)")
    os.chown(database, BOT, BOT)
    ready, told = os.pipe()

    def hold() -> None:
        with database.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            os.write(told, b"x")
            signal.pause()

    child = as_bot(hold)
    try:
        os.read(ready, 1)
        result = apply_snapshot(bench.request())
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert "held.sqlite is stored as a plain file" in result.warnings[-1]
    assert bench.restored(result.record) == on_disk(bench.state)


def test_what_only_looks_like_databases_ends_in_plain_files(bench, monkeypatch):
    monkeypatch.setattr(sources, "MAX_DATABASES", 5)
    head = b"SQLite format 3\0"

    def make() -> None:
        for number in range(8):
            (bench.state / f"{number}.sqlite").write_bytes(head + bytes([2, 0, 2, 2]) + os.urandom(3000))
            (bench.state / f"{number}.sqlite-wal").write_bytes(bytes.fromhex("377f0682") + os.urandom(5000))

    do(make)
    result = apply_snapshot(bench.request())
    # What nothing could tell from a database is read as one, its log as far as SQLite would follow it.
    logs = tuple(f"{number}.sqlite-wal".encode() for number in range(5))
    assert bench.restored(result.record) == on_disk(bench.state, without=logs)
    assert bench.archive(result.record).manifest["changed"] == ["5.sqlite", "6.sqlite", "7.sqlite"]
    assert "more than 5 databases" in result.warnings[-1]


def test_the_reading_process_is_the_owner_of_the_state(bench, monkeypatch):
    seen = bench.base / "seen"
    seen.touch()
    os.chown(seen, BOT, BOT)
    file = os.open(seen, os.O_WRONLY)
    look = pipeline._first_look

    def tell(*args):
        os.write(file, f"{os.getresuid()} {os.getresgid()} {os.getgroups()} {os.listdir('/')}".encode())
        return look(*args)

    monkeypatch.setattr(pipeline, "_first_look", tell)
    do(write(bench.state / "file"))
    apply_snapshot(bench.request())
    os.close(file)
    assert seen.read_text() == f"{(BOT,) * 3} {(BOT,) * 3} [] ['file']"


def test_a_state_that_cannot_be_listed_is_an_error(bench):
    bench.state.chmod(0)
    with pytest.raises(CoreError, match="Permission denied"):
        apply_snapshot(bench.request())
    assert list(bench.snapshots.glob("*.age")) == []


def test_long_names_do_not_make_the_list_of_what_was_left_out_long(bench):
    deep = bench.state.joinpath(*["d" * 250] * 14)

    def make() -> None:
        deep.mkdir(parents=True)
        for number in range(900):
            (deep / f"{number}.tmp").touch()

    do(make)
    result = apply_snapshot(bench.request())
    assert result.left_out_count == {"temporary file": 900}
    assert 100 < len(result.left_out) < 900
    assert bench.restored(result.record)
