"""What a restore left that ended in the middle: settled before the bot starts, and decided by the operator."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from clawfactory_core import machine
from clawfactory_core.allocation import read_allocations
from tests.unit.core.snapshots.archive_maker import File
from tests.unit.core.snapshots.restore_machine import Machine

MODULE = "clawfactory_restore"
SETTLE = "ansible.module_utils.clawfactory_core.snapshots.settle"


class Engine:
    running: tuple[str, ...] = ()

    def containers(self, label: str) -> list[dict[str, Any]]:
        labels = {"clawfactory.service": "gateway"}
        return [
            {"Name": f"/{name}", "State": {"Status": "running"}, "Config": {"Labels": labels}}
            for name in Engine.running
        ]


@pytest.fixture(autouse=True)
def engine(monkeypatch) -> type[Engine]:
    importlib.import_module(f"library.{MODULE}")
    monkeypatch.setattr(f"{SETTLE}.EngineSocket", Engine)
    monkeypatch.setattr(Engine, "running", ())
    monkeypatch.setattr("library.clawfactory_allocation.listening_ports", dict, raising=False)
    return Engine


@pytest.fixture
def root(tmp_path, run_module, ownership) -> Path:
    root = tmp_path / "srv"
    assert run_module("clawfactory_allocation", root=str(root), bot="bot1")["changed"]
    return root


def interrupted(root: Path, phase: str, renames: int) -> Path:
    """The power was cut in this phase, after so many of the two renames of a swap."""
    state = root / "bot_repos" / "bot1" / "state"
    (state / "workspace").rmdir()
    (state / "old").touch()
    staged = state.parent / ".restore-made" / "state"
    staged.mkdir(parents=True)
    (staged / "new").touch()
    if renames >= 1:
        state.rename(state.parent / ".state-before-made")
    if renames >= 2:
        staged.rename(state)
    (state.parent / ".restore.json").write_text(json.dumps({"phase": phase, "id": "made", "had_state": True}))
    return state


def drift(root: Path) -> list[str]:
    return machine.layout_drift(root, "10.213.0.0/16", read_allocations(root))


@pytest.mark.parametrize(
    ("phase", "renames", "stands", "left"),
    [
        ("swapping", 1, "old", []),
        ("swapping", 2, "new", ["made"]),
        ("undoing", 2, "old", []),
        ("keeping", 2, "new", []),
    ],
)
def test_deploying_settles_what_ended_in_the_middle_before_it_makes_directories(
    run_module, root, phase, renames, stands, left
):
    state = interrupted(root, phase, renames)
    assert f"{state.parent}/.restore.json" in drift(root)
    assert run_module("clawfactory_allocation", root=str(root), bot="bot1", check=True)["changed"]
    assert run_module("clawfactory_allocation", root=str(root), bot="bot1")["changed"]
    assert sorted(os.listdir(state)) == [stands, "workspace"]
    assert [path.name.removeprefix(".state-before-") for path in state.parent.glob(".state-before-*")] == left
    assert not [path for path in drift(root) if path.endswith(".restore.json")]
    assert not run_module("clawfactory_allocation", root=str(root), bot="bot1")["changed"]


@pytest.mark.parametrize(("phase", "renames"), [("staged", 0), ("waiting", 2)])
def test_what_somebody_has_to_decide_is_left_alone(run_module, root, phase, renames):
    state = interrupted(root, phase, renames)
    before = sorted(os.listdir(state.parent))
    assert not [path for path in drift(root) if path.endswith(".restore.json")]
    assert not run_module(MODULE, root=str(root), bot="bot1", state="recovered")["changed"]
    assert sorted(os.listdir(state.parent)) == before


@pytest.mark.parametrize(("phase", "renames"), [("swapping", 1), ("undoing", 2)])
def test_no_state_is_moved_below_a_bot_that_runs(run_module, root, engine, monkeypatch, phase, renames):
    monkeypatch.setattr(engine, "running", ("clawfactory-bot1-gateway",))
    state = interrupted(root, phase, renames)
    before = sorted(os.listdir(state.parent))
    for name, options in ((MODULE, {"state": "recovered"}), ("clawfactory_allocation", {})):
        answer = run_module(name, root=str(root), bot="bot1", **options)
        assert answer["failed"] and "stop the bot first" in answer["msg"]
    assert sorted(os.listdir(state.parent)) == before


@pytest.mark.parametrize(("decision", "stands"), [("kept", "new"), ("put_back", "old")])
def test_the_operator_decides(run_module, root, decision, stands):
    state = interrupted(root, "waiting", 2)
    assert run_module(MODULE, root=str(root), bot="bot1", state=decision)["changed"]
    assert os.listdir(state) == [stands]
    assert not run_module(MODULE, root=str(root), bot="bot1", state=decision)["changed"]


def test_the_way_back_needs_no_stopped_bot_if_nothing_was_swapped(run_module, root, engine, monkeypatch):
    monkeypatch.setattr(engine, "running", ("clawfactory-bot1-gateway",))
    state = interrupted(root, "staged", 0)
    assert run_module(MODULE, root=str(root), bot="bot1", state="put_back").get("changed") is True
    assert not list(state.parent.glob(".restore*"))
    assert run_module(MODULE, root=str(root), bot="bot1", state="put_back").get("changed") is False


def test_nothing_in_plaintext_stays_if_the_identity_cannot_be_renewed(run_module, tmp_path, monkeypatch):
    bot = Machine(tmp_path)
    bot.maker.write(bot.maker.full({b"secret": File(b"of another bot")}))
    module = importlib.import_module(f"library.{MODULE}")

    def fail(*arguments: object) -> None:
        raise module.CoreError("the identity of the other bot could not be taken out")

    monkeypatch.setattr(module, "renew_identity", fail)
    monkeypatch.setattr(module, "_request", lambda _: bot.request())
    monkeypatch.setattr(module, "_progress", lambda *_: contextlib.nullcontext())
    answer = run_module(MODULE, root=str(tmp_path), bot="bot1", state="staged", from_bot="bot2")
    assert answer["failed"] and "identity" in answer["msg"]
    assert os.listdir(bot.state.parent) == ["state"]
