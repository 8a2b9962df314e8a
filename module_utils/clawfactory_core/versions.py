"""Versions of OpenClaw, in the order in which they came out."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .errors import InvalidInput

#: ``2026.9.6``, ``v2026.9.6``, ``2026.9.6-1`` (came later), ``2026.9.7-beta.1`` (came before).
_VERSION = re.compile(r"v?(\d+(?:\.\d+){1,3})(?:-(\d+)|-([a-z]+)[.-]?(\d*))?")


def is_version(text: str) -> bool:
    """Whether it reads as one."""
    return _VERSION.fullmatch(text) is not None


def version_key(text: str) -> tuple[tuple[int, ...], int, str, int]:
    """What versions are sorted by.

    :raises InvalidInput: it is no version.
    """
    found = _VERSION.fullmatch(text)
    if found is None:
        raise InvalidInput(f"'{text}' is no version of OpenClaw; write it as 2026.9.6")
    numbers, patch, stage, count = found.groups()
    release = tuple(int(number) for number in numbers.split("."))
    return (release, -1, stage, int(count or 0)) if stage else (release, int(patch or 0), "", 0)


def is_older(version: str, than: str) -> bool:
    """Whether ``version`` came out before ``than``.

    :raises InvalidInput: one of the two is no version.
    """
    return version_key(version) < version_key(than)


def newer(versions: Iterable[str], than: str) -> list[str]:
    """Those that came out later, the newest first; what is no version is left out.

    :raises InvalidInput: ``than`` is no version.
    """
    mark = version_key(than)
    later = (text for text in versions if is_version(text) and version_key(text) > mark)
    return sorted(later, key=version_key, reverse=True)
