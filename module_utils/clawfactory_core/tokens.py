"""What a token has to look like, for those who write it and those who read it."""

from __future__ import annotations

import re

_HEX_TOKEN = re.compile(r"[0-9A-Fa-f]{32,128}")
# A random 32-digit token has 14 distinct digits on average; 6 or fewer happens once in five billion.
_FEWEST_DISTINCT_DIGITS = 7
_MD5_OF_NOTHING = "d41d8cd98f00b204e9800998ecf8427e"
_REMEDY = "(make one with: openssl rand -hex 16)"


def token_problem(value: str) -> str:
    """Why a token is refused, as the end of a sentence; empty when it is good. Never contains the value."""
    if not value:
        return "is empty"
    if not _HEX_TOKEN.fullmatch(value):
        return f"must be 32 to 128 hexadecimal digits {_REMEDY}"
    if _is_sample(value.lower()):
        return f"is a sample value, not a random one {_REMEDY}"
    return ""


def _is_sample(value: str) -> bool:
    ordered = "".join(sorted(value))
    return (
        len(set(value)) < _FEWEST_DISTINCT_DIGITS
        or value in (value + value)[1:-1]  # a shorter pattern, repeated
        or value in (ordered, ordered[::-1])
        or value == _MD5_OF_NOTHING
    )
