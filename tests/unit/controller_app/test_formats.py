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


@pytest.mark.parametrize("convert", [str, datetime.fromisoformat])
class TestTimesOfAGateway:
    def test_without_zone_is_utc(self, convert):
        value = convert("2026-11-22T11:00:00")
        assert formats.moment(value) == "2026-11-22 11:00 UTC"
        assert formats.age(value, NOW) == "1 hour ago"

    @pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
    def test_out_of_range_is_unknown(self, convert, text):
        value = convert(text)
        assert formats.moment(value) == "unknown"
        assert formats.age(value, NOW) == "unknown"

    @pytest.mark.parametrize("text", ["0001-01-01T00:00:00", "9999-12-31T23:59:59+00:00"])
    def test_ends_of_the_range_raise_nothing(self, convert, text):
        value = convert(text)
        assert formats.moment(value).endswith(" UTC")
        assert formats.age(value, NOW).endswith(" ago")


def test_moment():
    assert formats.moment("2026-11-22T13:00:00+01:00") == "2026-11-22 12:00 UTC"
    assert formats.moment(None) == "–"
