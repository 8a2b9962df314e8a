"""Promotions that are carried out, and those whose gateway does not get ready."""

from __future__ import annotations

import fcntl
import json
import threading
from types import SimpleNamespace

import pytest

from clawfactory_core import audit
from clawfactory_core.errors import Conflict, CoreError, InvalidInput
from clawfactory_core.promotion import steps as steps_module
from clawfactory_core.promotion.apply import apply_promotion, resume
from clawfactory_core.promotion.decide import deny, undeny
from clawfactory_core.promotion.records import read_denials, read_history
from clawfactory_core.promotion.repository import main_commit
from tests.unit.core.promotion.promotion_machine import BOT, BROKEN, SECRET, UID


def audited(machine) -> list[dict[str, object]]:
    assert audit.verify(machine.bot.audit).problems == ()
    return [json.loads(line) for line in machine.bot.audit.read_text().splitlines()]


def test_gateway_runs_on_the_new_commit(machine):
    before = machine.approved_commit
    target = machine.commit(
        {"workspace/SOUL.md": "kinder\n", "workspace/skills/a.md": None, "workspace/skills/b.md": "b"}
    )
    done = machine.promote()
    assert (done.result, done.from_commit, done.to_commit, done.recreated) == ("promoted", before, target, False)
    assert machine.consistent() == target
    assert (machine.approved / "workspace" / "SOUL.md").read_text() == "kinder\n"
    assert machine.gateway.seen()["commit"] == target
    assert machine.gateway.did == ["running", "restart", "ready"]
    assert machine.repositories.joinpath("approved.previous", "workspace", "SOUL.md").read_text() == "kind\n"


def test_history_and_audit_say_who_and_what(machine):
    before = machine.approved_commit
    target = machine.commit({"workspace/SOUL.md": "kinder\n"})
    machine.promote(actor="octocat", source="webhook", delivery="d-1")
    (entry,) = read_history(machine.bot)
    assert (entry.actor, entry.source, entry.result, entry.delivery) == ("octocat", "webhook", "promoted", "d-1")
    assert (entry.from_commit, entry.to_commit, entry.reason) == (before, target, "")
    (line,) = audited(machine)
    assert (line["event"], line["actor"], line["to_commit"], line["result"]) == (
        "promotion",
        "octocat",
        target,
        "promoted",
    )


def test_nothing_to_do_does_nothing(machine):
    assert machine.promote().result == "unchanged"
    assert machine.gateway.did == []
    assert read_history(machine.bot) == []


def test_other_entries_make_the_gateway_anew(machine):
    target = machine.commit({"workspace/TOOLS.md": "t\n"})
    assert machine.promote().recreated
    assert machine.gateway.did == ["running", "recreate", "ready"]
    seen = machine.gateway.seen()
    assert {entry["name"] for entry in seen["entries"]} == {"SOUL.md", "TOOLS.md", "skills"}
    assert seen["commit"] == target


def test_gateway_that_was_stopped_stays_stopped(machine):
    machine.gateway.write(running=False)
    target = machine.commit({"workspace/TOOLS.md": "t\n"})
    assert machine.promote().result == "promoted"
    assert machine.consistent() == target
    assert not machine.gateway.seen()["running"]
    assert machine.gateway.did == ["running", "recreate"]


def test_proposal_is_merged_first(machine):
    commit = machine.propose("more", {"workspace/new.md": "n\n"})
    done = machine.promote(proposal="proposal/more", expected=commit)
    assert machine.consistent() == machine.main == done.to_commit
    assert machine.git(machine.bot.origin, "rev-parse", "main^2") == commit
    assert "alice" in machine.git(machine.bot.origin, "log", "-1", "--format=%B", "main")


def test_merge_that_no_gateway_starts_with_is_not_on_the_branch(machine):
    """Else the next promotion of the branch would try it again."""
    before = main_commit(machine.bot.origin, machine.bot.uid)
    machine.propose("more", {f"workspace/{BROKEN}": "x"})
    assert machine.promote(proposal="more").result == "restored"
    assert main_commit(machine.bot.origin, machine.bot.uid) == before
    assert machine.promote().result == "unchanged"


def test_branch_that_moves_while_a_merge_is_tried_keeps_what_came(machine):
    before = machine.approved_commit
    machine.propose("more", {"workspace/SOUL.md": "more\n"})
    ready = machine.gateway.ready

    def pushing(seconds):
        machine.commit({"README.md": "x"})
        return ready(seconds)

    machine.gateway.ready = pushing
    done = machine.promote(proposal="more")
    assert (done.result, machine.consistent()) == ("restored", before)
    assert "main moved" in done.reason


