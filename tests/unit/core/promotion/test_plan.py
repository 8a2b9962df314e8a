"""What a promotion would do, and what is refused before anything is done."""

from __future__ import annotations

import os

import pytest

from clawfactory_core.errors import Conflict, CoreError, InvalidInput
from clawfactory_core.promotion.decide import deny
from clawfactory_core.promotion.info import promotion_info, table
from clawfactory_core.promotion.plan import drift
from clawfactory_core.promotion.state import load
from tests.unit.core.promotion.promotion_machine import BOT, BROKEN, Machine


def everything(machine: Machine) -> dict[str, tuple[int, int]]:
    """Every file but git's objects: a plan may leave objects there that nothing refers to."""
    found = {}
    for path in machine.root.rglob("*"):
        if path.is_file() and "/objects/" not in str(path) and path.name not in ("lock", "FETCH_HEAD"):
            found[str(path)] = (path.stat().st_ino, path.stat().st_size)
    return found


def test_newest_commit_of_main(machine):
    before = machine.approved_commit
    target = machine.commit({"workspace/SOUL.md": "kinder\n", "README.md": None})
    plan = machine.plan(check=True)
    assert (plan.current, plan.target, plan.changed) == (before, target, True)
    assert plan.statistics == {"files": 2, "added": 1, "removed": 2}
    assert "-kind\n+kinder\n" in plan.diff
    assert not plan.recreate
    assert plan.to_dict()["target"] == target


def test_nothing_new(machine):
    plan = machine.plan(check=True)
    assert not plan.changed
    assert plan.diff == ""


def test_named_commit_of_main(machine):
    first = machine.commit({"workspace/SOUL.md": "1\n"})
    machine.commit({"workspace/SOUL.md": "2\n"})
    assert machine.plan(sha=first, check=True).target == first


@pytest.mark.parametrize(
    ("files", "added", "removed"),
    [
        ({"workspace/TOOLS.md": "t\n"}, ("TOOLS.md",), ()),
        ({"workspace/SOUL.md": None}, (), ("SOUL.md",)),
        ({"workspace/SOUL.md": None, "workspace/SOUL.md/a": "a"}, ("SOUL.md",), ("SOUL.md",)),
    ],
)
def test_other_entries_make_the_gateway_anew(machine, files, added, removed):
    for path in [path for path, text in files.items() if text is None]:
        machine.commit({path: None})
    machine.commit({path: text for path, text in files.items() if text is not None})
    plan = machine.plan(check=True)
    assert (plan.added, plan.removed, plan.recreate) == (added, removed, True)


def test_entries_below_the_first_level_do_not(machine):
    machine.commit({"workspace/skills/b.md": "b\n", "docs/x.md": "x\n"})
    assert not machine.plan(check=True).recreate


def test_looking_changes_nothing(machine):
    machine.commit({"workspace/SOUL.md": "kinder\n"})
    machine.propose("more", {"workspace/new.md": "n\n"})
    before = everything(machine)
    machine.plan(check=True)
    assert everything(machine) == before


def test_proposal_is_shown_as_its_merge(machine):
    machine.propose("more", {"workspace/new.md": "n\n"})
    main = machine.commit({"workspace/SOUL.md": "kinder\n"})
    plan = machine.plan(proposal="proposal/more", check=True)
    assert plan.added == ("new.md",)
    assert "kinder" in plan.diff
    assert "new.md" in plan.diff
    assert machine.main == main


def test_conflict_names_the_files(machine):
    machine.propose("mine", {"workspace/SOUL.md": "mine\n", "workspace/skills/a.md": "mine\n"})
    machine.commit({"workspace/SOUL.md": "theirs\n", "workspace/skills/a.md": "theirs\n"})
    main = machine.main
    with pytest.raises(Conflict, match=r"conflicts with main in workspace/SOUL.md, workspace/skills/a.md;"):
        machine.plan(proposal="mine")
    assert machine.main == main


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"sha": "abc"}, "40 hexadecimal digits"),
        ({"sha": "--all"}, "40 hexadecimal digits"),
        ({"sha": "f" * 40}, "is not on main"),
        ({"source": "chat"}, "source 'chat' is unknown"),
        ({"actor": ""}, "is no name"),
        ({"actor": "a\nb"}, "is no name"),
        ({"actor": "a" * 101}, "is no name"),
        ({"proposal": "../x"}, "not valid"),
        ({"proposal": "x", "sha": "a" * 40}, "exclude each other"),
        ({"proposal": "absent"}, "has no proposal/absent"),
        ({"proposal": "x", "expected": "abc"}, "40 hexadecimal digits"),
        ({"rollback": True}, "nothing was approved before"),
        ({"rollback": True, "sha": "f" * 40}, "never approved"),
        ({"bot": "bot2"}, "not deployed"),
    ],
)
def test_bad_input_is_refused_before_anything(machine, fields, match):
    before = everything(machine)
    if "bot" in fields:
        with pytest.raises(InvalidInput, match=match):
            load(machine.root, fields["bot"])
        return
    with pytest.raises(InvalidInput, match=match):
        machine.plan(**fields)
    assert everything(machine) == before
    assert machine.gateway.did == []


