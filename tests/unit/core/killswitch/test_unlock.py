from __future__ import annotations

from dataclasses import replace

import pytest

from clawfactory_core import locks
from clawfactory_core.errors import Conflict, CoreError, InvalidInput
from clawfactory_core.killswitch import record, unlock
from clawfactory_core.killswitch.lock import LockRequest, apply_lock
from clawfactory_core.killswitch.machine_lock import exceptions, read_machine
from clawfactory_core.killswitch.unlock import UnlockRequest, apply_unlock, plan_unlock
from tests.support.killswitch_stage import Death


@pytest.fixture
def gateway(stage):
    """bot1's gateway, locked."""
    stage.start_engine()
    number = stage.container("bot1", "gateway")
    stage.container("bot1", "sandbox", policy="no")
    apply_lock(LockRequest(stage.root, ("bot1",), actor="alice", reason="talks"), stage.world)
    stage.events.clear()
    return number


@pytest.fixture
def request_(stage):
    return UnlockRequest(stage.root, ("bot1",), actor="bob")


def test_everything_is_as_before_and_nothing_is_started(stage, gateway, request_):
    done = apply_unlock(request_, stage.world)
    assert done.changed and done.locks["bot1"]["actor"] == "alice"
    assert stage.filter.cut_off == set() and stage.policy(gateway) == "unless-stopped" and stage.alive() == set()
    assert list((stage.root / "locks").iterdir()) == []
    assert stage.events == ["open", "policy"]


def test_audit_is_the_trace_that_stays(stage, gateway, request_):
    apply_unlock(request_, stage.world)
    line = stage.audit("bot1")[-1]
    assert (line["event"], line["actor"], line["locked_by"], line["locked_for"]) == ("unlock", "bob", "alice", "talks")


def test_second_unlock_is_a_no_op(stage, gateway, request_):
    apply_unlock(request_, stage.world)
    stage.events.clear()
    again = apply_unlock(request_, stage.world)
    assert not again.changed and again.locks == {"bot1": None} and stage.events == []
    assert len(stage.audit("bot1")) == 2


def test_others_stay_locked(stage, gateway, request_):
    apply_lock(LockRequest(stage.root, ("bot2",), actor="alice"), stage.world)
    apply_unlock(request_, stage.world)
    assert stage.filter.cut_off == {"bot2"} and locks.locked_bots(stage.root) == ["bot2"]


def test_bot_that_is_cut_off_without_a_lock_is_opened(stage, gateway, request_):
    stage.lock_file("bot1").unlink()
    assert apply_unlock(request_, stage.world).changed
    assert stage.filter.cut_off == set()


def test_hung_engine_refuses_and_leaves_all_locked(stage, request_):
    stage.hang_engine()
    stage.container("bot1", "gateway")
    apply_lock(LockRequest(stage.root, ("bot1",), actor="alice"), stage.world)
    with pytest.raises(Conflict, match=r"does not answer.*nothing has been unlocked"):
        apply_unlock(request_, stage.world)
    assert locks.is_locked(stage.root, "bot1") and stage.filter.cut_off == {"bot1"}


def test_stopped_engine_gets_its_policies_back_in_its_files(stage, request_):
    number = stage.container("bot1", "gateway")
    apply_lock(LockRequest(stage.root, ("bot1",), actor="alice"), stage.world)
    apply_unlock(request_, stage.world)
    assert stage.policy(number) == "unless-stopped"


@pytest.mark.parametrize("dies_in", ["Filter.open", "unlock._give_back", "unlock._audit", "record.end_unlocking"])
def test_second_unlock_finishes_what_a_killed_one_left(stage, gateway, request_, monkeypatch, dies_in):
    modules = {"Filter": type(stage.filter), "unlock": unlock, "record": record}
    where, what = dies_in.split(".")

    def die(*_: object, **__: object) -> None:
        raise Death

    with monkeypatch.context() as patched:
        patched.setattr(modules[where], what, die)
        with pytest.raises(Death):
            apply_unlock(request_, stage.world)
    done = apply_unlock(request_, stage.world)
    assert done.changed and stage.filter.cut_off == set() and stage.policy(gateway) == "unless-stopped"
    assert list((stage.root / "locks").iterdir()) == []


def test_lock_in_the_middle_of_an_unlock_keeps_what_there_is_to_give_back(stage, gateway, request_, monkeypatch):
    def die(*_: object, **__: object) -> None:
        raise Death

    with monkeypatch.context() as patched:
        patched.setattr(unlock, "_give_back", die)
        with pytest.raises(Death):
            apply_unlock(request_, stage.world)
    apply_lock(LockRequest(stage.root, ("bot1",), actor="carol"), stage.world)
    apply_unlock(request_, stage.world)
    assert stage.policy(gateway) == "unless-stopped"


def test_machine_stays_cut_unless_it_is_named(stage, gateway, request_):
    machine = exceptions(["192.0.2.7"], None)
    apply_lock(LockRequest(stage.root, ("bot1",), actor="alice", machine=machine), stage.world)
    with pytest.raises(Conflict, match="unlock_scope=machine"):
        apply_unlock(request_, stage.world)
    assert locks.is_locked(stage.root, "bot1")
    apply_unlock(replace(request_, machine=True), stage.world)
    assert read_machine(stage.root) is None and stage.filter.machine is None


def test_broken_packet_filter_is_an_error_and_the_next_call_finishes(stage, gateway, request_):
    stage.filter.broken = "nft cannot be run"
    with pytest.raises(CoreError, match="nft"):
        apply_unlock(request_, stage.world)
    stage.filter.broken = ""
    apply_unlock(request_, stage.world)
    assert stage.filter.cut_off == set() and stage.policy(gateway) == "unless-stopped"


def test_plan_reads_only(stage, gateway, request_):
    assert plan_unlock(request_, stage.world).changed
    assert locks.is_locked(stage.root, "bot1") and stage.events == []


def test_no_bot_is_refused(stage, request_):
    with pytest.raises(InvalidInput, match="no bot is named"):
        apply_unlock(replace(request_, bots=()), stage.world)


def test_engine_that_refuses_is_a_problem_and_the_next_call_finishes(stage, gateway, request_):
    stage.server.status = 500
    done = apply_unlock(request_, stage.world)
    assert "restart policy of clawfactory-bot1-gateway" in done.problems[0]
    assert not locks.is_locked(stage.root, "bot1") and stage.filter.cut_off == set()
    stage.server.status = 200
    assert apply_unlock(request_, stage.world).changed
    assert stage.policy(gateway) == "unless-stopped" and list((stage.root / "locks").iterdir()) == []
