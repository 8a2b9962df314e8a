from __future__ import annotations

import os
import socket
import struct
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clawfactory_core.errors import CoreError, InvalidInput
from clawfactory_core.snapshots import wal as log_format
from clawfactory_core.snapshots.database_files import CHECKPOINT, DEAD_MAN_SWITCH, PENDING, SHARED, WRITE, Locks
from clawfactory_core.snapshots.databases import DatabaseBusy, DatabaseUnreadable, LiveDatabase, is_database
from clawfactory_core.snapshots.wal_checksum import checksum
from tests.support.live_databases import checkpointed, content, copy_files, fill, opened
from tests.support.sqlite_process import SqliteProcess

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> tuple[Files, bytes]:
    """The files of a database that is in use, and its content."""
    directory = tmp_path_factory.mktemp("sound")
    path = directory / "main.sqlite"
    with SqliteProcess(path, "pragma journal_mode=wal", "create table t(a)", fill(5)) as other:
        other.sql("pragma wal_checkpoint")
        for _ in range(3):
            other.sql(fill(2))
        copy = copy_files(path, directory / "files")
        return {file.name: file.read_bytes() for file in copy.parent.iterdir()}, checkpointed(path, directory / "copy")


@pytest.fixture
def path(tmp_path, sound) -> Path:
    write(tmp_path, sound[0])
    return tmp_path / "main.sqlite"


def write(directory: Path, files: Files) -> None:
    for name, data in files.items():
        (directory / name).write_bytes(data)


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