def test_commit_that_is_not_on_main(machine):
    commit = machine.propose("aside", {"workspace/SOUL.md": "evil\n"})
    machine.git(machine.bot.origin, "fetch", "-q", str(machine.bot.proposals), "refs/heads/*:refs/proposals/*")
    with pytest.raises(InvalidInput, match=f"commit {commit} is not on main"):
        machine.plan(sha=commit)


def test_commit_within_a_merged_proposal(machine):
    within = machine.propose("more", {"workspace/SOUL.md": "evil\n"})
    machine.git(machine.work, "checkout", "-q", "proposal")
    tip = machine.commit({"workspace/SOUL.md": "kinder\n"}, "proposal/more", str(machine.bot.proposals))
    machine.git(machine.work, "checkout", "-q", "main")
    assert machine.promote(proposal="more").result == "promoted"
    for commit in (within, tip):
        with pytest.raises(InvalidInput, match=f"commit {commit} is not on main"):
            machine.plan(sha=commit)


def test_proposal_that_moved(machine):
    seen = machine.propose("more", {"workspace/new.md": "1\n"})
    machine.git(machine.bot.proposals, "update-ref", "-d", "refs/heads/proposal/more")
    machine.propose("more", {"workspace/new.md": "2\n"})
    with pytest.raises(Conflict, match="look at it again"):
        machine.plan(proposal="more", expected=seen)


def test_denied_proposal(machine):
    machine.propose("more", {"workspace/new.md": "1\n"})
    deny(machine.root, BOT, "more", "not now", actor="alice", source="playbook")
    with pytest.raises(Conflict, match=r"is denied \(not now\); reopen it first"):
        machine.plan(proposal="more")


def test_locked_bot(machine):
    machine.commit({"workspace/SOUL.md": "kinder\n"})
    machine.lock()
    for fields in ({}, {"rollback": True}):
        with pytest.raises(Conflict, match="locked"):
            machine.plan(**fields)


def test_delivery_that_was_seen(machine):
    machine.commit({"workspace/SOUL.md": "kinder\n"})
    assert machine.promote(source="webhook", delivery="d-1").result == "promoted"
    machine.commit({"workspace/SOUL.md": "kindest\n"})
    with pytest.raises(Conflict, match="d-1 was seen before"):
        machine.plan(source="webhook", delivery="d-1")


@pytest.mark.parametrize("source", ["webhook", "polling"])
def test_news_that_come_late_do_not_go_back(machine, source):
    first = machine.commit({"workspace/SOUL.md": "1\n"})
    machine.commit({"workspace/SOUL.md": "2\n"})
    machine.promote()
    assert not machine.plan(source=source, sha=first).changed
    assert machine.plan(sha=first).changed


def test_polling_does_not_undo_a_rollback(machine):
    bad = machine.commit({"workspace/SOUL.md": "1\n"})
    machine.promote()
    machine.promote(rollback=True)
    assert not machine.plan(source="polling").changed
    with pytest.raises(Conflict, match=f"{bad} was rolled back by alice"):
        machine.plan(source="webhook", sha=bad, delivery="d-2")
    # People may, and so may what comes after it.
    assert machine.plan(source="dashboard").target == bad
    good = machine.commit({"workspace/SOUL.md": "2\n"})
    assert machine.plan(source="polling").target == good


def test_polling_does_not_try_again_what_did_not_stay(machine):
    bad = machine.commit({f"workspace/{BROKEN}": "x"})
    assert machine.promote(source="polling").result == "restored"
    assert not machine.plan(source="polling").changed
    with pytest.raises(Conflict, match=f"{bad} did not stay"):
        machine.plan(source="webhook", sha=bad, delivery="d-2")
    assert machine.plan().target == bad


def dirty(machine: Machine, how: str) -> None:
    if how == "changed":
        (machine.approved / "workspace" / "SOUL.md").write_text("evil\n")
    elif how == "added":
        (machine.approved / "workspace" / "extra.md").write_text("x")
    elif how == "deleted":
        (machine.approved / "README.md").unlink()
    else:
        (machine.approved / "workspace" / "skills" / "a.md").chmod(0o755)


