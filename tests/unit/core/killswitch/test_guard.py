from __future__ import annotations

import json
import os
import threading

import pytest

from clawfactory_core import locks
from clawfactory_core.errors import CoreError
from clawfactory_core.killswitch import guard as guard_module
from clawfactory_core.killswitch import record
from clawfactory_core.killswitch.guard import Guard
from clawfactory_core.killswitch.lock import LockRequest, apply_lock
from clawfactory_core.killswitch.network import NetworkError
from clawfactory_core.killswitch.record import Record
from clawfactory_core.killswitch.unlock import UnlockRequest, apply_unlock
from tests.support.polling import wait_for


@pytest.fixture
def guard(stage):
    return Guard(stage.root, threading.Event(), stage.world)


def settle(guard) -> None:
    """Look until nothing is left to do."""
    guard.once()
    wait_for("rest", lambda: guard.settled or (guard.once() and guard.settled), 10, every=0.01)


@pytest.fixture
def gateway(stage):
    stage.start_engine()
    number = stage.container("bot1", "gateway")
    apply_lock(LockRequest(stage.root, ("bot1",), actor="alice", reason="talks"), stage.world)
    return number


def test_without_a_lock_it_does_nothing(stage, guard):
    stage.container("bot1", "gateway")
    assert not guard.once()
    assert stage.events == [] and stage.alive()


def test_what_starts_dies(stage, guard, gateway):
    stage.spawn(gateway)
    stage.write_policy(gateway, "always")
    settle(guard)
    assert stage.alive() == set() and stage.policy(gateway) == "no"


def test_what_starts_again_and_again_is_audited_once_in_a_while(stage, guard, gateway):
    for _ in range(5):
        stage.spawn(gateway)
        guard.once()
    assert [line["event"] for line in stage.audit("bot1")] == ["lock", "lock.enforced"]
    assert stage.audit("bot1")[-1]["actor"] == "guard"


def test_network_that_somebody_flushed_is_cut_again(stage, guard, gateway):
    stage.filter.cut_off.clear()
    guard.once()
    assert stage.filter.cut_off == {"bot1"}


def test_container_that_is_made_after_the_lock_dies(stage, guard, gateway):
    stage.container("bot1", "sandbox", policy="always")
    guard.once()
    assert stage.alive() == set()


def test_engine_that_hung_is_told_when_it_answers(stage, guard):
    stage.hang_engine()
    number = stage.container("bot1", "gateway")
    apply_lock(LockRequest(stage.root, ("bot1",), actor="alice"), stage.world)
    before = stage.lock_file("bot1").stat().st_mtime_ns
    settle(guard)
    settle(guard)
    assert stage.lock_file("bot1").stat().st_mtime_ns == before, "nothing can be done, so nothing is written"
    assert [line["event"] for line in stage.audit("bot1")] == ["lock"]
    stage.silent.close()
    (stage.top / "engine.sock").unlink()
    server = stage.start_engine()
    settle(guard)
    assert server.updates == [(number, "no")]
    assert json.loads(stage.lock_file("bot1").read_text())["pending"] == []
    settle(guard)
    assert len(server.updates) == 1


def test_lock_of_the_jobs_service_is_carried_out_at_once(stage, guard):
    stage.container("bot1", "gateway")
    record.mark(stage.root, Record("bot1", "operator", record.now(), "by hand", source="dashboard"))
    guard.once()
    assert stage.alive() == set() and stage.filter.cut_off == {"bot1"}
    assert locks.read_lock(stage.root, "bot1").state == "locked"
    (line,) = stage.audit("bot1")
    assert (line["event"], line["actor"], line["source"], line["reason"]) == (
        "lock",
        "operator",
        "dashboard",
        "by hand",
    )


def test_lock_that_was_just_thrown_is_left_to_who_throws_it(stage, guard):
    stage.container("bot1", "gateway")
    record.mark(stage.root, Record("bot1", "alice", record.now(), source="script"))
    guard.once()
    assert stage.filter.cut_off == {"bot1"}, "the network is held in any case"
    assert locks.read_lock(stage.root, "bot1").state == "locking"
    os.utime(stage.lock_file("bot1"), (1, 1))
    guard.once()
    assert stage.alive() == set() and locks.read_lock(stage.root, "bot1").state == "locked"


