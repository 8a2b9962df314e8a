from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_app.json_strict import DEEPEST, parse_object
from broker_app.refusal import Refused

LIMIT = 4096
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
LEAF = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
)
TREE = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)


def nested(levels: int, opening: str = "[", closing: str = "]") -> bytes:
    """An object with ``levels`` levels in all."""
    return ('{"a":' + opening * (levels - 1) + closing * (levels - 1) + "}").encode()


@given(st.dictionaries(TEXT, TREE, max_size=4))
def test_what_python_writes_is_read_back(document):
    assert parse_object(json.dumps(document).encode(), 10**6) == document


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"a"',
        b"1",
        b"{",
        b'{"a":1}{',
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":1}\0',
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":.5}',
        b'{"a":0x10}',
        b'{"a":"\n"}',
        b"\xef\xbb\xbf{}",
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":1}',
        b'{"b":{"a":1,"a":2}}',
        b'{"b":[{"a":1,"a":2}]}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":' + b"9" * 33 + b"}",
        b'{"a":0.' + b"1" * 33 + b"}",
        b'{"a":"\\ud800"}',
        b'{"\\udfff":1}',
        b'{"a":"\\u0000"}',
        b'{"a":["x",{"\\u0000":1}]}',
        nested(DEEPEST + 1),
        b'{"a":' * (DEEPEST + 1) + b"1" + b"}" * (DEEPEST + 1),
        nested(1500),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(body):
    with pytest.raises(Refused) as refusal:
        parse_object(body, LIMIT)
    assert refusal.value.status == 400


def test_deep_enough_is_read():
    assert parse_object(nested(DEEPEST), LIMIT)


def test_depth_that_would_end_the_parser_is_refused():
    with pytest.raises(Refused):
        parse_object(nested(200_000), 10**6)


def test_size_is_limited_to_the_byte():
    body = b'{"a":"' + b"x" * 10 + b'"}'
    assert parse_object(body, len(body))
    with pytest.raises(Refused) as refusal:
        parse_object(body, len(body) - 1)
    assert refusal.value.status == 413


def test_pair_of_surrogates_is_a_character():
    assert parse_object(b'{"a":"\\ud83d\\ude00"}', LIMIT) == {"a": "\U0001f600"}


@given(st.binary(max_size=64))
def test_arbitrary_bytes_give_an_object_or_a_refusal(body):
    try:
        document = parse_object(body, LIMIT)
    except Refused:
        return
    assert isinstance(document, dict)