def test_proposal_upon_a_main_that_moved_meanwhile(machine):
    machine.propose("more", {"workspace/new.md": "n\n"})
    plan = machine.plan(proposal="more")
    machine.commit({"workspace/other.md": "o\n"})
    done = apply_promotion(plan, None, machine.gateway)
    assert {entry["name"] for entry in machine.gateway.seen()["entries"]} >= {"new.md", "other.md"}
    assert machine.consistent() == done.to_commit


@pytest.mark.parametrize(
    "files", [{f"workspace/{BROKEN}": "x"}, {"workspace/SOUL.md": "x", f"workspace/{BROKEN}": "x"}]
)
def test_gateway_that_does_not_get_ready_gets_the_old_commit_back(machine, files):
    before = machine.approved_commit
    target = machine.commit(files)
    done = machine.promote()
    assert (done.result, done.from_commit, done.to_commit) == ("restored", before, target)
    assert machine.consistent() == before
    seen = machine.gateway.seen()
    assert (seen["running"], seen["commit"]) == (True, before)
    assert {entry["name"] for entry in seen["entries"]} == {"SOUL.md", "skills"}
    assert not (machine.repositories / "approved.next").exists()
    (entry,) = read_history(machine.bot)
    assert entry.result == "restored"
    assert audited(machine)[0]["result"] == "restored"


def test_reason_has_the_gateways_last_words_but_no_secret(machine):
    machine.commit({f"workspace/{BROKEN}": "x"})
    done = machine.promote()
    assert "the gateway was not ready within 10 s" in done.reason
    assert "npm ERR! 404" in done.reason
    assert SECRET not in done.reason
    assert SECRET not in machine.bot.audit.read_text()


def test_no_last_words_where_secrets_cannot_be_told(machine):
    machine.bot.fingerprints.unlink()
    machine.commit({f"workspace/{BROKEN}": "x"})
    assert machine.promote().reason == "the gateway was not ready within 10 s"


def test_engine_that_refuses_is_a_reason_too(machine):
    before = machine.approved_commit
    machine.commit({"workspace/SOUL.md": "x"})
    asked = machine.gateway._ask

    def once(what):
        asked(what)
        if what == "restart" and machine.gateway.did.count("restart") == 1:
            raise CoreError("no space left on device")

    machine.gateway._ask = once
    assert machine.promote().reason == "no space left on device"
    assert machine.consistent() == before
    assert machine.gateway.seen()["running"]


def test_engine_that_is_gone_for_good_leaves_the_old_tree_and_a_way_on(machine):
    before = machine.approved_commit
    machine.commit({"workspace/SOUL.md": "x"})
    machine.gateway.fails = {"restart"}
    with pytest.raises(CoreError, match="is in place again, but its gateway could not be started"):
        machine.promote()
    assert machine.approved_commit == before
    with pytest.raises(CoreError, match="could not be started"):
        resume(machine.root, BOT, machine.gateway)
    machine.gateway.fails = set()
    assert resume(machine.root, BOT, machine.gateway) == "undone"
    assert machine.consistent() == before
    assert machine.gateway.seen() | {"entries": 0} == {"running": True, "commit": before, "entries": 0}
    assert [entry.result for entry in read_history(machine.bot)] == ["restored"]


def test_neither_commit_gets_ready(machine, monkeypatch):
    before = machine.approved_commit
    machine.commit({"workspace/SOUL.md": "x"})
    machine.gateway.ready = lambda seconds: False
    done = machine.promote()
    assert "did not get ready with the commit of before either" in done.reason
    assert machine.consistent() == before


def test_no_gateway_at_all(machine):
    machine.commit({"workspace/SOUL.md": "x"})
    before = machine.approved_commit
    machine.gateway.fails = {"running"}
    with pytest.raises(CoreError, match="refused to running"):
        machine.promote()
    assert machine.consistent() == before


@pytest.mark.parametrize("when", ["restart", "ready"])
def test_lock_that_is_thrown_in_the_middle(machine, when):
    before = machine.approved_commit
    machine.commit({"workspace/SOUL.md": "x"})
    asked = machine.gateway._ask

    def locking(what):
        asked(what)
        if what == when:
            machine.lock()
            machine.gateway.write(running=False)
            if what == "restart":
                raise Conflict("bot1 is locked")

    machine.gateway._ask = locking
    done = machine.promote()
    assert done.result == "restored"
    assert "locked" in done.reason
    assert machine.consistent() == before
    # Nothing started it after the lock.
    assert not machine.gateway.seen()["running"]
    assert machine.gateway.did[-1] == when