def test_file_made_by_hand_locks(stage, guard):
    stage.container("bot1", "gateway")
    stage.lock_file("bot1").touch()
    guard.once()
    assert stage.alive() == set() and stage.filter.cut_off == {"bot1"}


def test_it_never_unlocks(stage, guard, gateway):
    stage.lock_file("bot1").unlink()
    guard.once()
    assert stage.filter.cut_off == {"bot1"} and stage.policy(gateway) == "no"


def test_it_lets_go_of_what_was_unlocked(stage, guard, gateway):
    guard.once()
    apply_unlock(UnlockRequest(stage.root, ("bot1",), actor="bob"), stage.world)
    stage.spawn(gateway)
    guard.once()
    assert len(stage.alive()) == 1 and stage.filter.cut_off == set() and stage.policy(gateway) == "unless-stopped"


def test_boot_cuts_without_asking_an_engine(stage, guard, gateway):
    stage.filter.cut_off.clear()
    stage.server.updates.clear()
    guard.hold_network()
    assert stage.filter.cut_off == {"bot1"} and stage.server.updates == []


@pytest.mark.parametrize("error", [OSError("the disk is gone"), ValueError("nobody has thought of this")])
def test_it_goes_on_after_an_error(stage, guard, monkeypatch, error):
    looks: list[int] = []

    def once(self) -> bool:
        looks.append(1)
        if len(looks) == 3:
            self._ending.set()
        raise error

    monkeypatch.setattr(Guard, "once", once)
    monkeypatch.setattr(guard_module, "SECONDS", 0.0)
    guard.run()
    assert len(looks) == 3


def test_name_of_a_process_does_not_end_it(stage, guard, gateway):
    stage.have_process(7, "\udcff\udcfe", f"0::/docker/{gateway}\n")
    stage.have_process(8, "\udcff\udcfe", "0::/\n")
    guard.once()
    guard._end_frozen()
    assert stage.alive() == set()


def test_engine_that_is_busy_keeps_nothing_from_dying(stage, guard, gateway, monkeypatch):
    """What it starts meanwhile dies, and unlocking waits until nobody takes policies any more."""
    release = threading.Event()
    update = stage.world.engine.set_policies
    monkeypatch.setattr(stage.world.engine, "set_policies", lambda *given: release.wait(10) and update(*given))
    stage.write_policy(gateway, "always")
    guard.once()
    assert not guard.settled
    stage.spawn(gateway)
    guard.once()
    assert stage.alive() == set() and not guard.settled
    release.set()
    settle(guard)
    assert stage.policy(gateway) == "no"


def test_reason_that_nobody_may_give_locks_all_the_same(stage, guard, gateway):
    """What a controller wrote, which may be in strange hands; and it keeps no other lock from being held."""
    for bot in ("bot0", "bot2"):
        stage.container(bot, "gateway")
        record.mark(
            stage.root,
            Record(bot, "operator", record.now(), "\u200bodd \U0001f469\u200d\U0001f4bb", source="dashboard"),
        )
    stage.spawn(gateway)
    guard.once()
    assert stage.alive() == set()
    assert locks.read_lock(stage.root, "bot2").state == "locked"


def test_what_fails_for_one_bot_is_done_for_the_others(stage, guard, gateway, monkeypatch):
    stage.container("bot0", "gateway")
    record.mark(stage.root, Record("bot0", "operator", record.now(), "", source="dashboard"))
    stage.spawn(gateway)

    def fail(*_arguments, **_options):
        raise ValueError("nobody has thought of this")

    monkeypatch.setattr(guard_module, "apply_lock", fail)
    with pytest.raises(CoreError, match="nobody has thought of this"):
        guard.once()
    assert len(stage.alive()) == 1, "bot0's, whose lock could not be finished"


def test_packet_filter_that_cannot_be_asked_keeps_nothing_alive(stage, guard, gateway, monkeypatch):
    stage.spawn(gateway)

    def fail(*_arguments, **_options):
        raise NetworkError("nft is not there")

    monkeypatch.setattr(stage.filter, "is_cut", fail)
    with pytest.raises(CoreError, match="nft is not there"):
        guard.once()
    assert stage.alive() == set()
