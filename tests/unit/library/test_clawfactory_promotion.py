"""The modules about promotion, on real repositories and a gateway that is a file."""

from __future__ import annotations

import pytest

from clawfactory_core.promotion import apply, recovery
from tests.unit.core.promotion.promotion_machine import BOT, BROKEN, SECRET, Machine, same_user

MODULE, INFO, MEMORY = "clawfactory_promotion", "clawfactory_promotion_info", "clawfactory_memory_backup"


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    same_user(monkeypatch)
    made = Machine(tmp_path)
    for module in (apply, recovery):
        monkeypatch.setattr(module, "gateway_of", lambda bot: made.gateway)
    return made


@pytest.fixture
def ask(machine, run_module):
    def run(name: str = MODULE, **options: object):
        return run_module(name, root=str(machine.root), bot=BOT, **options)

    return run


def test_promotes_once(machine, ask):
    target = machine.commit({"workspace/SOUL.md": "kinder\n", "workspace/TOOLS.md": "t\n"})
    looked = ask(check=True)
    assert (looked["changed"], looked["promotion"]["added"]) == (True, ["TOOLS.md"])
    assert "+ workspace/TOOLS.md\n" in looked["diff"]["prepared"]
    assert "-kind\n+kinder\n" in looked["diff"]["prepared"]
    assert machine.gateway.did == []
    done = ask(actor="alice")
    assert done["changed"]
    assert done["promotion"]["result"] == "promoted"
    assert f"to {target}; its gateway was made anew" in done["told"]
    again = ask()
    assert (again["changed"], again["diff"]["prepared"]) == (False, "")
    assert machine.consistent() == target


def test_proposal_named_with_its_prefix(machine, ask):
    machine.propose("more", {"workspace/SOUL.md": "more\n"})
    assert ask(proposal="proposal/more", check=True)["changed"]
    assert ask(proposal="proposal/more")["changed"]
    assert (machine.approved / "workspace" / "SOUL.md").read_text() == "more\n"


def test_commit_that_does_not_stay_fails_and_says_why(machine, ask):
    before = machine.approved_commit
    machine.commit({f"workspace/{BROKEN}": "x"})
    done = ask()
    assert done["failed"]
    assert not done["changed"]
    assert f"{before} is approved again: the gateway was not ready" in done["msg"]
    assert SECRET not in done["text"]
    assert machine.consistent() == before


def test_goes_back(machine, ask):
    before = machine.approved_commit
    machine.commit({"workspace/SOUL.md": "kinder\n"})
    assert ask(state="rolled_back")["failed"]
    ask()
    assert ask(state="rolled_back", check=True)["promotion"]["target"] == before
    assert ask(state="rolled_back")["changed"]
    assert machine.consistent() == before


def test_closes_and_opens_a_proposal(machine, ask):
    machine.propose("more", {"workspace/SOUL.md": "more\n"})
    asked = {"state": "denied", "proposal": "proposal/more", "reason": "too much"}
    assert ask(**asked, check=True)["changed"]
    done = ask(**asked)
    assert (done["changed"], done["denial"]["name"], done["diff"]["after"]) == (True, "more", "too much\n")
    assert not ask(**asked)["changed"]
    assert ask(INFO)["info"]["proposals"][0]["reason"] == "too much"
    assert ask(state="reopened", proposal="more", check=True)["changed"]
    assert ask(state="reopened", proposal="more")["changed"]
    assert not ask(state="reopened", proposal="more")["changed"]
    assert ask(INFO)["info"]["proposals"][0]["state"] == "open"


def test_denial_needs_a_reason(ask):
    assert "reason" in ask(state="denied", proposal="more")["msg"]


def test_resumes(machine, ask):
    assert (ask(state="resumed")["changed"], ask(state="resumed", check=True)["outcome"]) == (False, "nothing")
    machine.commit({"workspace/SOUL.md": "x\n"})
    machine.gateway.fails = {"restart"}
    assert ask()["failed"]
    assert ask(state="resumed", check=True)["outcome"] == "waiting"
    machine.gateway.fails = set()
    assert ask(state="resumed")["outcome"] == "undone"
    machine.consistent()


def test_lists(machine, ask):
    machine.propose("more", {"workspace/SOUL.md": "more\n"})
    found = ask(INFO, history=1)
    assert not found["changed"]
    assert found["info"]["approved"] == machine.approved_commit
    assert any("open    proposal/more" in line for line in found["table"])


def test_memory(machine, ask):
    workspace = machine.repositories / "state" / "workspace"
    workspace.mkdir()
    (workspace / "MEMORY.md").write_text("rain\n")
    (workspace / "memory.md").write_text(f"{SECRET}\n")
    assert ask(MEMORY, check=True)["changed"]
    done = ask(MEMORY)
    assert done["files"] == {"MEMORY.md": 5}
    assert any(line.startswith("left out: memory.md") for line in done["table"])
    assert SECRET not in done["text"]
    assert not ask(MEMORY)["changed"]


def test_bot_that_is_not_there(run_module, machine):
    for name in (MODULE, INFO, MEMORY):
        assert "not deployed" in run_module(name, root=str(machine.root), bot="bot2")["msg"]
