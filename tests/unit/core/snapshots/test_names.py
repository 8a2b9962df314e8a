from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawfactory_core.snapshots.names import file_name, new_id, parse_file_name, sanitise_label

NOON = datetime(2026, 3, 1, 12, 0, 0, 999_999, UTC)


@pytest.mark.parametrize(
    ("label", "clean"),
    [
        ("", "snapshot"),
        ("before update", "before-update"),
        ("--a--b--", "a-b"),
        ("über/../x", "ber-x"),
        ("___", "___"),
        ("///", "snapshot"),
        ("x" * 80, "x" * 64),
        ("x" * 63 + "--y", "x" * 63),
    ],
)
def test_a_label_is_made_fit_for_a_file_name(label, clean):
    assert sanitise_label(label) == clean


def test_an_id_has_label_and_time_in_utc():
    assert new_id("a b", NOON, ()) == "a-b--2026-03-01T12-00-00Z"
    other = NOON.astimezone(timezone(timedelta(hours=5)))
    assert new_id("", other, ()) == "snapshot--2026-03-01T12-00-00Z"


def test_an_id_that_is_taken_moves_on_by_seconds():
    taken = {"snapshot--2026-03-01T12-00-00Z", "snapshot--2026-03-01T12-00-01Z"}
    assert new_id("", NOON, taken) == "snapshot--2026-03-01T12-00-02Z"


@settings(deadline=None)
@given(
    st.text(),
    st.datetimes(timezones=st.just(UTC)).filter(lambda moment: moment.year >= 1970),
    st.sampled_from(["full", "inc"]),
)
def test_a_file_name_tells_what_it_was_made_of(label, moment, kind):
    name = file_name(new_id(label, moment, ()), kind)
    file = parse_file_name(name)
    assert file is not None and len(name) < 120
    assert (file.name, file.kind, file.label) == (name, kind, sanitise_label(label))
    assert file.time == moment.replace(microsecond=0)


@pytest.mark.parametrize(
    ("name", "snapshot_id", "label"),
    [
        ("nightly--2025-01-02T03-04-05Z.tar.age", "nightly--2025-01-02T03-04-05Z", "nightly"),
        ("snapshot-2025-01-02T03-04-05Z.tar.age", "snapshot-2025-01-02T03-04-05Z", "snapshot"),
    ],
)
def test_archives_of_the_original_are_known(name, snapshot_id, label):
    file = parse_file_name(name)
    assert file is not None
    assert (file.id, file.kind, file.label) == (snapshot_id, "legacy", label)
    assert file.time == datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "name",
    [
        "latest",
        "latest.tar.age",
        ".a--2025-01-02T03-04-05Z.full.tar.zst.age",
        "a--2025-01-02T03-04-05Z.full.json",
        "a--2025-13-02T03-04-05Z.full.tar.zst.age",
        "a--2025-01-02T03-04-05Z.other.tar.zst.age",
        "a b--2025-01-02T03-04-05Z.full.tar.zst.age",
        "../a--2025-01-02T03-04-05Z.full.tar.zst.age",
        "a--2025-01-02T03-04-05Z.full.tar.zst.age\n",
    ],
)
def test_other_files_are_none(name):
    assert parse_file_name(name) is None
