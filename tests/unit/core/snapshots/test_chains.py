from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawfactory_core.errors import Conflict, InvalidInput
from clawfactory_core.snapshots.chains import (
    BrokenChain,
    Retention,
    apply_prune,
    chain_of,
    find,
    list_snapshots,
    plan_prune,
    table,
)
from clawfactory_core.snapshots.records import SnapshotRecord
from tests.unit.core.snapshots.archive_maker import Maker

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)


def snapshot(age: float, parent: SnapshotRecord | None = None, **other: object) -> SnapshotRecord:
    """One that is ``age`` days old."""
    moment = NOW - timedelta(days=age)
    kind = "inc" if parent else "full"
    identity = f"s--{moment:%Y-%m-%dT%H-%M-%SZ}"
    made = SnapshotRecord(
        id=identity,
        kind=kind,
        label="s",
        parent=parent.id if parent else "",
        parent_sha256=parent.sha256 if parent else "",
        started=f"{moment:%Y-%m-%dT%H:%M:%S.000000Z}",
        size=10,
        sha256=f"{abs(hash(identity)):064x}"[:64],
        file_name=f"{identity}.{kind}.tar.zst.age",
    )
    return replace(made, **other)


def ids(records: list[SnapshotRecord]) -> list[str]:
    return [record.id for record in records]


def newest_first(*records: SnapshotRecord) -> list[SnapshotRecord]:
    return sorted(records, key=lambda record: record.started, reverse=True)


FULL = snapshot(3)
ONE = snapshot(2, FULL)
TWO = snapshot(1, ONE)


def test_a_chain_begins_with_its_full_snapshot():
    records = newest_first(FULL, ONE, TWO)
    assert chain_of(records, TWO) == [FULL, ONE, TWO]
    assert chain_of(records, FULL) == [FULL]


def test_a_crash_may_leave_two_children_of_one_parent():
    other = snapshot(1.5, FULL)
    records = newest_first(FULL, ONE, TWO, other)
    assert chain_of(records, other) == [FULL, other]
    assert chain_of(records, TWO) == [FULL, ONE, TWO]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([TWO, FULL], f"needs {ONE.id}, the parent of {TWO.id}, which is missing"),
        ([TWO, replace(ONE, parent=TWO.id, parent_sha256=TWO.sha256), FULL], "loops"),
        ([replace(TWO, parent=TWO.id)], "loops"),
        ([TWO, replace(ONE, sha256="0" * 64), FULL], f"{ONE.file_name} is not the archive that {TWO.id} was made for"),
        ([TWO, replace(ONE, problem="its record is missing", sha256=""), FULL], "cannot be restored: its record"),
        ([TWO, ONE, replace(FULL, problem="has 1 bytes")], "cannot be restored: has 1 bytes"),
        ([TWO, ONE, replace(FULL, schema=2)], r"written by a newer ClawFactory \(schema 2\); update first"),
        ([TWO, replace(ONE, kind="legacy")], "missing"),
    ],
)
def test_a_broken_chain_names_the_link(records, message):
    with pytest.raises(BrokenChain, match=message):
        chain_of(records, records[0])


def test_a_full_snapshot_needs_no_record():
    lost = replace(FULL, problem="its record is missing", sha256="")
    assert chain_of([TWO, ONE, lost], TWO)[0] == lost


def test_what_a_name_means():
    labelled = snapshot(0.5, label="before-update", id="before-update--2026-06-15T00-00-00Z")
    records = newest_first(FULL, ONE, TWO, labelled)
    assert find(records, "latest") == labelled
    assert find(records, ONE.id) == ONE
    assert find(records, FULL.file_name) == FULL
    assert find(records, "s") == TWO
    assert find(records, "before-update") == labelled
    assert find(records, ONE.id[:-6]) == ONE


@pytest.mark.parametrize(
    ("name", "message"),
    [("s--2026-06-1", "could be any of"), ("nothing", "there is no snapshot 'nothing'"), ("", "there is no")],
)
def test_a_name_that_means_nothing_or_too_much(name, message):
    with pytest.raises(InvalidInput, match=message):
        find(newest_first(FULL, ONE, TWO), name)


def test_a_near_miss_is_told():
    with pytest.raises(InvalidInput, match=f"near it are {ONE.id}"):
        find([ONE], ONE.id.replace("s--", "x--"))
    with pytest.raises(InvalidInput, match="no snapshot yet"):
        find([], "latest")


def test_the_list_is_newest_first_and_has_those_of_the_original(tmp_path):
    maker = Maker(tmp_path)
    full = maker.write(maker.full({}))
    inc = maker.write(maker.inc(full, {}, {}))
    old = maker.legacy(b"x")
    (tmp_path / "notes.txt").write_text("no archive")
    (tmp_path / ".x.full.tar.zst.age.partial").write_text("work in progress")
    assert ids(list_snapshots(tmp_path)) == [inc.id, full.id, old.id]
    os.symlink(full.file_name, tmp_path / "latest")
    assert ids(list_snapshots(tmp_path)) == [full.id, inc.id, old.id]
    lines = table(list_snapshots(tmp_path)).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [[full.id, "full"], [inc.id, "inc"], [old.id, "legacy"]]


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(InvalidInput, match="cannot be listed"):
        list_snapshots(tmp_path / "none")


