from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controller_app import formats

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (52_200_000, "52.2 MB"),
        (123e9, "123 GB"),
        (1e18, "1000000 TB"),
    ],
)
def test_size(count, shown):
    assert formats.size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "less than a minute"),
        (59, "less than a minute"),
        (60, "1 minute"),
        (7200, "2 hours"),
        (777600, "9 days"),
    ],
)
def test_age(seconds, shown):
    assert formats.age(NOW - timedelta(seconds=seconds), NOW) == f"{shown} ago"


@pytest.mark.parametrize("value", ["", "<b>", "2026-13-01"])
def test_what_is_no_time_is_shown_as_it_is(value):
    assert formats.moment(value) == value
    assert formats.age(value, NOW) == ""


def test_moment():
    assert formats.moment("2026-11-22T13:00:00+01:00") == "2026-11-22 12:00 UTC"
    assert formats.moment(None) == "–"
