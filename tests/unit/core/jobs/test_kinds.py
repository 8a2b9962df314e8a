from __future__ import annotations

from pathlib import Path
from unittest.mock import create_autospec

import pytest

from clawfactory_core.errors import Conflict, CoreError, InvalidInput, MissingDependency
from clawfactory_core.jobs import kinds
from clawfactory_core.jobs.kinds import WORK, Work, do_work
from clawfactory_core.jobs.protocol import KINDS, Refusal
from clawfactory_core.promotion import apply, decide, info, memory, plan
from clawfactory_core.promotion.records import Denial
from clawfactory_core.snapshots import create, settings

SHA = "0123456789abcdef0123456789abcdef01234567"
NEW = "f" * 40


def nobody(progress: object) -> None:
    raise AssertionError("no progress is told")


@pytest.fixture
def promotion(monkeypatch):
    """Both halves of a promotion, called as they may be called."""
    planned = create_autospec(plan.plan_promotion)
    applied = create_autospec(apply.apply_promotion)
    applied.return_value = apply.PromotionResult("promoted", SHA, NEW, snapshot="s--1", recreated=True, seconds=1.0)
    monkeypatch.setattr(plan, "plan_promotion", planned)
    monkeypatch.setattr(apply, "apply_promotion", applied)
    return planned, applied


def work(root: Path, kind: str, source: str = "dashboard", **options: str) -> Work:
    return Work(root, "bot1", kind, "octocat", source, options)


def test_there_is_work_for_every_kind_of_job():
    assert set(KINDS) < set(WORK)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (("promotion", "dashboard", {}), {}),
        (("promotion", "webhook", {"sha": SHA, "delivery": "d"}), {"sha": SHA, "delivery": "d"}),
        (("promotion", "polling", {"sha": SHA}), {"sha": SHA}),
        (("promotion", "dashboard", {"proposal": "x", "expected_sha": SHA}), {"proposal": "x", "expected": SHA}),
        (("rollback", "dashboard", {"sha": SHA}), {"sha": SHA, "rollback": True}),
        (("rollback", "dashboard", {}), {"rollback": True}),
    ],
)
def test_a_promotion_is_asked_of_the_core_as_it_was_asked_here(tmp_path, promotion, asked, expected):
    planned, applied = promotion
    kind, source, options = asked
    result = do_work(work(tmp_path, kind, source, **options), nobody)
    request = plan.PromotionRequest(root=tmp_path, bot="bot1", actor="octocat", source=source, **expected)
    planned.assert_called_once_with(request)
    applied.assert_called_once_with(planned.return_value, nobody)
    assert result == {
        "result": "promoted",
        "from": SHA,
        "to": NEW,
        "reason": "",
        "snapshot": "s--1",
        "recreated": True,
    }


def test_a_promotion_that_was_undone_has_failed(tmp_path, promotion):
    promotion[1].return_value = apply.PromotionResult("restored", SHA, NEW, reason="npm: no such package " + "x" * 9000)
    with pytest.raises(Refusal) as caught:
        do_work(work(tmp_path, "promotion"), nobody)
    assert (caught.value.status, caught.value.title) == (422, "Restored")
    assert SHA in caught.value.detail and "npm" in caught.value.detail
    assert len(caught.value.detail) <= 4000


def test_a_denial_reaches_the_core(tmp_path, monkeypatch):
    denied = create_autospec(decide.deny, return_value=Denial("x", SHA, "no", "octocat", "now"))
    monkeypatch.setattr(decide, "deny", denied)
    assert do_work(work(tmp_path, "deny", proposal="x", reason="no"), nobody) == {"proposal": "x", "commit": SHA}
    denied.assert_called_once_with(tmp_path, "bot1", "x", "no", actor="octocat", source="dashboard")


def test_a_memory_backup_reaches_the_core(tmp_path, monkeypatch):
    backed_up = create_autospec(memory.backup_memory)
    backed_up.return_value = create_autospec(memory.MemoryBackup, instance=True)
    for name, value in {"commit": SHA, "changed": True, "files": {"MEMORY.md": 3}, "left_out": {}}.items():
        setattr(backed_up.return_value, name, value)
    monkeypatch.setattr(memory, "backup_memory", backed_up)
    done = do_work(work(tmp_path, "memory_backup"), nobody)
    assert done == {"commit": SHA, "changed": True, "files": 1, "left_out": 0}
    backed_up.assert_called_once_with(tmp_path, "bot1", actor="octocat")


def test_a_snapshot_has_its_label(tmp_path, monkeypatch):
    request = create_autospec(settings.snapshot_request)
    monkeypatch.setattr(settings, "snapshot_request", request)
    made = create_autospec(create.apply_snapshot, side_effect=Conflict("too little room"))
    monkeypatch.setattr(create, "apply_snapshot", made)
    with pytest.raises(Refusal) as caught:
        do_work(work(tmp_path, "snapshot", label="mine"), nobody)
    assert caught.value.status == 409
    request.assert_called_once_with(tmp_path, "bot1", label="mine")
    made.assert_called_once_with(request.return_value, nobody)


def test_what_was_cut_short_is_settled_also_while_the_bot_is_locked(tmp_path, monkeypatch):
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "bot1").touch()
    resumed = create_autospec(apply.resume, return_value="undone")
    monkeypatch.setattr(apply, "resume", resumed)
    monkeypatch.setattr(info, "promotion_info", create_autospec(info.promotion_info, return_value={"main": SHA}))
    assert do_work(work(tmp_path, "resume"), nobody) == {"outcome": "undone"}
    assert do_work(work(tmp_path, "promotion_info"), nobody) == {"main": SHA}
    for kind in KINDS:
        with pytest.raises(Refusal) as caught:
            do_work(work(tmp_path, kind, proposal="x", reason="no"), nobody)
        assert caught.value.status == 423


def test_a_lock_that_is_a_broken_link_is_a_lock(tmp_path):
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "bot1").symlink_to("nowhere")
    with pytest.raises(Refusal):
        kinds.check_unlocked(tmp_path, "bot1")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInput("not on main"), 422),
        (Conflict("going on"), 409),
        (CoreError("no answer"), 500),
        (MissingDependency("git"), 500),
        (OSError(28, "No space left on device"), 500),
    ],
)
def test_an_error_of_the_core_keeps_its_words(tmp_path, promotion, error, status):
    promotion[0].side_effect = error
    with pytest.raises(Refusal) as caught:
        do_work(work(tmp_path, "promotion"), nobody)
    assert (caught.value.status, caught.value.detail) == (status, str(error))


def test_the_reports_of_others_stay_short(tmp_path, promotion):
    promotion[0].side_effect = Conflict("x" * 100_000)
    with pytest.raises(Refusal) as caught:
        do_work(work(tmp_path, "promotion"), nobody)
    assert len(caught.value.detail) == 4000