def test_lock_in_the_middle_of_other_entries_leaves_a_gateway_of_the_old_ones(machine):
    before = machine.approved_commit
    machine.commit({"workspace/TOOLS.md": "x"})
    asked = machine.gateway._ask

    def locking(what):
        asked(what)
        if what == "ready":
            machine.lock()
            machine.gateway.write(running=False)

    machine.gateway._ask = locking
    assert machine.promote().result == "restored"
    seen = machine.gateway.seen()
    assert not seen["running"]
    assert {entry["name"] for entry in seen["entries"]} == {"SOUL.md", "skills"}
    assert machine.consistent() == before


def test_lock_while_it_is_prepared(machine, monkeypatch):
    before = machine.approved_commit
    machine.commit({"workspace/SOUL.md": "x"})
    checkout = steps_module.repository.checkout

    def locking(*arguments, **options):
        checkout(*arguments, **options)
        machine.lock()

    monkeypatch.setattr(steps_module.repository, "checkout", locking)
    with pytest.raises(Conflict, match="locked"):
        machine.promote()
    assert machine.consistent() == before
    assert machine.gateway.did == ["running"]
    assert [entry.result for entry in read_history(machine.bot)] == ["failed"]


@pytest.fixture
def snapshots(machine, monkeypatch):
    """Snapshots are set up; what is asked of them is noted, and refused as often as the test says."""
    directory = machine.root / "snapshots" / BOT
    directory.mkdir(parents=True)
    directory.with_suffix(".json").write_text("{}")
    asked = SimpleNamespace(labels=[], refusals=0, directory=directory)

    def request(root, bot, *, label):
        asked.labels.append(label)
        return SimpleNamespace(directory=directory)

    def make(request, report):
        if asked.refusals:
            asked.refusals -= 1
            raise Conflict("another snapshot is being made")
        return SimpleNamespace(record=SimpleNamespace(id="snap-1"))

    monkeypatch.setattr(steps_module, "snapshot_request", request)
    monkeypatch.setattr(steps_module, "apply_snapshot", make)
    monkeypatch.setattr(steps_module, "_SNAPSHOT_PAUSE", 0.01)
    return asked


def test_snapshot_comes_first(machine, snapshots):
    machine.commit({"workspace/SOUL.md": "x"})
    assert machine.promote().snapshot == "snap-1"
    assert read_history(machine.bot)[0].snapshot == "snap-1"
    machine.promote(rollback=True)
    machine.settings(snapshot=False)
    assert machine.promote().snapshot == ""
    assert snapshots.labels == ["before-promotion", "before-rollback"]


