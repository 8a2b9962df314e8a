from __future__ import annotations

import json

import pytest

from clawfactory_core.snapshots.archive import Entry, Patch, parse_changes, parse_header, parse_manifest, parse_ranges
from clawfactory_core.snapshots.tar_reader import BadArchive, ReadLimits
from tests.unit.core.snapshots.archive_maker import KEY, File, Link, Maker, manifest, patch_line

LIMITS = ReadLimits()


def test_a_header(tmp_path):
    raw = Maker(tmp_path).full({}).header
    header = parse_header(json.dumps(raw).encode())
    assert (header.id, header.kind, header.bot, header.parent) == (raw["id"], "full", "bot1", "")
    assert header.digest_key == KEY
    assert KEY.hex() not in repr(header) and repr(KEY) not in repr(header)


def test_keys_that_a_later_minor_change_adds_are_ignored(tmp_path):
    raw = {**Maker(tmp_path).full({}).header, "mood": "good"}
    assert parse_header(json.dumps(raw).encode()).kind == "full"


def test_changes():
    file = File(b"x" * 300_000, 0o4640, -1_500_000_000)
    text = f"delete a\\0040b\ndelete c\n{patch_line(0, b'big', file)}\n{patch_line(1, b'big', file)}\n"
    changes = parse_changes(text.encode(), LIMITS)
    assert changes.deleted == {b"a b", b"c"}
    assert changes.patches == (Patch(300_000, 0o4640, -1_500_000_000, b"big"),) * 2
    assert parse_changes(b"", LIMITS).deleted == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        b"delete\n",
        b"delete \n",
        b"delete a b\n",
        b"delete .clawfactory\n",
        b"delete .clawfactory/x\n",
        b"delete a\\0\n",
        b"delete \\0141\n",
        b"delete a\n\n",
        b"patch 1 300000 0644 1.000000000 big\n",
        b"patch 0 -1 0644 1.000000000 big\n",
        b"patch 0 300000 644 1.000000000 big\n",
        b"patch 0 300000 0844 1.000000000 big\n",
        b"patch 0 300000 0644 1.0 big\n",
        b"patch 0 300000 0644 1.000000000 big more\n",
        b"patch 00 300000 0644 1.000000000 big\n",
    ],
)
def test_bad_changes(text):
    with pytest.raises(BadArchive):
        parse_changes(text, LIMITS)


def test_ranges():
    assert parse_ranges(b"0 1\n1 2\n7 100\n") == [(0, 1), (1, 2), (7, 100)]
    assert parse_ranges(b"") == []


@pytest.mark.parametrize(
    "text", [b"\n", b"0\n", b"0 1", b"0 0\n", b"1 1\n0 1\n", b"0 2\n1 1\n", b"0  1\n", b"0 1 \n", b"a 1\n"]
)
def test_bad_ranges(text):
    with pytest.raises(BadArchive):
        parse_ranges(text)


def test_a_manifest():
    tree = {b"f": File(b"text", 0o600, 5), b"l": Link(b"\xff")}
    found = parse_manifest(
        manifest(tree, [b"l"], databases=[{"path": "f", "as_of": "t"}], left_out_count={"a": 2, "b": 3}), LIMITS
    )
    assert found.entries == {b"l": Entry("l", 0o777, tree[b"l"].mtime_ns, 0, "\\0377")}
    assert (found.count, found.bytes, found.left_out_count) == (2, 4, 5)
    assert found.databases == ({"path": "f", "as_of": "t"},)
