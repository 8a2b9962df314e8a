from __future__ import annotations

import pytest

from clawfactory_core.errors import Conflict, InvalidInput
from clawfactory_core.snapshots import live_restore
from clawfactory_core.snapshots.journal import read_journal
from clawfactory_core.snapshots.live_restore import NotReady, restore_live
from tests.unit.core.promotion.promotion_machine import BOT, same_user
from tests.unit.core.snapshots.live_machine import LiveMachine


@pytest.fixture
def machine(tmp_path, monkeypatch) -> LiveMachine:
    same_user(monkeypatch)
    return LiveMachine(tmp_path)


def restore(machine, name, phases=None):
    report = None if phases is None else lambda progress: phases.append(progress.phase)
    return restore_live(machine.root, BOT, name, actor="operator", report=report, gateway=machine.live)


def test_the_state_is_that_of_the_snapshot_and_what_it_replaced_is_in_another(machine):
    old = machine.snapshot("old")
    (machine.state / "memory").write_text("new")
    phases: list[str] = []
    before = restore(machine, old, phases)
    assert (machine.state / "memory").read_text() == "old"
    assert (machine.state / "workspace").is_dir()
    assert machine.live.did == ["stop", "start", "ready"]
    assert {"stopping the bot", "starting the bot"} <= set(phases)
    assert [entry["event"] for entry in machine.audited()] == ["restore"]
    restore(machine, before)
    assert (machine.state / "memory").read_text() == "new"


def test_a_bot_that_does_not_get_ready_has_its_old_state_back(machine):
    (machine.state / "broken").touch()
    bad = machine.snapshot("old")
    (machine.state / "broken").unlink()
    (machine.state / "memory").write_text("new")
    with pytest.raises(NotReady, match="old state back"):
        restore(machine, bad)
    assert (machine.state / "memory").read_text() == "new"
    assert machine.live.runs
    assert read_journal(machine.state) is None
    assert [entry["event"] for entry in machine.audited()] == ["restore.undone"]


def test_a_stopped_bot_stays_stopped(machine):
    old = machine.snapshot("old")
    machine.live.runs = False
    restore(machine, old)
    assert not machine.live.runs


def test_if_what_is_replaced_cannot_be_kept_nothing_is_stopped_and_nothing_lies_about(machine):
    old = machine.snapshot("old")
    (machine.root / "secrets" / BOT / "snapshot.pub").unlink()
    with pytest.raises(InvalidInput, match="has no recipient"):
        restore(machine, old)
    assert machine.live.did == []
    assert not list(machine.state.parent.glob(".restore*"))


def test_without_the_key_nothing_is_stopped(machine):
    old = machine.snapshot("old")
    machine.key.unlink()
    with pytest.raises(Conflict, match=r"playbooks/restore\.yml"):
        restore(machine, old)
    assert machine.live.did == []


def test_a_damaged_archive_stops_nothing(machine):
    old = machine.snapshot("old")
    archive = next(machine.directory.glob(f"{old}*.age"))
    data = bytearray(archive.read_bytes())
    data[-1] ^= 1
    archive.write_bytes(data)
    (machine.state / "memory").write_text("new")
    with pytest.raises(Exception, match=old):
        restore(machine, old)
    assert (machine.state / "memory").read_text() == "new"
    assert machine.live.did == []


def test_a_lock_that_is_thrown_meanwhile_is_not_overruled(machine, monkeypatch):
    old = machine.snapshot("old")
    (machine.state / "memory").write_text("new")
    stop = machine.live.stop

    def lock_and_stop() -> None:
        stop()
        (machine.root / "locks" / BOT).touch()

    monkeypatch.setattr(machine.live, "stop", lock_and_stop)
    with pytest.raises(Conflict, match="locked"):
        restore(machine, old)
    assert not machine.live.runs
    assert (machine.state / "memory").read_text() == "new"


def test_the_real_gateway_is_what_it_asks_without_another(machine, monkeypatch):
    old = machine.snapshot("old")
    monkeypatch.setattr(live_restore, "_gateway", lambda found: machine.live)
    restore_live(machine.root, BOT, old, actor="operator")
    assert machine.live.did == ["stop", "start", "ready"]
