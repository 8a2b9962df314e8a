"""An operator without a remote promotes commits of his own: they come as a bundle, and ``main`` moves to them."""

from __future__ import annotations

import pytest

from clawfactory_core.errors import Conflict, CoreError, InvalidInput
from clawfactory_core.promotion.apply import apply_promotion
from tests.unit.core.promotion.promotion_machine import BROKEN


def bring(machine, files, base: str = "main"):
    """A bundle of a commit of the operator's, made in a clone of his."""
    clone = machine.top / "clone"
    if not clone.exists():
        machine.git(machine.top, "clone", "-q", "-b", "main", str(machine.bot.origin), str(clone))
    machine.git(clone, "fetch", "-q", "origin")
    machine.git(clone, "checkout", "-q", "--detach", machine.main if base == "main" else base)
    for name, text in files.items():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text(text)
    machine.git(clone, "add", "--all")
    machine.git(clone, "commit", "-q", "--allow-empty", "-m", "mine")
    bundle = machine.top / "bundle"
    machine.git(clone, "bundle", "create", "-q", str(bundle), "HEAD")
    return bundle, machine.git(clone, "rev-parse", "HEAD")


def test_own_commit_becomes_main(machine):
    before = machine.main
    bundle, commit = bring(machine, {"workspace/SOUL.md": "mine\n"})
    plan = machine.plan(bundle=bundle)
    assert (plan.current, plan.target) == (before, commit)
    assert "+mine" in plan.diff
    assert machine.main == before, "a look moved the branch"
    assert machine.promote(bundle=bundle).result == "promoted"
    assert machine.main == machine.consistent() == commit
    assert not machine.plan(bundle=bundle).changed


def test_own_commit_that_does_not_stay_is_not_main(machine):
    before = machine.main
    bundle, _ = bring(machine, {f"workspace/{BROKEN}": "x"})
    assert machine.promote(bundle=bundle).result == "restored"
    assert machine.main == machine.consistent() == before


def test_own_commit_has_to_follow_on_main(machine):
    first = machine.main
    machine.commit({"workspace/SOUL.md": "theirs\n"})
    bundle, commit = bring(machine, {"workspace/SOUL.md": "mine\n"}, base=first)
    with pytest.raises(Conflict, match=f"{commit} does not follow on main.*playbooks/clone.yml"):
        machine.plan(bundle=bundle)


def test_main_that_moves_meanwhile_is_not_lost(machine):
    bundle, _ = bring(machine, {"workspace/SOUL.md": "mine\n"})
    plan = machine.plan(bundle=bundle)
    theirs = machine.commit({"workspace/SOUL.md": "theirs\n"})
    with pytest.raises(Conflict, match="main moved"):
        apply_promotion(plan, None, machine.gateway)
    assert machine.main == theirs
    assert machine.gateway.seen()["commit"] == machine.consistent() == plan.current


def test_own_tree_is_judged_like_any_other(machine):
    bundle, _ = bring(machine, {"workspace/.gitattributes": "* text\n"})
    with pytest.raises(InvalidInput, match="gitattributes"):
        machine.promote(bundle=bundle)


@pytest.mark.parametrize("content", [b"", b"# v2 git bundle\n\n", b"no bundle"])
def test_what_is_no_bundle_is_refused(machine, content):
    (machine.top / "bundle").write_bytes(content)
    with pytest.raises(InvalidInput, match="git bundle create FILE HEAD"):
        machine.plan(bundle=machine.top / "bundle")
    with pytest.raises(InvalidInput, match="No such file"):
        machine.plan(bundle=machine.top / "absent")


def test_bundle_that_is_cut_short_changes_nothing(machine):
    before = machine.main
    bundle, _ = bring(machine, {"workspace/SOUL.md": "mine\n"})
    bundle.write_bytes(bundle.read_bytes()[:-30])
    with pytest.raises(CoreError, match="cannot fetch the commit"):
        machine.promote(bundle=bundle)
    assert machine.main == machine.consistent() == before


def test_where_the_remote_decides_it_is_refused(machine):
    bundle, _ = bring(machine, {})
    machine.settings(remote={"url": str(machine.bot.origin), "branch": "main", "user": ""})
    with pytest.raises(Conflict, match="push to main there"):
        machine.plan(bundle=bundle)


@pytest.mark.parametrize("other", [{"proposal": "x"}, {"sha": "0" * 40}, {"rollback": True}])
def test_one_thing_at_a_time(machine, other):
    bundle, _ = bring(machine, {})
    with pytest.raises(InvalidInput, match="exclude each other"):
        machine.plan(bundle=bundle, **other)
