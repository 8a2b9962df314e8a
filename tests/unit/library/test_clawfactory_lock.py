from __future__ import annotations

import pytest

import library.clawfactory_lock as module
from clawfactory_core import locks
from clawfactory_core.killswitch import lock, unlock
from tests.support.killswitch_stage import Stage

MODULE = "clawfactory_lock"


@pytest.fixture
def stage(tmp_path, monkeypatch):
    made = Stage(tmp_path)
    for where in (module, lock, unlock):
        monkeypatch.setattr(where, "World", lambda: made.world)
    yield made
    made.close()


def ask(stage, **more):
    return {"root": str(stage.root), "bots": ["bot1"], "actor": "alice", **more}


def test_lock_check_mode_again_and_back(run_module, stage):
    stage.start_engine()
    stage.container("bot1", "gateway", processes=2)
    looked = run_module(MODULE, check=True, **ask(stage))
    assert looked["changed"] and looked["bots"]["bot1"]["planned"] == [
        "cut off its network",
        "kill 2 processes",
        "lock",
    ]
    assert looked["diff"] == [{"prepared": "bot1: cut off its network, kill 2 processes, lock\n"}]
    assert stage.events == [] and not locks.is_locked(stage.root, "bot1")

    done = run_module(MODULE, **ask(stage, reason="talks"))
    assert (done["changed"], done["network"], done["killed"], done["left"]) == (True, "nft", 2, [])
    assert (done["bots"]["bot1"]["actor"], done["bots"]["bot1"]["reason"]) == ("alice", "talks")
    assert "locked by alice" in done["diff"][0]["after"]

    for check in (False, True):
        assert not run_module(MODULE, check=check, **ask(stage))["changed"]

    looked = run_module(MODULE, check=True, **ask(stage, state="unlocked"))
    assert looked["changed"] and locks.is_locked(stage.root, "bot1")
    done = run_module(MODULE, **ask(stage, state="unlocked"))
    assert done["changed"] and done["bots"]["bot1"]["actor"] == "alice" and not locks.is_locked(stage.root, "bot1")
    assert not run_module(MODULE, **ask(stage, state="unlocked"))["changed"]


def test_machine_scope_lets_in_who_is_named(run_module, stage, monkeypatch):
    monkeypatch.setattr(module, "find_session", lambda: None)
    run_module(MODULE, **ask(stage, scope="machine", ssh=True, allow=["192.0.2.7"]))
    assert stage.filter.machine.addresses == ("192.0.2.7/32",)


def test_machine_scope_does_not_lock_the_operator_out(run_module, stage, monkeypatch):
    monkeypatch.setattr(module, "find_session", lambda: None)
    done = run_module(MODULE, **ask(stage, scope="machine", ssh=True))
    assert done["failed"] and "lockdown_allow" in done["msg"]
    assert stage.events == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"bots": ["../x"]}, "bot name"),
        ({"bots": []}, "no bot"),
        ({"scope": "machine", "allow": ["x"]}, "lockdown_allow"),
    ],
)
def test_bad_input_is_refused(run_module, stage, more, said):
    done = run_module(MODULE, **ask(stage, **more))
    assert done["failed"] and said in done["msg"] and stage.events == []