def test_snapshot_of_somebody_else_is_waited_for(machine, snapshots):
    machine.commit({"workspace/SOUL.md": "x"})
    snapshots.refusals = 5
    with (snapshots.directory / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert machine.promote().snapshot == "snap-1"


def test_snapshot_that_is_refused_is_not_waited_for(machine, snapshots):
    before = machine.approved_commit
    machine.commit({"workspace/SOUL.md": "x"})
    snapshots.refusals = 2
    with pytest.raises(Conflict):
        machine.promote()
    assert snapshots.refusals == 0
    assert machine.consistent() == before


def test_no_promotion_without_the_snapshot(machine, monkeypatch):
    (machine.root / "snapshots").mkdir()
    (machine.root / "snapshots" / f"{BOT}.json").write_text("{}")
    before = machine.approved_commit
    machine.commit({"workspace/SOUL.md": "x"})
    with pytest.raises(InvalidInput, match=r"snapshots/bot1.json"):
        machine.promote()
    assert machine.consistent() == before
    assert machine.gateway.did == ["running"]


def test_two_at_once(machine):
    machine.commit({"workspace/SOUL.md": "1\n"})
    plans = [machine.plan(), machine.plan()]
    results: list[object] = []

    def run(plan):
        try:
            results.append(apply_promotion(plan, None, machine.gateway).result)
        except CoreError as error:
            results.append(str(error))

    threads = [threading.Thread(target=run, args=(plan,)) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "promoted" in results
    assert any("approved in the meantime" in str(result) for result in results)
    assert machine.consistent() == machine.main
    assert len(read_history(machine.bot)) == 1


def test_progress_names_the_steps(machine):
    machine.commit({"workspace/SOUL.md": "1\n"})
    phases = []
    apply_promotion(machine.plan(), lambda report: phases.append(report.phase), machine.gateway)
    assert phases == ["prepare", "switch", "start", "wait"]


def test_trees_are_the_controllers_and_readable(machine):
    machine.commit({"workspace/SOUL.md": "1\n"})
    machine.promote()
    assert machine.approved.stat().st_uid == UID
    assert machine.approved.stat().st_mode & 0o777 == 0o755
    assert (machine.approved / ".git").stat().st_mode & 0o777 == 0o700
    assert (machine.approved / "workspace" / "SOUL.md").stat().st_mode & 0o777 == 0o644


class TestRollback:
    def test_the_one_before(self, machine):
        first = machine.approved_commit
        second = machine.commit({"workspace/SOUL.md": "2\n", "workspace/TOOLS.md": "t"})
        machine.promote()
        done = machine.promote(rollback=True)
        assert (done.result, done.to_commit, done.recreated) == ("promoted", first, True)
        assert machine.consistent() == machine.gateway.seen()["commit"] == first
        assert read_history(machine.bot)[0].rollback
        assert audited(machine)[-1]["event"] == "rollback"
        # There is nothing before the first; the second is asked for by name, or by promoting again.
        with pytest.raises(InvalidInput, match="nothing was approved before"):
            machine.plan(rollback=True)
        assert machine.promote().to_commit == second

    def test_a_named_one(self, machine):
        first = machine.approved_commit
        for text in ("2\n", "3\n"):
            machine.commit({"workspace/SOUL.md": text})
            machine.promote()
        assert machine.promote(rollback=True, sha=first).to_commit == first

    def test_one_that_failed_was_never_approved(self, machine):
        bad = machine.commit({f"workspace/{BROKEN}": "x"})
        assert machine.promote().result == "restored"
        with pytest.raises(InvalidInput, match="never approved"):
            machine.plan(rollback=True, sha=bad)

    def test_skips_what_was_rolled_back(self, machine):
        first = machine.approved_commit
        machine.commit({"workspace/SOUL.md": "2\n"})
        machine.promote()
        machine.commit({"workspace/SOUL.md": "3\n"})
        machine.promote()
        machine.promote(rollback=True)
        assert machine.promote(rollback=True).to_commit == first

    def test_out_of_a_tree_that_somebody_changed(self, machine):
        machine.commit({"workspace/SOUL.md": "2\n"})
        machine.promote()
        (machine.approved / "workspace" / "SOUL.md").write_text("evil\n")
        machine.promote(rollback=True)
        machine.consistent()
        assert (machine.approved / "workspace" / "SOUL.md").read_text() == "kind\n"

    def test_one_that_does_not_get_ready(self, machine):
        second = machine.commit({"workspace/SOUL.md": "2\n"})
        machine.promote()
        ready, times = machine.gateway.ready, []

        def not_the_first(seconds):
            times.append(seconds)
            return len(times) > 1 and ready(seconds)

        machine.gateway.ready = not_the_first
        assert machine.promote(rollback=True).result == "restored"
        assert machine.consistent() == second


class TestDecisions:
    def test_denied_with_a_reason_and_opened_again(self, machine):
        commit = machine.propose("more", {"workspace/new.md": "n"})
        denial = deny(machine.root, BOT, "proposal/more", "too long", actor="alice", source="dashboard")
        assert read_denials(machine.bot) == {"more": denial}
        assert (denial.commit, denial.reason, denial.actor) == (commit, "too long", "alice")
        assert undeny(machine.root, BOT, "more", actor="alice", source="dashboard")
        assert not undeny(machine.root, BOT, "more", actor="alice", source="dashboard")
        assert [line["event"] for line in audited(machine)] == ["proposal.denied", "proposal.reopened"]

    def test_same_denial_is_written_once(self, machine):
        machine.propose("more", {"workspace/new.md": "n"})
        first = deny(machine.root, BOT, "more", "no", actor="alice", source="playbook")
        assert deny(machine.root, BOT, "more", "no", actor="bob", source="playbook") == first
        assert deny(machine.root, BOT, "more", "because", actor="bob", source="playbook").reason == "because"
        assert len(audited(machine)) == 2

    @pytest.mark.parametrize("reason", ["", " \n", "a" * 2001, "a\x1b[31m"])
    def test_reason_is_text(self, machine, reason):
        machine.propose("more", {"workspace/new.md": "n"})
        with pytest.raises(InvalidInput, match="reason"):
            deny(machine.root, BOT, "more", reason, actor="alice", source="playbook")

    def test_what_is_not_there_or_merged(self, machine):
        with pytest.raises(InvalidInput, match="has no proposal/more"):
            deny(machine.root, BOT, "more", "no", actor="alice", source="playbook")
        with pytest.raises(InvalidInput, match="not valid"):
            deny(machine.root, BOT, "../more", "no", actor="alice", source="playbook")
        machine.propose("more", {"workspace/new.md": "n"})
        machine.promote(proposal="more")
        with pytest.raises(Conflict, match="merged already"):
            deny(machine.root, BOT, "more", "no", actor="alice", source="playbook")
