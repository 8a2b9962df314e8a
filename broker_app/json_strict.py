"""JSON with one meaning: what two parsers could read in two ways is refused."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from .refusal import Refused

DEEPEST = 16
_LONGEST_NUMBER = 32


def parse_object(body: bytes, limit: int) -> dict[str, Any]:
    """Parse a JSON object.

    Refused are: more bytes than ``limit``, anything but UTF-8, a byte order mark, another top level than an object,
    duplicate keys on any level, more than :data:`DEEPEST` levels, NaN and infinities, numbers of absurd length, and
    strings with a NUL or half of a surrogate pair.

    :param limit: largest size in bytes.
    :raises Refused: 413 when too large, else 400.
    """
    if len(body) > limit:
        raise Refused(413, "the body is too large")
    try:
        text = body.decode("utf-8", errors="strict")
    except UnicodeDecodeError:
        raise Refused(400, "the body is not UTF-8") from None
    try:
        document = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_int=_integer,
            parse_float=_fraction,
        )
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON") from None
    if not isinstance(document, dict):
        raise Refused(400, "the body is not a JSON object")
    _check(document, depth=1)
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise Refused(400, "the body has a key twice")
    return document


def _refuse_constant(_name: str) -> NoReturn:
    raise Refused(400, "the body has a number that is not finite")


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        raise Refused(400, "the body has a number that is too long")
    return int(digits)


def _fraction(digits: str) -> float:
    if len(digits) > _LONGEST_NUMBER:
        raise Refused(400, "the body has a number that is too long")
    number = float(digits)
    if number in (float("inf"), float("-inf")):  # 1e999
        _refuse_constant(digits)
    return number


def _check(value: Any, *, depth: int) -> None:
    """:param depth: levels down to this value, itself included if it is an object or a list."""
    if isinstance(value, str):
        # JSON's escapes can name what UTF-8 cannot carry, and what ends a string in C.
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise Refused(400, "the body has a character that no text has")
    elif isinstance(value, dict | list):
        if depth > DEEPEST:
            raise Refused(400, "the body is nested too deeply")
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            _check(item, depth=depth + 1)
