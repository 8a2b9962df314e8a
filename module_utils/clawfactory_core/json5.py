"""Reads JSON5 (https://spec.json5.org) with the place of each value, so that a complaint can name its line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from .errors import InvalidInput

#: Keys and indices from the root, and where the value's key or, in a list, the value itself begins: line and column.
Places = dict[tuple[str | int, ...], tuple[int, int]]

_DEEPEST = 100
_BLANK = re.compile(r"(?:[\s\ufeff]|//[^\n\r\u2028\u2029]*|/\*.*?\*/)*", re.DOTALL)
_NUMBER = re.compile(
    r"[+-]?(?:Infinity|NaN|0[xX][0-9a-fA-F]+|(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?![\w$.])", re.ASCII
)
_NAME = re.compile(r"(?:[^\W\d]|[$_])[\w$\u200c\u200d]*")
_PLAIN = re.compile(r"[^\\\n\r\"']+")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_WORDS = {"true": True, "false": False, "null": None}


class Json5Error(InvalidInput):
    """The text is not JSON5.

    :param line: from 1, as is ``column``.
    """

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.message = message
        self.line = line
        self.column = column


@dataclass
class _Reader:
    text: str
    position: int = 0
    places: Places = field(default_factory=dict)

    def fail(self, message: str) -> Json5Error:
        return Json5Error(message, *self.place(self.position))

    def place(self, position: int) -> tuple[int, int]:
        before = self.text[:position]
        return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1

    def skip(self) -> None:
        match = _BLANK.match(self.text, self.position)
        self.position = match.end() if match else self.position
        if self.text.startswith("/*", self.position):
            raise self.fail("a comment that begins here does not end")

    def peek(self) -> str:
        self.skip()
        return self.text[self.position : self.position + 1]

    def take(self, wanted: str) -> bool:
        if self.peek() != wanted:
            return False
        self.position += 1
        return True

    def value(self, path: tuple[str | int, ...]) -> Any:
        if len(path) > _DEEPEST:
            raise self.fail(f"it is nested deeper than {_DEEPEST} levels")
        character = self.peek()
        if character == "{":
            return self.mapping(path)
        if character == "[":
            return self.listing(path)
        if character in ('"', "'") and character:
            return self.string()
        number = _NUMBER.match(self.text, self.position)
        if number:
            self.position = number.end()
            return _number(number.group())
        word = _NAME.match(self.text, self.position)
        if word and word.group() in _WORDS:
            self.position = word.end()
            return _WORDS[word.group()]
        raise self.fail("a value is missing" if character in ("", "}", "]", ",") else "this is no value")

    def mapping(self, path: tuple[str | int, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self.position += 1
        while not self.take("}"):
            self.skip()
            begin = self.position
            key = self.key()
            if key in found:
                self.position = begin
                raise self.fail(f"the key {key[:80]!r} is there twice")
            here = (*path, key)
            self.places[here] = self.place(begin)
            if not self.take(":"):
                raise self.fail("a colon is missing after the key")
            found[key] = self.value(here)
            if not self.take(",") and self.peek() != "}":
                raise self.fail("a comma or a closing brace is missing")
        return found

    def listing(self, path: tuple[str | int, ...]) -> list[Any]:
        found: list[Any] = []
        self.position += 1
        while not self.take("]"):
            self.skip()
            here = (*path, len(found))
            self.places[here] = self.place(self.position)
            found.append(self.value(here))
            if not self.take(",") and self.peek() != "]":
                raise self.fail("a comma or a closing bracket is missing")
        return found

    def key(self) -> str:
        if self.peek() in ('"', "'") and self.peek():
            return self.string()
        name = _NAME.match(self.text, self.position)
        if name is None:
            raise self.fail("a key is missing")
        self.position = name.end()
        return name.group()

    def string(self) -> str:
        quote = self.text[self.position]
        begin = self.position
        self.position += 1
        parts = []
        while True:
            plain = _PLAIN.match(self.text, self.position)
            if plain:
                parts.append(plain.group())
                self.position = plain.end()
            character = self.text[self.position : self.position + 1]
            if character == "\\":
                parts.append(self.escape())
            elif character in ("", "\n", "\r"):
                self.position = begin
                raise self.fail("a text that begins here does not end on its line")
            else:
                self.position += 1
                if character == quote:
                    return "".join(parts)
                parts.append(character)

    def escape(self) -> str:
        following = self.text[self.position + 1 : self.position + 2]
        for letter, digits in (("x", 2), ("u", 4)):
            if following == letter:
                code = self.text[self.position + 2 : self.position + 2 + digits]
                if not re.fullmatch("[0-9a-fA-F]{%d}" % digits, code):  # noqa: UP031 - braces belong to the pattern
                    raise self.fail(f"after \\{letter} come {digits} hexadecimal digits")
                self.position += 2 + digits
                return chr(int(code, 16))
        if following.isdecimal() and not (
            following == "0" and not self.text[self.position + 2 : self.position + 3].isdecimal()
        ):
            raise self.fail("a digit cannot be escaped")
        length = 3 if self.text.startswith("\r\n", self.position + 1) else 2
        self.position += length
        if following in ("\n", "\r", "\u2028", "\u2029"):
            return ""
        return "\0" if following == "0" else _ESCAPES.get(following, following)


def parse(text: str) -> tuple[Any, Places]:
    """Read one value.

    :returns: it, with surrogate pairs as the characters they stand for, and where its parts are.
    :raises Json5Error: the text is none, or has a key twice.
    """
    reader = _Reader(text)
    found = reader.value(())
    if reader.peek():
        raise reader.fail("something comes after the end")
    return found, reader.places


def _number(text: str) -> int | float:
    sign, digits = (-1, text[1:]) if text[0] == "-" else (1, text.lstrip("+"))
    if digits == "Infinity":
        return sign * float("inf")
    if digits == "NaN":
        return float("nan")
    if digits[:2] in ("0x", "0X"):
        return sign * int(digits, 16)
    if digits.isdecimal() and len(digits) < 1000:
        return sign * int(digits)
    return sign * float(digits)
