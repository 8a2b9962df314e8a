from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from clawfactory_core.allocation import AllocationRequest, read_allocations
from clawfactory_core.errors import Conflict, InvalidInput
from clawfactory_core.layout import apply_layout, plan_layout, release_layout

POOL = "10.213.0.0/16"


@pytest.fixture
def root(tmp_path, ownership) -> Path:
    return tmp_path / "srv"


def ask(root: Path, bot: str = "bot1", **more) -> AllocationRequest:
    return AllocationRequest(root=root, bot=bot, pool=POOL, **more)


def access(path: Path, ownership) -> tuple[int, int, int]:
    return (*ownership.of(path), stat.S_IMODE(path.stat().st_mode))


def test_plan_writes_nothing(root):
    slot, files = plan_layout(ask(root))
    assert slot.changed and files.changed
    assert not root.exists()


def test_second_run_changes_nothing(root):
    apply_layout(ask(root))
    slot, files = apply_layout(ask(root))
    assert (slot.changed, files.changes) == (False, [])


def test_directories_belong_to_who_needs_them(root, ownership):
    apply_layout(ask(root))
    wanted = {
        "": (0, 0, 0o755),
        "secrets": (0, 0, 0o700),
        "audit": (0, 0, 0o700),
        "bot_repos/bot1": (0, 0, 0o755),
        "bot_repos/bot1/state": (20001, 20001, 0o700),
        "bot_repos/bot1/state/workspace": (20001, 20001, 0o700),
        "run/bot1/operator": (30001, 40001, 0o2750),
        "snapshots/bot1": (30001, 30001, 0o700),
        "promotion/bot1": (0, 30001, 0o750),
        "promotion/bot1/denied": (0, 30001, 0o750),
        "jobs": (0, 0, 0o700),
        "jobs/bot1": (0, 0, 0o700),
        "run/bot1/jobs": (0, 30001, 0o2750),
    }
    assert {path: access(root / path, ownership) for path in wanted} == wanted


def test_drift_is_repaired(root, ownership):
    apply_layout(ask(root))
    state = root / "bot_repos/bot1/state"
    state.chmod(0o777)
    ownership.give(root / "secrets", 20001, 20001)
    _, files = plan_layout(ask(root))
    assert {str(change.spec.path): change.reasons for change in files.changes} == {
        str(root / "secrets"): ["owner", "group"],
        str(state): ["mode"],
    }
    apply_layout(ask(root))
    assert access(root / "secrets", ownership) == (0, 0, 0o700)


def test_link_of_the_bot_in_its_state_is_refused(root):
    apply_layout(ask(root))
    workspace = root / "bot_repos/bot1/state/workspace"
    workspace.rmdir()
    workspace.symlink_to("/etc")
    before = os.stat("/etc")
    with pytest.raises(InvalidInput, match="workspace"):
        apply_layout(ask(root))
    assert (os.stat("/etc").st_mode, os.stat("/etc").st_uid) == (before.st_mode, before.st_uid)


def test_firewall_file_follows_the_bots(root):
    table = root / "firewall" / "clawfactory.nft"
    for bot in ("bot1", "bot2"):
        slot, _ = apply_layout(ask(root, bot, host_ports=(11434,)))
        assert slot.description["networks"]["edge"]["bridge"] in table.read_text()
    bridge = slot.description["networks"]["edge"]["bridge"]
    assert release_layout(root, POOL, "bot2")
    assert bridge not in table.read_text()
    assert list(read_allocations(root)) == ["bot1"]
    assert not release_layout(root, POOL, "bot2")


def test_conflict_leaves_the_machine_as_it_was(root):
    apply_layout(ask(root))
    before = sorted(root.rglob("*"))
    with pytest.raises(Conflict):
        apply_layout(ask(root, "bot2", gateway_port=18789))
    assert sorted(root.rglob("*")) == before
    assert list(read_allocations(root)) == ["bot1"]


def test_release_keeps_data_of_the_bot(root):
    apply_layout(ask(root))
    kept = root / "bot_repos/bot1/state/memory"
    kept.write_text("x")
    release_layout(root, POOL, "bot1")
    assert kept.read_text() == "x"