@contextmanager
def locked(path: Path, *exclusive: int, shared: int = DEAD_MAN_SWITCH):
    """As if others had the file open; a description of its own conflicts even within a process."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        locks = Locks(descriptor)
        assert shared in exclusive or locks.shared(shared)
        assert all(locks.exclusive(byte) for byte in exclusive)
        yield
    finally:
        os.close(descriptor)


def index(data: bytes, **fields: object) -> bytes:
    """A wal-index with other fields in its header, and right checksums."""
    found = log_format.parse_index(data)
    assert found is not None
    values = {"version": 3007000, "ready": 1, "size": 4096, "frames": found.frames, "pages": found.pages}
    values |= {"salts": found.salts, **fields}
    head = struct.pack(
        "=IIIBBHII8s8s",
        *(values["version"], 0, 1, values["ready"], 0, values["size"], values["frames"], values["pages"]),
        *(bytes(8), values["salts"]),
    )
    head += struct.pack("=II", *checksum(head, little=sys.byteorder == "little"))
    return head + head + data[96:]


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


def make_link(path: Path) -> None:
    target = path.with_name("target")
    target.write_bytes(bytes(32768))
    path.symlink_to(target)


def make_device(path: Path) -> None:
    os.mknod(path, 0o20600, os.makedev(1, 5))


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


ODD = [make_fifo, make_socket, make_link, make_loop, make_device, Path.mkdir]


@pytest.mark.parametrize("make", ODD)
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_only_plain_files_are_opened(path, suffix, make):
    if suffix == "-journal":
        beside(path, "-wal").unlink()
        beside(path, "-shm").unlink()
    beside(path, suffix).unlink(missing_ok=True)
    make(beside(path, suffix))
    with pytest.raises(DatabaseUnreadable, match="plain file"), opened(path):
        pass


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", "a\0b"])
def test_only_plain_names_are_taken(tmp_path, name):
    directory = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(InvalidInput, match="not a file name"):
        LiveDatabase.open(directory, name)
    os.close(directory)


def test_a_database_that_is_gone(path):
    path.unlink()
    with pytest.raises(DatabaseUnreadable, match="is gone"), opened(path):
        pass


@pytest.mark.parametrize(
    ("offset", "data"),
    [(0, b"SQLite format 4"), (16, b"\x00\x00"), (16, b"\x00\x02"), (16, b"\x10\x01"), (19, b"\x03"), (19, b"\x00")],
)
def test_a_header_that_is_none(path, offset, data):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    with pytest.raises(DatabaseUnreadable, match="does not begin"), opened(path):
        pass


@pytest.mark.parametrize("size", [0, 16, 99])
def test_a_database_that_ends_in_its_header(path, size):
    os.truncate(path, size)
    with pytest.raises(DatabaseUnreadable, match="does not begin"), opened(path):
        pass


def test_a_database_that_is_mostly_a_hole(path):
    os.truncate(path, 2 << 40)
    beside(path, "-wal").unlink()
    with pytest.raises(DatabaseUnreadable, match="more than the limit"), opened(path):
        pass


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"frames": 0xFFFFFFFF}, "frames"),
        ({"frames": 13}, "frames"),
        ({"pages": 0xFFFFFFFF}, "claims"),
        ({"pages": 1000}, "claims"),
        ({"pages": 0}, "another log"),
        ({"frames": 0, "pages": 1000}, "claims"),
        ({"size": 512}, "pages of 4096"),
        ({"size": 1}, "pages of 4096"),
        ({"salts": bytes(8)}, "another log"),
    ],
)
def test_an_index_in_use_that_does_not_fit(path, fields, problem):
    shm = beside(path, "-shm")
    shm.write_bytes(index(shm.read_bytes(), **fields))
    with locked(shm), pytest.raises(DatabaseUnreadable, match=problem), opened(path):
        pass


def test_an_index_in_use_and_nothing_wrong(path, sound):
    shm = beside(path, "-shm")
    shm.write_bytes(index(shm.read_bytes()))
    with locked(shm), opened(path) as database:
        assert content(database) == sound[1]


@pytest.mark.parametrize("frame", [1, 2, 12])
@pytest.mark.parametrize(("offset", "length"), [(0, 4), (8, 1)], ids=["page", "salt"])
def test_a_frame_that_does_not_belong_to_the_log_in_use(path, frame, offset, length):
    with beside(path, "-wal").open("r+b") as file:
        start = 32 + (frame - 1) * 4120 + offset
        file.seek(start)
        # A page number becomes 0, which none is; a salt is random, so any other will do.
        other = bytes(4) if length == 4 else bytes([file.read(1)[0] ^ 1])
        file.seek(start)
        file.write(other)
    with locked(beside(path, "-shm")), pytest.raises(DatabaseUnreadable, match=f"frame {frame} "), opened(path):
        pass


def test_an_index_in_use_without_its_log(path):
    beside(path, "-wal").unlink()
    with locked(beside(path, "-shm")), pytest.raises(DatabaseUnreadable, match="no log"), opened(path):
        pass


@pytest.mark.parametrize("broken", [b"", bytes(50), bytes(32768)], ids=["empty", "short", "zeros"])
def test_an_index_in_use_that_stays_invalid_is_done_without(path, sound, broken):
    shm = beside(path, "-shm")
    shm.write_bytes(broken)
    with locked(shm), opened(path) as database:
        assert content(database) == sound[1]
    with locked(shm, WRITE), pytest.raises(DatabaseBusy), opened(path, patience=0.3):
        pass


def test_an_index_whose_header_is_half_written_does_not_count(path):
    shm = beside(path, "-shm")
    old = shm.read_bytes()
    shm.write_bytes(old[:48] + index(old, frames=10)[48:])
    with locked(shm, WRITE), pytest.raises(DatabaseBusy), opened(path, patience=0.05):
        pass


@pytest.mark.parametrize("byte", [CHECKPOINT, DEAD_MAN_SWITCH])
def test_locks_that_are_never_given_up(path, byte):
    with locked(beside(path, "-shm"), byte), pytest.raises(DatabaseBusy), opened(path, patience=0.05):
        pass
    for byte in (SHARED, PENDING):
        with locked(path, byte, shared=byte), pytest.raises(DatabaseBusy), opened(path, patience=0.05):
            pass


def test_a_log_of_another_version_and_one_with_other_pages(path):
    file = beside(path, "-wal")
    data = bytearray(file.read_bytes())

    def sign() -> None:
        data[24:32] = struct.pack(">II", *checksum(data[:24], little=data[3] == 0x82))
        file.write_bytes(data)

    data[7] += 1
    sign()
    with pytest.raises(DatabaseUnreadable, match="version 300700"), opened(path):
        pass
    data[7] -= 1
    sums = checksum(data[:8] + struct.pack(">I", 512) + data[12:24], little=True)
    data[8:12] = struct.pack(">I", 512)
    sign()
    frame = struct.pack(">II", 1, 1)
    sums = checksum(bytes(512), *checksum(frame, *sums, little=True), little=True)
    data[32:568] = frame + data[16:24] + struct.pack(">II", *sums) + bytes(512)
    file.write_bytes(data)
    with pytest.raises(DatabaseUnreadable, match="its log 512"), opened(path):
        pass


def test_a_log_and_a_hot_journal(path):
    beside(path, "-journal").write_bytes(bytes.fromhex("d9d505f920a163d7") + bytes(504))
    with pytest.raises(DatabaseUnreadable, match="a log and a journal"), opened(path):
        pass


def test_more_frames_than_there_is_room_for(path, monkeypatch):
    monkeypatch.setattr(log_format, "MAX_FRAMES", 3)
    with pytest.raises(DatabaseUnreadable, match="too long"), opened(path):
        pass
    with locked(beside(path, "-shm")), pytest.raises(DatabaseUnreadable, match="limit"), opened(path):
        pass


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_files_cut_while_they_are_read(path, suffix):
    with opened(path) as database:
        os.truncate(beside(path, suffix), 10)
        assert database.changed()
        if suffix:
            with pytest.raises(DatabaseUnreadable, match="shrank"):
                content(database)
        else:
            assert len(content(database)) == database.size


def test_a_log_that_started_anew_in_spite_of_the_locks(path):
    with opened(path) as database:
        with beside(path, "-wal").open("r+b") as file:
            file.seek(16)
            file.write(b"new salt")
        assert database.changed()


def test_what_a_database_is():
    assert is_database(b"SQLite format 3\0" + bytes(100))
    assert not is_database(b"SQLite format 3")
    assert not is_database(b"")


SPOTS = st.one_of(st.integers(0, 150), st.integers(0, 60_000))
EDITS = st.lists(st.tuples(st.sampled_from(["", "-wal", "-shm"]), SPOTS, st.binary(min_size=1, max_size=8)), max_size=4)
CUTS = st.dictionaries(st.sampled_from(["", "-wal", "-shm"]), st.integers(0, 60_000), max_size=2)
WORDS = st.one_of(st.integers(0, 20), st.integers(0, 0xFFFFFFFF))


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EDITS, CUTS, st.none() | st.fixed_dictionaries({}, optional={"frames": WORDS, "pages": WORDS}), st.booleans())
def test_any_bytes_are_read_or_refused(tmp_path, sound, edits, cuts, fields, in_use):
    files = {name: bytearray(data) for name, data in sound[0].items()}
    if fields is not None:
        files["main.sqlite-shm"] = bytearray(index(bytes(files["main.sqlite-shm"]), **fields))
    for suffix, spot, data in edits:
        files["main.sqlite" + suffix][spot : spot + len(data)] = data
    for suffix, size in cuts.items():
        del files["main.sqlite" + suffix][size:]
    write(tmp_path, {name: bytes(data) for name, data in files.items()})
    path = tmp_path / "main.sqlite"
    with ExitStack() as stack:
        if in_use:
            stack.enter_context(locked(beside(path, "-shm")))
        try:
            database = stack.enter_context(opened(path, patience=0.2))
            assert database.size <= sum(len(data) for data in files.values()) + 65536
            assert len(content(database)) == database.size
            database.changed()
        except CoreError:
            pass
