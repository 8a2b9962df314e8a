from __future__ import annotations

import io
import subprocess
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawfactory_core.snapshots.tar_writer import TarWriter, seconds_text


def written(fill, uid: int = 20001, gid: int = 20001) -> bytes:
    sink = io.BytesIO()
    tar = TarWriter(sink, uid, gid)
    fill(tar)
    tar.finish()
    assert tar.size == len(sink.getvalue())
    return sink.getvalue()


def members(data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as tar:
        return tar.getmembers()


NAMES = st.lists(
    st.binary(min_size=1, max_size=255).filter(lambda name: not set(name) & {0, 47} and name not in (b".", b"..")),
    min_size=1,
    max_size=5,
).map(b"/".join)


@settings(deadline=None)
@given(NAMES, st.integers(0, 0o7777), st.integers(-(2**62), 2**62), st.binary(max_size=2000))
def test_what_is_written_is_what_tarfile_reads(path, mode, mtime, content):
    data = written(lambda tar: tar.file(path, mode, mtime, content))
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as tar:
        (member,) = tar.getmembers()
        assert tar.extractfile(member).read() == content
    assert (member.name.encode("utf-8", "surrogateescape"), member.mode) == (path, mode)
    assert (member.uid, member.gid) == (20001, 20001)
    exact = member.pax_headers.get("mtime")
    assert exact == seconds_text(mtime) if mtime % 10**9 or not 0 <= mtime < 2**33 * 10**9 else exact is None
    assert len(data) % 512 == 0 and data.endswith(bytes(1024))


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=300).filter(lambda target: 0 not in target))
def test_links_keep_their_target(target):
    (member,) = members(written(lambda tar: tar.link(b"l", 0o777, 0, target)))
    assert (member.type, member.linkname.encode("utf-8", "surrogateescape")) == (tarfile.SYMTYPE, target)


def test_plain_entries_have_no_pax_header_and_directories_no_slash():
    data = written(lambda tar: tar.directory(b"dir", 0o750, 10**9))
    assert data[:4] == b"dir\0"
    assert data[156:157] == b"5" and data[257:265] == b"ustar\x0000"


def test_a_name_that_is_not_utf8_says_so_before_it():
    (member,) = members(written(lambda tar: tar.file(b"\xff" * 101, 0o600, 0, b"")))
    assert list(member.pax_headers) == ["hdrcharset", "path"]


def test_numbers_that_do_not_fit_are_pax_records():
    sink = io.BytesIO()
    tar = TarWriter(sink, 2_097_152, 3_000_000)
    tar.begin(b"huge", 0o600, 2**33 * 10**9, 2**33)
    tar._flush()
    header = sink.getvalue()[512:1024].rstrip(b"\0").splitlines()
    assert [line.split(b" ", 1)[1] for line in header] == [
        b"uid=2097152",
        b"gid=3000000",
        b"mtime=8589934592.000000000",
        b"size=8589934592",
    ]
    assert all(len(line) + 1 == int(line.split(b" ")[0]) for line in header)


@pytest.mark.parametrize("length", [101, 995, 989, 990, 991, 992])
def test_the_length_of_a_record_counts_its_own_digits(length):
    (member,) = members(written(lambda tar: tar.file(b"x" * length, 0o600, 0, b"")))
    assert len(member.name) == length


def test_a_member_that_got_too_little_is_filled_and_one_cannot_get_too_much():
    def fill(tar: TarWriter) -> None:
        tar.begin(b"short", 0o600, 0, 200_000)
        tar.write(b"abc")
        tar.end()
        tar.file(b"next", 0o600, 0, b"x")
        tar.begin(b"full", 0o600, 0, 1)
        with pytest.raises(ValueError, match="2 bytes for a member that has 1 left"):
            tar.write(b"xy")
        tar.end()

    data = written(fill)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.extractfile("short").read() == b"abc" + bytes(199_997)
        assert tar.extractfile("next").read() == b"x"
        assert tar.extractfile("full").read() == b"\0"


def test_gnu_tar_reads_it_without_a_word(tmp_path):
    def fill(tar: TarWriter) -> None:
        tar.directory(b"d", 0o700, 1_234_567_890_123_456_789)
        tar.file(b"d/" + "ü".encode() * 120, 0o640, 1_500_000_000, b"content")
        tar.link(b"d/l", 0o777, 5, b"t" * 150)

    (tmp_path / "x.tar").write_bytes(written(fill, 0, 0))
    done = subprocess.run(["tar", "-xpf", "x.tar"], cwd=tmp_path, capture_output=True, check=True, text=True)
    assert done.stderr == ""
    file = tmp_path / "d" / ("ü" * 120)
    assert (file.read_bytes(), file.stat().st_mtime_ns) == (b"content", 1_500_000_000)
    assert (tmp_path / "d").stat().st_mtime_ns == 1_234_567_890_123_456_789
