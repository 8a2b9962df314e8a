from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawfactory_core.json5 import Json5Error, parse

TEXT = """\
// The operator's.
{
  unquoted: 'single "quotes"', "quoted": "with \\u0041\\x42\\n\\
more",
  list: [1, +2, .5, 5., 0x1F, -Infinity, {in: null,},],   /* a
  comment */ $ünï: true,
}
"""


def test_what_json5_has_beyond_json():
    value, _ = parse(TEXT)
    assert value == {
        "unquoted": 'single "quotes"',
        "quoted": "with AB\nmore",
        "list": [1, 2, 0.5, 5.0, 31, -math.inf, {"in": None}],
        "$ünï": True,
    }
    assert math.isnan(parse("NaN")[0])


def test_places_are_those_of_the_keys():
    _, places = parse(TEXT)
    lines = TEXT.splitlines()
    for path, (line, column) in places.items():
        key = path[-1]
        if isinstance(key, str):
            assert lines[line - 1][column - 1 :].lstrip("\"'").startswith(key), path
    assert places[("list", 6, "in")][0] == 5


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
))  # fmt: skip
def test_every_json_text_means_the_same(value):
    assert parse(json.dumps(value, ensure_ascii=False, indent=1))[0] == value


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("", 1, 1),
        ("{", 1, 2),
        ("{\n  a\n}", 3, 1),
        ("{\n  a: }", 2, 6),
        ("{a: 1,, b: 2}", 1, 7),
        ("[,]", 1, 2),
        ("{a: 1 b: 2}", 1, 7),
        ("{a: 'x\n'}", 1, 5),
        ("{} {}", 1, 4),
        ("// only a comment", 1, 18),
        ("{ /* x }", 1, 3),
        ("{a: 01}", 1, 5),
        ("{a: 1.2.3}", 1, 5),
        ("{a: tru}", 1, 5),
        ("{a: undefined}", 1, 5),
        ("{a: 1,\n a: 2}", 2, 2),
        ("{a: '\\x1'}", 1, 6),
        ("{a: '\\u12'}", 1, 6),
        ("{a: '\\1'}", 1, 6),
        ("{1a: 2}", 1, 2),
    ],
)
def test_a_mistake_is_named_with_its_place(text, line, column):
    with pytest.raises(Json5Error) as error:
        parse(text)
    assert (error.value.line, error.value.column) == (line, column), error.value


def test_depth_is_bounded():
    assert parse("[" * 100 + "]" * 100)[0]
    with pytest.raises(Json5Error, match="deeper than 100"):
        parse("[" * 100_000)


@given(st.text(alphabet="{}[]:,'\"\\/* \n\tab01.eExXNIu+-$", max_size=60))
def test_nothing_but_an_answer_or_a_mistake(text):
    try:
        parse(text)
    except Json5Error as error:
        found = error
    else:
        return
    assert 1 <= found.line <= text.count("\n") + 1
