from __future__ import annotations

import time

import pytest

from clawfactory_core.errors import CoreError, InvalidInput
from clawfactory_core.promotion.names import FETCHED, PREFIX
from clawfactory_core.promotion.proposals import Proposal, diff, harmless, list_proposals
from clawfactory_core.promotion.repository import advance_main, fetch_proposals, merge
from tests.unit.core.promotion.repositories import UID, Repositories, git


@pytest.fixture
def repos(tmp_path) -> Repositories:
    return Repositories(tmp_path / "bot1")


def listed(repos, **more) -> list[Proposal]:
    fetch_proposals(repos.origin, repos.proposals, UID)
    return list_proposals(repos.origin, UID, git(repos.origin, "rev-parse", "main"), **more)


def test_proposal_is_described(repos):
    git(repos.work, "checkout", "-q", "--detach")
    files = {
        "workspace/SOUL.md": "be kind\nbe brief\n",
        "config.json": None,
        "picture": b"\x00\x01" * 500,
        "new\tname": "1\n",
    }
    when = {"GIT_COMMITTER_DATE": "1767225600 +0100", "GIT_AUTHOR_NAME": "bot1 the kind"}
    commit = repos.commit(files, "teach it\n\nbecause", **when)
    repos.push("HEAD:refs/heads/proposal/teach", repos.proposals)
    (found,) = listed(repos)
    size = len("be kind\nbe brief\n") + 1000 + 2
    assert found == Proposal(
        "teach", commit, "bot1 the kind", "2026-01-01T00:00:00Z", "teach it", 4, 2, 1, size, "open"
    )  # fmt: skip


def test_both_places_show_the_same(repos):
    for number in range(3):
        repos.propose(f"p{number}", {f"f{number}": "x\n" * number})
    repos.advance({"main": "1"})
    on_machine = listed(repos)
    main = git(repos.origin, "rev-parse", "main")
    assert [proposal.files for proposal in on_machine] == [1, 1, 1]
    assert list_proposals(repos.proposals, UID, main, prefix=PREFIX) == on_machine
    with pytest.raises(InvalidInput, match="no place of proposals"):
        list_proposals(repos.proposals, UID, main, prefix="refs/heads/")


def test_state_is_open_merged_or_denied(repos):
    commit = repos.propose("one", {"x": "1"})
    repos.propose("two", {"y": "1"})
    repos.propose("three", {"z": "1"})
    fetch_proposals(repos.origin, repos.proposals, UID)
    advance_main(repos.origin, UID, merge(repos.origin, UID, "one", commit, "operator"), repos.first)
    found = listed(repos, denied={"two": "too loud", "one": "was merged all the same"})
    assert {proposal.name: (proposal.state, proposal.reason) for proposal in found} == {
        "one": ("merged", ""), "two": ("denied", "too loud"), "three": ("open", ""),
    }  # fmt: skip


def test_newest_comes_first(repos):
    for name, when in (("old", "1700000000"), ("new", "1760000000"), ("older", "1600000000")):
        git(repos.work, "checkout", "-q", "--detach", repos.first)
        repos.commit({"x": name}, GIT_COMMITTER_DATE=f"{when} +0000")
        repos.push(f"HEAD:refs/heads/proposal/{name}", repos.proposals)
    assert [proposal.name for proposal in listed(repos)] == ["new", "old", "older"]


def raw_commit(repos, text: bytes) -> str:
    commit = git(repos.work, "hash-object", "-t", "commit", "--literally", "-w", "--stdin", data=text)
    repos.push(f"{commit}:refs/heads/proposal/raw", repos.proposals)
    return commit


@pytest.mark.parametrize("when", [b"99999999999999 +0000", b"18446744073709551616 +0000", b"-1 +0000", b"soon"])
def test_impossible_time_is_no_time(repos, when):
    tree = git(repos.work, "rev-parse", "HEAD^{tree}").encode()
    who = b"a <a@b> "
    raw_commit(
        repos,
        b"tree %b\nparent %b\nauthor %b\ncommitter %b\n\nx\n" % (tree, repos.first.encode(), who + when, who + when),
    )
    (found,) = list_proposals(repos.proposals, UID, repos.first, prefix=PREFIX)
    assert found.time == "" or found.time.endswith("Z")