def test_retention_keeps_the_newest_of_each_slot():
    dailies = [snapshot(age) for age in range(100)]
    going = plan_prune(dailies, Retention(last=3, daily=5, weekly=4, monthly=3), NOW)
    kept = [record for record in dailies if record not in going]
    ages = [dailies.index(record) for record in kept]
    # 2026-06-15 is a Monday: last and daily 0-4; weeks end on Sundays; months on 31 May and 30 April.
    assert ages == [0, 1, 2, 3, 4, 8, 15, 46]


def test_a_chain_goes_whole_or_stays_whole():
    old = snapshot(40)
    old_child = snapshot(39, old)
    records = newest_first(FULL, ONE, TWO, old, old_child)
    assert ids(plan_prune(records, Retention(1, 0, 0, 0), NOW)) == [old_child.id, old.id]
    assert plan_prune(records, Retention(4, 0, 0, 0), NOW) == []


def test_the_newest_and_the_newest_verified_stay_with_their_chains():
    verified_parent = snapshot(40)
    verified = snapshot(39, verified_parent, verified="2026-05-08T00:00:00.000000Z", verified_how="content")
    older_verified = snapshot(60, verified="2026-05-08T00:00:00.000000Z", verified_how="content")
    newest = snapshot(1)
    records = newest_first(newest, snapshot(20), verified, verified_parent, older_verified)
    going = plan_prune(records, Retention(0, 0, 0, 0), NOW)
    assert ids(going) == [snapshot(20).id, older_verified.id]


def test_what_is_broken_or_from_the_future_stays():
    orphan = snapshot(50, snapshot(51))
    lost_link = snapshot(70)
    broken = snapshot(69, snapshot(69.5, lost_link))
    future = snapshot(-400)
    records = newest_first(snapshot(0), orphan, broken, future, snapshot(60))
    assert ids(plan_prune([*records, lost_link], Retention(1, 0, 0, 0), NOW)) == [snapshot(60).id, lost_link.id]
    future_does_not_count = newest_first(future, snapshot(0), snapshot(1))
    assert ids(plan_prune(future_does_not_count, Retention(1, 0, 0, 0), NOW)) == [snapshot(1).id]


def test_those_of_the_original_count_alone():
    old = replace(snapshot(300), kind="legacy", sha256="", file_name="old--2025-01-01T00-00-00Z.tar.age")
    assert ids(plan_prune([snapshot(0), old], Retention(1, 0, 0, 0), NOW)) == [old.id]
    assert plan_prune([snapshot(0), old], Retention(2, 0, 0, 0), NOW) == []


def test_a_negative_number_is_refused():
    with pytest.raises(InvalidInput, match="weekly is -1"):
        plan_prune([], Retention(1, 1, -1, 1), NOW)


CHAINS = st.lists(st.integers(1, 5), min_size=1, max_size=8)


@given(lengths=CHAINS, numbers=st.tuples(*[st.integers(0, 6)] * 4), verified=st.integers(0, 30))
def test_whatever_is_pruned_the_rest_can_be_restored(lengths, numbers, verified):
    records: list[SnapshotRecord] = []
    age = 100.0
    for length in lengths:
        parent = None
        for _ in range(length):
            parent = snapshot(age, parent, **({"verified": "x"} if len(records) == verified else {}))
            records.append(parent)
            age -= 1.7
    records = newest_first(*records)
    going = plan_prune(records, Retention(*numbers), NOW)
    rest = [record for record in records if record not in going]
    for record in rest:
        chain_of(rest, record)
    assert records[0] in rest
    assert any(record.verified for record in rest) == any(record.verified for record in records)
    for place, record in enumerate(going):
        assert all(one.id != record.parent for one in going[:place])


def test_of_a_locked_bot_nothing_is_pruned(tmp_path):
    directory = tmp_path / "snapshots" / "bot1"
    directory.mkdir(parents=True)
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "bot1").symlink_to("nowhere")
    with pytest.raises(Conflict, match="playbooks/unlock"):
        apply_prune(directory, [])


def test_pruning_deletes_archive_and_record(tmp_path):
    maker = Maker(tmp_path)
    full = maker.write(maker.full({}))
    inc = maker.write(maker.inc(full, {}, {}))
    old = maker.legacy(b"x")
    last = maker.write(maker.full({}))
    os.symlink(last.file_name, tmp_path / "latest")
    apply_prune(tmp_path, [inc, full, old])
    assert sorted(os.listdir(tmp_path)) == sorted([last.file_name, f"{last.id}.full.json", "latest"])
    apply_prune(tmp_path, [inc])
    with pytest.raises(Conflict, match="is the latest snapshot"):
        apply_prune(tmp_path, [last])
    assert (tmp_path / last.file_name).exists()
