from __future__ import annotations

import pytest

from clawfactory_core.errors import Conflict, InvalidInput
from clawfactory_core.snapshots.chains import list_snapshots
from clawfactory_core.snapshots.maintain import delete_snapshot, rename_snapshot
from clawfactory_core.snapshots.settings import read_identities
from clawfactory_core.snapshots.verify import verify_snapshot
from tests.unit.core.promotion.promotion_machine import BOT, same_user
from tests.unit.core.snapshots.live_machine import LiveMachine


@pytest.fixture
def machine(tmp_path, monkeypatch) -> LiveMachine:
    same_user(monkeypatch)
    return LiveMachine(tmp_path)


def test_a_renamed_snapshot_is_what_it_was(machine):
    first, second = machine.snapshot("one"), machine.snapshot("two")
    rename_snapshot(machine.root, BOT, first, "before-the_storm", actor="operator")
    records = {record.id: record for record in list_snapshots(machine.directory)}
    assert records[first].label == "before-the_storm"
    assert records[second].parent == first
    identities = read_identities(machine.root, BOT)
    for record in records.values():
        report = verify_snapshot(machine.directory, record, identities, content=True, staging=machine.state.parent)
        assert report.ok, report.problem
    assert machine.audited()[-1]["event"] == "snapshot.rename"


@pytest.mark.parametrize("label", ["", "a b", "a/b", "x" * 65, "<b>", "a\n"])
def test_a_label_that_is_none_is_refused(machine, label):
    first = machine.snapshot("one")
    with pytest.raises(InvalidInput, match="label"):
        rename_snapshot(machine.root, BOT, first, label, actor="operator")


def test_what_others_build_upon_stays(machine):
    first, second, third = (machine.snapshot(text) for text in ("one", "two", "three"))
    with pytest.raises(Conflict, match=second):
        delete_snapshot(machine.root, BOT, first, actor="operator")
    with pytest.raises(Conflict, match="newest"):
        delete_snapshot(machine.root, BOT, third, actor="operator")
    assert set(machine.ids()) == {first, second, third}


def test_a_deleted_snapshot_is_gone_with_its_record(machine):
    first, second = machine.snapshot("one"), machine.snapshot("two", kind="full")
    delete_snapshot(machine.root, BOT, first, actor="operator")
    assert machine.ids() == [second]
    assert not list(machine.directory.glob(f"{first}*"))
    assert (machine.audited()[-1]["event"], machine.audited()[-1]["snapshot"]) == ("snapshot.delete", first)


def test_nothing_of_a_locked_bot_is_touched(machine):
    first, second = machine.snapshot("one"), machine.snapshot("two", kind="full")
    (machine.root / "locks" / BOT).touch()
    with pytest.raises(Conflict, match="locked"):
        rename_snapshot(machine.root, BOT, first, "x", actor="operator")
    with pytest.raises(Conflict, match="locked"):
        delete_snapshot(machine.root, BOT, first, actor="operator")
    assert set(machine.ids()) == {first, second}


@pytest.mark.parametrize("name", ["latest", "x--2026-11-22T10-00-00Z", "../../etc/passwd"])
def test_only_a_whole_id_is_a_name(machine, name):
    machine.snapshot("one")
    machine.snapshot("two", kind="full")
    with pytest.raises(InvalidInput, match="no snapshot"):
        delete_snapshot(machine.root, BOT, name, actor="operator")
