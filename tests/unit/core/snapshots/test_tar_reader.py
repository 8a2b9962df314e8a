from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawfactory_core.snapshots.tar_reader import (
    PIECE,
    BadArchive,
    EndsEarly,
    ReadLimits,
    TarReader,
    byte_sum,
    check_path,
)
from tests.unit.core.snapshots.archive_maker import Directory, File, Link, header, member, pad, pax, record

END = bytes(1024)


def read(data: bytes, limits: ReadLimits | None = None, most: int = 1 << 30) -> list[tuple[object, ...]]:
    reader = TarReader(io.BytesIO(data), limits or ReadLimits(), most)
    return [
        (one.path, one.kind, one.mode, one.mtime_ns, one.target, b"".join(reader.pieces())) for one in reader.members()
    ]


def test_what_a_writer_writes_is_read():
    items = {
        b"d": Directory(0o2755, 1_700_000_000 * 10**9),
        b"d/f": File(b"text" * 1000, 0o4600, -1),
        b"d/" + b"n" * 200: Link(b"t" * 300, mtime_ns=123),
        b"\xff\n": File(b""),
    }
    data = b"".join(member(path, item) for path, item in items.items()) + END
    assert read(data) == [
        (
            path,
            item.kind,
            item.mode,
            item.mtime_ns,
            item.target if isinstance(item, Link) else b"",
            item.data if isinstance(item, File) else b"",
        )
        for path, item in items.items()
    ]


def test_tars_of_python_are_read():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, size in (("short", 10), ("a/" + "long" * 50, PIECE + 5)):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = size, 1.5
            tar.addfile(info, io.BytesIO(b"x" * size))
    found = read(buffer.getvalue())
    assert [(one[0], one[3], len(one[5])) for one in found] == [
        (b"short", 1_500_000_000, 10),
        (b"a/" + b"long" * 50, 1_500_000_000, PIECE + 5),
    ]


def test_a_prefix_is_the_start_of_the_path():
    assert read(header(b"name", prefix=b"some/where") + END)[0][0] == b"some/where/name"


def test_a_size_beyond_octal():
    data = pax(record(b"size", b"4")) + header(b"x", size_field=b"%011o\0" % 0) + pad(b"data") + END
    assert read(data)[0][5] == b"data"


def test_what_is_not_read_is_skipped():
    data = member(b"a", File(b"x" * 5000)) + member(b"b", File(b"y")) + END
    reader = TarReader(io.BytesIO(data), ReadLimits(), 1 << 20)
    assert [one.path for one in reader.members()] == [b"a", b"b"]
    assert reader.position == len(data)


def test_a_document_has_a_limit():
    reader = TarReader(io.BytesIO(member(b"a", File(b"x" * 11)) + END), ReadLimits(), 1 << 20)
    next(reader.members())
    with pytest.raises(BadArchive, match="its letter has 11 bytes, more than 10"):
        reader.document("letter", 10)


def test_more_than_the_stream_may_have():
    with pytest.raises(BadArchive, match="unpacks to more than 4096 bytes"):
        read(member(b"a", File(b"x" * 5000)) + END, most=4096)


def test_more_members_than_a_state_can_have():
    data = member(b"a", File()) * 30 + END
    with pytest.raises(BadArchive, match="max_entries is 3"):
        read(data, ReadLimits(max_entries=3))


@given(cut=st.integers(0, 5119))
def test_a_tar_that_is_cut_anywhere_ends_early(cut):
    data = member(b"a" * 150, File(b"x" * 600)) + member(b"b", Link()) + END
    assert len(data) == 5120
    with pytest.raises(EndsEarly):
        read(data[:cut])


@given(junk=st.binary(min_size=512, max_size=2048))
def test_junk_is_refused(junk):
    if junk[:512] != bytes(512):
        with pytest.raises(BadArchive):
            read(junk)


@pytest.mark.parametrize("path", [b"a", b"a/b", b"...", b"a\\b", b"\xff", b" ", b"-rf", b"x" * 255])
def test_good_paths(path):
    check_path(path, ReadLimits())


@pytest.mark.parametrize(
    "path", [b"", b"/", b"/a", b"a/", b"a//b", b".", b"..", b"a/../b", b"./a", b"a/.", b"a\0b", b"x" * 256]
)
def test_bad_paths(path):
    with pytest.raises(BadArchive):
        check_path(path, ReadLimits())


@pytest.mark.parametrize(("path", "why"), [(b"a/b/c", "max_depth 2"), (b"a" * 513, "more than 512")])
def test_paths_too_deep_or_too_long(path, why):
    with pytest.raises(BadArchive, match=why):
        check_path(path, ReadLimits(max_depth=2))


@given(block=st.one_of(st.binary(min_size=512, max_size=512), st.sampled_from([bytes(512), b"\xff" * 512])))
def test_the_sum_of_a_header(block):
    assert byte_sum(block) == sum(block)