def test_texts_of_the_bot_cannot_play_with_a_terminal(repos):
    git(repos.work, "checkout", "-q", "--detach")
    evil = "\x1b[2K\x1b[1Aall fine\u202e"
    repos.commit({"x": "1"}, f"{evil}{'long' * 100}", GIT_AUTHOR_NAME=f"a{evil}\x07b")
    repos.push("HEAD:refs/heads/proposal/evil", repos.proposals)
    (found,) = listed(repos)
    assert found.author == "a\\x1b[2K\\x1b[1Aall fine\\u202e\\x07b"
    assert found.subject.startswith("\\x1b[2K") and len(found.subject) <= 121


def test_harmless_texts_stay_as_they_are():
    assert harmless("a\tb\n äöü 日本\u3000語 🙂") == "a\tb\n äöü 日本\u3000語 🙂"
    assert harmless("a\ufe0f\U000e0141\u3164\u034f") == r"a\ufe0f\U000e0141\u3164\u034f"
    assert harmless("\r\x00\x9b\u2066\ufeff") == "\\r\\x00\\x9b\\u2066\\ufeff"


def test_diff_shows_what_a_proposal_does(repos):
    commit = repos.propose("one", {"workspace/SOUL.md": "be kind\n\x1b[8mand obey\x1b[0m\n"})
    main = repos.advance({"config.json": "other"})
    fetch_proposals(repos.origin, repos.proposals, UID)
    text = diff(repos.origin, UID, main, commit, from_fork=True)
    assert "+\\x1b[8mand obey\\x1b[0m\n" in text and "workspace/SOUL.md | 1 +" in text and "config.json" not in text
    assert "config.json" in diff(repos.origin, UID, main, commit)


def test_long_diff_is_cut_and_says_so(repos):
    commit = repos.propose("one", {"long": "x\n" * 100_000})
    fetch_proposals(repos.origin, repos.proposals, UID)
    text = diff(repos.origin, UID, repos.first, commit, max_bytes=1000)
    assert text.endswith("cut here: the change is longer\n") and len(text) < 1100
    assert "cut here" not in diff(repos.origin, UID, repos.first, commit)


def test_nothing_that_a_repository_asks_for_is_run(repos, tmp_path):
    marker = tmp_path / "ran"
    for setting in ("diff.external", "diff.evil.command", "diff.evil.textconv", "core.pager"):
        git(repos.proposals, "config", setting, f"touch {marker}; cat")
    (repos.proposals / "info").mkdir(exist_ok=True)
    (repos.proposals / "info" / "attributes").write_text("* diff=evil\n")
    commit = repos.propose("one", {"x": "1"})
    assert "+1" in diff(repos.proposals, UID, repos.first, commit)
    assert list_proposals(repos.proposals, UID, repos.first, prefix=PREFIX)[0].files == 1
    assert not marker.exists()


@pytest.mark.parametrize("commit", ["main", "--output=/tmp/x", "1" * 40, ""])
def test_diff_takes_names_of_objects_only(repos, commit):
    with pytest.raises((CoreError, InvalidInput)):
        diff(repos.origin, UID, repos.first, commit)


def test_many_proposals_are_listed_quickly(repos):
    git(repos.work, "checkout", "-q", "--detach")
    commit = repos.commit({"x": "1"})
    repos.push("HEAD:refs/heads/proposal/p0", repos.proposals)
    lines = "".join(f"create {PREFIX}p{number} {commit}\n" for number in range(1, 200))
    git(repos.proposals, "update-ref", "--stdin", data=lines.encode())
    started = time.monotonic()
    assert len(listed(repos)) == 200
    assert time.monotonic() - started < 10
    assert git(repos.origin, "for-each-ref", "--count=1", FETCHED)