@pytest.mark.parametrize(
    ("how", "path"),
    [
        ("changed", "workspace/SOUL.md"),
        ("added", "workspace/extra.md"),
        ("deleted", "README.md"),
        ("mode", "workspace/skills/a.md"),
    ],
)
def test_tree_that_somebody_changed(machine, how, path):
    machine.commit({"workspace/SOUL.md": "kinder\n"})
    dirty(machine, how)
    assert drift(machine.bot) == [path]
    assert promotion_info(machine.root, BOT)["drift"] == [path]
    with pytest.raises(Conflict, match=f"not as it was promoted: {path};"):
        machine.plan()


def test_commit_of_somebody_else(machine):
    machine.git(machine.approved, "config", "user.email", "x@x")
    machine.git(machine.approved, "commit", "-q", "--allow-empty", "-m", "foreign")
    with pytest.raises(Conflict, match="not on the branch"):
        machine.plan()
    assert not promotion_info(machine.root, BOT)["on_main"]


def test_no_checkout_at_all(machine):
    machine.approved.rename(machine.top / "away")
    with pytest.raises(Conflict, match="is no checkout"):
        machine.plan()


def test_tree_that_may_not_be_approved(machine):
    os.symlink("/etc/passwd", machine.work / "workspace" / "skills" / "link")
    commit = machine.commit({})
    with pytest.raises(InvalidInput, match=f"{commit} may not be approved: workspace/skills/link"):
        machine.plan()


def test_limits_are_the_roles(machine):
    machine.commit({"workspace/a.md": "x" * 2000})
    machine.settings(limits={"blob_bytes": 1000})
    with pytest.raises(InvalidInput, match="may not be approved"):
        machine.plan()
    machine.settings(limits={"blobs": 1000})
    with pytest.raises(InvalidInput, match="promotion_limits"):
        machine.plan()


class TestRemote:
    @pytest.fixture
    def remote(self, machine):
        path = machine.top / "remote.git"
        machine.git(machine.top, "clone", "-q", "--bare", str(machine.bot.origin), str(path))
        machine.settings(remote={"url": str(path), "branch": "main", "user": ""})
        return path

    def test_its_branch_is_the_authority(self, machine, remote):
        target = machine.commit({"workspace/SOUL.md": "kinder\n"}, push=str(remote))
        assert machine.plan().target == target
        assert machine.main == target

    def test_commit_on_another_branch_of_it(self, machine, remote):
        commit = machine.commit({"workspace/SOUL.md": "evil\n"}, branch="other", push=str(remote))
        with pytest.raises(InvalidInput, match=f"{commit} is not on branch main of the remote"):
            machine.plan(sha=commit)

    def test_proposals_are_merged_there(self, machine, remote):
        machine.propose("more", {"workspace/new.md": "1\n"})
        with pytest.raises(Conflict, match="merge proposal/more into main there"):
            machine.plan(proposal="more")

    def test_rewritten_history(self, machine, remote):
        machine.git(machine.work, "checkout", "-q", "--orphan", "fresh")
        machine.commit({"workspace/SOUL.md": "evil\n"}, branch="other", push=str(remote))
        machine.git(remote, "update-ref", "refs/heads/main", "refs/heads/other")
        main = machine.main
        with pytest.raises(Conflict):
            machine.plan()
        assert machine.main == main

    def test_gone(self, machine, remote):
        known = machine.commit({"workspace/SOUL.md": "kinder\n"}, push=str(remote))
        machine.plan()
        remote.rename(machine.top / "gone")
        with pytest.raises(CoreError):
            machine.plan()
        with pytest.raises(CoreError):
            machine.plan(sha="f" * 40)
        # What has been fetched can be promoted, and one can always go back.
        machine.promote(sha=known)
        machine.promote(rollback=True)


def test_info_tells_all_of_it(machine):
    commit = machine.propose("more", {"workspace/new.md": "1\n"})
    machine.propose("bad", {"workspace/new.md": "2\n"})
    deny(machine.root, BOT, "bad", "no", actor="alice", source="playbook")
    machine.commit({"workspace/SOUL.md": "kinder\n"})
    machine.promote()
    machine.commit({"workspace/SOUL.md": "kindest\n"})
    info = promotion_info(machine.root, BOT)
    assert (info["ahead"], info["behind"], info["on_main"], info["drift"], info["running"]) == (0, 1, True, [], "")
    assert {(p["name"], p["state"], p["reason"]) for p in info["proposals"]} == {
        ("more", "open", ""),
        ("bad", "denied", "no"),
    }
    assert next(p["commit"] for p in info["proposals"] if p["name"] == "more") == commit
    assert [entry["result"] for entry in info["history"]] == ["promoted"]
    lines = table(info)
    assert lines[0].startswith("bot1: approved ")
    assert "1 behind, 0 ahead of main" in lines[0]
    assert any("promotion by alice (playbook)" in line for line in lines)
    assert str(machine.root) not in "\n".join(lines)
