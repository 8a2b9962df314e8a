"""Order of OpenClaw's versions."""

from __future__ import annotations

import itertools

import pytest

from clawfactory_core.errors import InvalidInput
from clawfactory_core.versions import is_older, newer

IN_ORDER = [
    "2026.9.6-beta.2", "2026.9.6-beta.10", "2026.9.6-rc.1", "2026.9.6", "2026.9.6-1", "2026.9.6-2", "2026.9.10",
    "v2026.10.1",
]  # fmt: skip


def test_every_version_is_older_than_those_after_it() -> None:
    for first, second in itertools.combinations(IN_ORDER, 2):
        assert is_older(first, second)
        assert not is_older(second, first)


def test_none_is_older_than_itself() -> None:
    assert not any(is_older(version, version) for version in IN_ORDER)


def test_newer_ones_come_newest_first_without_what_is_no_version() -> None:
    assert newer(["latest", *IN_ORDER, "slim", "2026.9.6-slim-arm"], "2026.9.6-1") == [
        "v2026.10.1", "2026.9.10", "2026.9.6-2",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["latest", "", "2026", "2026.9.6 ", "2026.9.6-"])
def test_what_is_no_version_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidInput, match=f"'{text}' is no version"):
        is_older(text, "2026.9.6")
