from __future__ import annotations

import os
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clawfactory_core.snapshots.index import (
    IndexEntry,
    IndexHeader,
    IndexReader,
    IndexWriter,
    UnusableIndex,
    body_digest,
    open_index,
    write_header,
)

NS = st.integers(-(2**63), 2**63 - 1)
BIG = st.integers(0, 2**64 - 1)
PATH = st.binary(min_size=1, max_size=300).filter(lambda path: 0 not in path)
ENTRY = st.builds(
    IndexEntry,
    path=PATH,
    kind=st.just("f"),
    mode=st.integers(0, 0o7777),
    size=BIG,
    file_size=BIG,
    mtime_ns=NS,
    ctime_ns=NS,
    inode=BIG,
    digest=st.binary(min_size=16, max_size=16),
    database=st.booleans(),
    log=st.tuples(BIG, NS),
    blocks=st.just(0),
) | st.builds(
    IndexEntry,
    path=PATH,
    kind=st.sampled_from(["l", "d"]),
    mode=st.just(0o777),
    size=st.just(0),
    file_size=st.just(0),
    mtime_ns=NS,
    ctime_ns=NS,
    inode=BIG,
    target=st.just(b""),
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "index"


def finish(path, descriptor: int, bot: str = "bot1") -> IndexHeader:
    header = IndexHeader(bot, "a--1", "full", 7, "0" * 64, 5, "ab" * 64, body_digest(descriptor))
    write_header(descriptor, header)
    os.close(descriptor)
    return header


def created(path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.lists(st.tuples(ENTRY, st.integers(0, 3000)), max_size=8))
def test_entries_and_their_blocks_come_back_in_order(path, entries):
    descriptor = created(path)
    writer = IndexWriter(descriptor)
    for entry, blocks in entries:
        if entry.kind == "l":
            entry.target = b"to \xff"
        if entry.kind == "f" and blocks:
            writer.begin(entry)
            # First too many, then some of them again: as for a file that changes while it is read.
            writer.write_blocks(0, b"x" * 16 * (blocks + 5))
            writer.write_blocks(0, b"y" * 16 * blocks)
            assert writer.read_blocks(blocks - 1, 3) == b"y" * 16 + b"x" * 32
            entry.blocks = blocks
            writer.end(entry)
        else:
            writer.add(entry)
    writer.finish()
    header = finish(path, descriptor)
    descriptor, found = open_index(path, "bot1")
    assert found == header
    reader = IndexReader(descriptor)
    read = list(reader)
    for (entry, _), back in zip(entries, read, strict=True):
        assert reader.blocks(back, 0, 10**6) == b"y" * 16 * entry.blocks
        assert reader.blocks(back, entry.blocks, 1) == b""
        back.offset = 0
        assert back == entry
    os.close(descriptor)


def test_a_missing_index_and_one_that_is_no_file_are_told(path):
    with pytest.raises(UnusableIndex, match="there is no index yet"):
        open_index(path, "bot1")
    os.mkfifo(path)
    with pytest.raises(UnusableIndex, match="not a regular file"):
        open_index(path, "bot1")
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(UnusableIndex, match="the index: "):
        open_index(path, "bot1")


def test_every_flipped_byte_is_noticed(path):
    descriptor = created(path)
    writer = IndexWriter(descriptor)
    writer.add(IndexEntry(b"a", "f", 0o600, 1, 1, 2, 3, 4))
    writer.finish()
    finish(path, descriptor)
    data = path.read_bytes()
    header = data[:4096].rstrip()
    for at in [*range(0, len(header), 7), *range(4096, len(data))]:
        broken = bytearray(data)
        broken[at] ^= 0x04
        path.write_bytes(broken)
        try:
            descriptor, found = open_index(path, "bot1")
        except UnusableIndex:
            continue
        # What the header says of the archive is compared with the archive.
        os.close(descriptor)
        assert at < len(header) and found.body_sha256 == body_digest_of(data)


def body_digest_of(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data[4096:]).hexdigest()


def test_another_bots_index_is_refused(path):
    descriptor = created(path)
    IndexWriter(descriptor).finish()
    finish(path, descriptor, bot="bot2")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(UnusableIndex, match="of another bot, 'bot2'"):
        open_index(path, "bot1")
