from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawfactory_core.errors import InvalidInput
from clawfactory_core.snapshots.digests import (
    Digester,
    TreeDigest,
    escape_path,
    sort_key,
    tree_digest,
    tree_line,
    unescape_path,
)
from tests.support.snapshot_states import file_digest

KEY = bytes(range(64))


def test_digests_are_those_of_the_format():
    digester = Digester(KEY)
    assert digester.block(b"abc") == hashlib.sha256(KEY + b"abc").digest()[:16]
    assert digester.file([]).hex() == file_digest(KEY, b"")


@settings(deadline=None)
@given(st.integers(0, 20_000), st.integers(1, 3))
def test_blocks_give_the_digest_of_the_file_however_it_is_read(size, chunk):
    content = (b"0123456789abcdef" * 1300)[:size]
    digester = Digester(KEY)
    step = chunk * 4096
    pieces = [digester.blocks(content[start : start + step]) for start in range(0, size, step)]
    assert digester.file(pieces).hex() == file_digest(KEY, content)
    assert digester.file([digester.blocks(memoryview(content))]).hex() == file_digest(KEY, content)


@pytest.mark.parametrize("size", [(1 << 18) - 1, 1 << 18, (1 << 18) + 1, 1 << 20, (1 << 20) + 4095])
def test_blocks_are_those_of_the_single_ones(size):
    content = random.Random(size).randbytes(size)  # noqa: S311 - any bytes will do
    digester = Digester(KEY)
    blocks = [content[start : start + 4096] for start in range(0, size, 4096)]
    assert digester.blocks(content) == b"".join(map(digester.block, blocks))


def test_another_key_gives_other_digests():
    assert Digester(KEY).block(b"x") != Digester(KEY[::-1]).block(b"x")
    with pytest.raises(InvalidInput, match="64 bytes, this one 3"):
        Digester(b"abc")


@settings(deadline=None)
@given(st.binary(min_size=1))
def test_a_path_comes_back_from_its_text(path):
    text = escape_path(path)
    assert " " not in text and "\n" not in text and text.isascii()
    assert unescape_path(text) == path


def test_a_path_is_escaped_as_printf_reads_it():
    assert escape_path(b"a b/\xff\\-_.Z") == r"a\0040b/\0377\0134-_.Z"


@pytest.mark.parametrize("text", ["", "a b", r"a\0101", r"a\0", r"a\04", r"a\0400", "é", "a\\", r"\x41"])
def test_other_texts_are_refused(text):
    with pytest.raises(InvalidInput, match="is not valid"):
        unescape_path(text)


def test_the_order_is_by_component():
    paths = [b"a-", b"a/b", b"a", b"a.b", b"a/", b"B", b"a\x01"]
    assert sorted(paths, key=sort_key) == [b"B", b"a", b"a/", b"a/b", b"a\x01", b"a-", b"a.b"]


def test_the_digest_of_a_tree_is_that_of_its_lines():
    lines = [tree_line(b"a b", "d", 0o750, -5, 0, ""), tree_line(b"a b/f", "f", 0o4644, 10, 3, "00ff")]
    assert lines == [b"a\\0040b d 0750 -5 0 \n", b"a\\0040b/f f 4644 10 3 00ff\n"]
    assert tree_digest(lines) == hashlib.sha256(b"".join(lines)).hexdigest()


_PATHS = st.lists(st.sampled_from([b"a", b"a-", b"b"]), min_size=1, max_size=3)


@given(steps=st.lists(st.tuples(_PATHS, st.integers(0, 3))))
def test_the_digest_of_a_tree_that_changes_is_that_of_its_lines_in_order(steps):
    found, tree = TreeDigest(), {}
    for components, size in steps:
        path = b"/".join(components)
        if size:
            tree[path] = tree_line(path, "f", 0o600, 0, size, "")
            found.set(path, tree[path])
        elif path in tree:
            del tree[path]
            found.remove(path)
        assert found.hexdigest() == tree_digest(tree[path] for path in sorted(tree, key=sort_key))
