"""Changing JSON5 without losing a comment."""

from __future__ import annotations

import random
import textwrap

import pytest

from clawfactory_core.errors import Conflict, InvalidInput
from clawfactory_core.json5 import Json5Error, parse
from clawfactory_core.json5_edit import append_to, format_text, refuse_twice
from tests.support.json5_texts import scribble

MODELS = ("models", "providers", "ollama", "models")


def dedent(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n")


@pytest.mark.parametrize(
    ("text", "formatted"),
    [
        ("{}", "{}\n"),
        ("{\n\n}", "{}\n"),
        ("{a:1,b:[1,2]}", "{a: 1, b: [1, 2]}\n"),
        ("{\na:1}", "{\n  a: 1,\n}\n"),
        ("// top\n{a:1}// end\n\n// last", "// top\n{a: 1}\n// end\n\n// last\n"),
        ("{a:1, // of a\nb:2}", "{\n  a: 1, // of a\n  b: 2,\n}\n"),
        ("{a:1 // of a\n,b:2}", "{\n  a: 1, // of a\n  b: 2,\n}\n"),
        ("{a:1, /* of b */ b:2}", "{\n  a: 1,\n  /* of b */\n  b: 2,\n}\n"),
        ("{ // above a\na:1}", "{\n  // above a\n  a: 1,\n}\n"),
        ("{\n  // alone\n}", "{\n  // alone\n}\n"),
        ("{\n\n\na:1,\n\n\n\n\nb:2,\n\n\n}", "{\n  a: 1,\n\n  b: 2,\n}\n"),
        ("{a /* k */ : // v\n 'x\\'y\\\nz'}", "{\n  /* k */\n  // v\n  a: 'x\\'y\\\nz',\n}\n"),
        ("[0x1F,+.5,-Infinity,NaN,'//no',\"/*no*/\"]", "[0x1F, +.5, -Infinity, NaN, '//no', \"/*no*/\"]\n"),
        ("{a:{b:{\nc:1}}}", "{\n  a: {\n    b: {\n      c: 1,\n    },\n  },\n}\n"),
        ("{a: 1, /* one */ /* two */\n b: 2 /* three */}", "{\n  a: 1, /* one */ /* two */\n  b: 2, /* three */\n}\n"),
        ("'text' // said", "'text'\n// said\n"),
        (f"{{a: '{'x' * 120}'}}", f"{{\n  a: '{'x' * 120}',\n}}\n"),
    ],
)
def test_format(text, formatted):
    assert format_text(text) == formatted
    assert format_text(formatted) == formatted


def test_format_refuses_what_is_no_json5():
    with pytest.raises(Json5Error):
        format_text("{a: }")


def comments(text: str) -> int:
    return sum(text.count(mark) for mark in ("// c,{", "/* d ] */", "/* e\n  f */"))


@pytest.mark.parametrize("seed", range(400))
def test_whatever_is_formatted_says_the_same_and_stays_as_it_is(seed):
    text = scribble(random.Random(seed))  # noqa: S311 - the same texts in every run
    formatted = format_text(text)
    assert repr(parse(formatted)[0]) == repr(parse(text)[0])
    assert comments(formatted) == comments(text)
    assert format_text(formatted) == formatted


NEW = """  models: {
    providers: {
      ollama: {
        models: [
          {id: "m", size: 1},
        ],
      },
    },
  },
}
"""
SHORT = "{models: {providers: {ollama: {models: [%s]}}}} // x"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "{\n" + NEW),
        ("{\n  // Yours.\n}\n", "{\n  // Yours.\n" + NEW),
        (SHORT % "", SHORT % '\n  {id: "m", size: 1},\n'),
    ],
)
def test_append(text, wanted):
    assert append_to(text, MODELS, {"id": "m", "size": 1}) == wanted


def test_append_touches_no_other_line():
    text = dedent("""
        // head
        {
            logging: {level: 'debug'}, // why
            models: {
                providers: {
                  ollama: {
                    models: [
                      {id: 'old'}  // no comma yet
                      // the last word
                    ],
                  },
                },
            },
        }
    """)
    lines = append_to(text, MODELS, {"id": "new"}).split("\n")
    assert lines[9] == '              {id: "new"},' and lines[7] == "              {id: 'old'},  // no comma yet"
    del lines[9]
    lines[7] = lines[7].replace("},", "}")
    assert "\n".join(lines) == text


@pytest.mark.parametrize("seed", range(200))
def test_append_to_anything(seed):
    draw = random.Random(seed)  # noqa: S311 - the same texts in every run
    text = f"{{{draw.choice(['', ' // c,{', '/* d ] */'])}\nx: {scribble(draw)}}}"
    changed = append_to(text, MODELS, {"id": "m"})
    value = parse(changed)[0]
    assert value.pop("models") == {"providers": {"ollama": {"models": [{"id": "m"}]}}}
    assert repr(value) == repr(parse(text)[0]) and comments(changed) == comments(text)
    again = append_to(changed, MODELS, {"id": "n"})
    assert [model["id"] for model in parse(again)[0]["models"]["providers"]["ollama"]["models"]] == ["m", "n"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[]", "the text"),
        ("{models: null}", "models"),
        ("{models: {providers: {ollama: {models: {}}}}}", "models.providers"),
    ],
)
def test_what_stands_in_the_way_is_named(text, name):
    with pytest.raises(InvalidInput, match=f"^{name}"):
        append_to(text, MODELS, {"id": "m"})


def test_a_key_that_is_no_name_is_quoted():
    assert append_to("{}", ["a b"], "x") == '{\n  "a b": [\n    "x",\n  ],\n}'


def test_nothing_is_added_twice():
    text = append_to("{}\n", MODELS, {"id": "m"})
    refuse_twice(text, MODELS, "id", "n")
    refuse_twice("", MODELS, "id", "n")
    with pytest.raises(Conflict, match="m is there already, in line 6"):
        refuse_twice(text, MODELS, "id", "m")
