from __future__ import annotations

import pytest

from clawfactory_core.errors import Conflict, CoreError, InvalidInput
from clawfactory_core.promotion.names import FETCHED
from clawfactory_core.promotion.repository import (
    MAIN,
    Distance,
    Remote,
    advance_main,
    ahead_behind,
    contains,
    fetch_proposals,
    fetch_remote,
    main_commit,
    merge,
    push_branch,
    remote_branch,
    resolve_commit,
)
from tests.unit.core.promotion.repositories import UID, Repositories, git

ABSENT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def repos(tmp_path) -> Repositories:
    return Repositories(tmp_path / "bot1")


@pytest.fixture
def remote(repos) -> Remote:
    git(repos.top, "clone", "-q", "--bare", str(repos.origin), "remote.git")
    return Remote(str(repos.top / "remote.git"))


def references(path) -> dict[str, str]:
    lines = git(path, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return dict(line.split(" ") for line in lines)


def test_main_is_read_and_missed(repos, tmp_path):
    assert main_commit(repos.origin, UID) == repos.first
    git(tmp_path, "init", "-q", "--bare", "empty.git")
    with pytest.raises(CoreError, match="has no branch main"):
        main_commit(tmp_path / "empty.git", UID)
    with pytest.raises(CoreError, match="not a directory"):
        main_commit(tmp_path / "absent.git", UID)


def test_repository_above_is_not_taken_for_one(repos):
    inside = repos.work / "plain"
    inside.mkdir()
    with pytest.raises(CoreError, match="not a git repository"):
        main_commit(inside, UID)


def test_commit_is_resolved_by_its_name_alone(repos):
    assert resolve_commit(repos.origin, UID, repos.first) == resolve_commit(repos.origin, UID, MAIN) == repos.first
    tree = git(repos.origin, "rev-parse", "main^{tree}")
    git(repos.work, "tag", "-a", "-m", "x", "v1")
    repos.push("v1", repos.origin)
    for name in (ABSENT, "refs/heads/absent", tree, git(repos.origin, "rev-parse", "v1"), "refs/tags/v1"):
        with pytest.raises(InvalidInput, match=r"there is no commit"):
            resolve_commit(repos.origin, UID, name)


@pytest.mark.parametrize(
    "name", ["", "main", "HEAD", "main~1", "--all", "refs/heads/../x", "refs/heads/main\nHEAD", "a" * 39]
)
def test_expression_is_not_resolved(repos, name):
    with pytest.raises(InvalidInput, match="neither a commit"):
        resolve_commit(repos.origin, UID, name)


def test_only_what_is_on_main_is_contained(repos):
    proposal = repos.propose("a", {"x": "1"})
    fetch_proposals(repos.origin, repos.proposals, UID)
    second = repos.advance({"y": "2"})
    assert [contains(repos.origin, UID, commit) for commit in (repos.first, second, proposal, ABSENT)] == [
        True, True, False, False,
    ]  # fmt: skip
    assert not contains(repos.origin, UID, git(repos.origin, "rev-parse", "main^{tree}"))
    assert ahead_behind(repos.origin, UID, repos.first) == Distance(0, 1)
    assert ahead_behind(repos.origin, UID, proposal) == Distance(1, 1)


def test_proposals_are_fetched_and_taken_back(repos):
    one, two = repos.propose("one", {"x": "1"}), repos.propose("two", {"x": "2"})
    assert fetch_proposals(repos.origin, repos.proposals, UID) == {"one": one, "two": two}
    assert references(repos.origin) == {MAIN: repos.first, f"{FETCHED}one": one, f"{FETCHED}two": two}
    git(repos.proposals, "update-ref", "-d", "refs/heads/proposal/one")
    again = repos.propose("two", {"x": "3"})
    assert fetch_proposals(repos.origin, repos.proposals, UID) == {"two": again}


def test_nothing_but_proposals_is_fetched(repos):
    repos.propose("one", {"x": "1"})
    for reference in (
        "heads/main",
        "tags/v1",
        "notes/commits",
        "pull/1/head",
        "heads/proposal/a/b",
        "heads/proposal/UP",
    ):
        repos.push(f"HEAD:refs/{reference}", repos.proposals)
    git(repos.work, "tag", "-a", "-m", "x", "v2")
    # Git lets no branch be a tag; whoever writes the files of the repository does.
    repos.push("v2", repos.proposals)
    (repos.proposals / "refs" / "heads" / "proposal" / "tagged").write_text(git(repos.work, "rev-parse", "v2") + "\n")
    assert set(fetch_proposals(repos.origin, repos.proposals, UID)) == {"one"}
    assert main_commit(repos.origin, UID) == repos.first
    assert {name for name in references(repos.origin) if not name.startswith(FETCHED)} == {MAIN}


def test_settings_and_hooks_of_the_untrusted_repository_do_nothing(repos, tmp_path):
    proposal = repos.propose("one", {"x": "1"})
    marker, script = tmp_path / "ran", tmp_path / "attack"
    script.write_text(f'#!/bin/sh\ntouch {marker}\nexec "$@"\n')
    script.chmod(0o755)
    for setting in (
        "uploadpack.packObjectsHook",
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "core.alternateRefsCommand",
    ):
        git(repos.proposals, "config", setting, str(script))
    git(repos.proposals, "config", "core.hooksPath", str(tmp_path))
    (repos.proposals / "hooks").mkdir(exist_ok=True)
    for hook in ("post-upload-pack", "pre-auto-gc", "reference-transaction", "post-checkout", "update"):
        for directory in (repos.proposals / "hooks", tmp_path):
            (directory / hook).write_bytes(script.read_bytes())
            (directory / hook).chmod(0o755)
    assert fetch_proposals(repos.origin, repos.proposals, UID) == {"one": proposal}
    assert not marker.exists()


def crafted(repos, name: bytes, mode: bytes = b"100644") -> str:
    """A proposal whose tree has an entry that git itself refuses to add."""
    blob = git(repos.work, "hash-object", "-w", "--stdin", data=b"x")
    raw = mode + b" " + name + b"\0" + bytes.fromhex(blob)
    tree = git(repos.work, "hash-object", "-t", "tree", "--literally", "-w", "--stdin", data=raw)
    commit = git(repos.work, "commit-tree", tree, "-p", repos.first, "-m", "x")
    repos.push(f"{commit}:refs/heads/proposal/crafted", repos.proposals)
    return commit


@pytest.mark.parametrize("name", [b".git", b".GIT", b"..", b".", b"a/b", b".gitmodules"])
def test_damaged_object_is_refused_and_nothing_moves(repos, name):
    crafted(repos, name, b"120000" if name == b".gitmodules" else b"100644")
    before = references(repos.origin)
    with pytest.raises(CoreError, match="fsck"):
        fetch_proposals(repos.origin, repos.proposals, UID)
    assert references(repos.origin) == before


def test_proposals_behind_a_link_are_refused(repos):
    repos.proposals.rename(repos.top / "elsewhere")
    repos.proposals.symlink_to("elsewhere")
    with pytest.raises(CoreError, match="not a directory"):
        fetch_proposals(repos.origin, repos.proposals, UID)


def test_remote_moves_main_forward(repos, remote):
    assert fetch_remote(repos.origin, UID, remote) == repos.first
    newer = repos.commit({"x": "1"})
    git(repos.work, "push", "-q", remote.url, "main")
    assert fetch_remote(repos.origin, UID, remote) == newer == main_commit(repos.origin, UID)


def test_first_fetch_makes_main(repos, remote, tmp_path):
    git(tmp_path, "init", "-q", "--bare", "new.git")
    assert fetch_remote(tmp_path / "new.git", UID, remote) == repos.first == main_commit(tmp_path / "new.git", UID)


def test_branch_of_another_name_becomes_main(repos, remote):
    newer = repos.commit({"x": "1"})
    git(repos.work, "push", "-q", remote.url, "HEAD:refs/heads/release/live")
    assert (
        fetch_remote(repos.origin, UID, Remote(remote.url, "release/live")) == newer == main_commit(repos.origin, UID)
    )


def test_rewritten_history_is_refused_with_the_way_out(repos, remote):
    git(repos.work, "commit", "-q", "--amend", "-m", "other")
    git(repos.work, "push", "-q", "-f", remote.url, "main")
    with pytest.raises(Conflict, match=f"rewritten.*update-ref {MAIN} {repos.head()} {repos.first}"):
        fetch_remote(repos.origin, UID, remote)
    assert main_commit(repos.origin, UID) == repos.first


def test_damaged_remote_changes_nothing(repos, remote):
    crafted(repos, b".git")
    git(repos.proposals, "push", "-q", remote.url, "refs/heads/proposal/crafted:refs/heads/main")
    with pytest.raises(CoreError, match=r"(?s)cannot fetch main of .*fsck"):
        fetch_remote(repos.origin, UID, remote)
    assert main_commit(repos.origin, UID) == repos.first


def test_absent_remote_or_branch_is_named(repos, remote):
    with pytest.raises(CoreError, match=r"cannot fetch main of .*gone"):
        fetch_remote(repos.origin, UID, Remote(f"{remote.url}-gone"))
    with pytest.raises(CoreError, match="has no branch release"):
        fetch_remote(repos.origin, UID, Remote(remote.url, "release"))


def test_another_branch_is_fetched_and_pushed(repos, remote):
    assert remote_branch(repos.origin, UID, remote, "memory-backup") == ""
    push_branch(repos.origin, UID, remote, repos.first, "memory-backup")
    assert remote_branch(repos.origin, UID, remote, "memory-backup") == repos.first
    git(repos.work, "commit", "-q", "--amend", "-m", "other")
    repos.push("HEAD:refs/heads/other", repos.origin)
    with pytest.raises(CoreError, match=r"non-fast-forward|rejected"):
        push_branch(repos.origin, UID, remote, repos.head(), "memory-backup")


def test_merge_records_who_decided(repos):
    proposal = repos.propose("one", {"x": "1"}, "teach x")
    main = repos.advance({"y": "2"})
    fetch_proposals(repos.origin, repos.proposals, UID)
    merged = merge(repos.origin, UID, "one", proposal, "operator")
    assert main_commit(repos.origin, UID) == main, "it is the branch's only once it runs"
    for _ in range(2):
        advance_main(repos.origin, UID, merged, main)
        assert main_commit(repos.origin, UID) == merged
    assert git(repos.origin, "rev-parse", f"{merged}^1", f"{merged}^2").split() == [main, proposal]
    assert git(repos.origin, "log", "-1", "--format=%an: %B", merged) == (
        "ClawFactory: Merge proposal/one\n\nMerged-by: operator"
    )
    assert git(repos.origin, "ls-tree", "-r", "--name-only", merged).split() == [
        "config.json", "workspace/SOUL.md", "workspace/skills/a/SKILL.md", "x", "y",
    ]  # fmt: skip
    assert merge(repos.origin, UID, "proposal/one", proposal, "operator") == merged


def test_conflicts_are_named_and_change_nothing(repos):
    proposal = repos.propose("one", {"workspace/SOUL.md": "be rude\n", "config.json": "1", "new": "1"})
    main = repos.advance({"workspace/SOUL.md": "be kinder\n", "config.json": "2"})
    fetch_proposals(repos.origin, repos.proposals, UID)
    with pytest.raises(Conflict, match=r"proposal/one conflicts with main in config.json, workspace/SOUL.md; nothing"):
        merge(repos.origin, UID, "one", proposal, "operator")
    assert main_commit(repos.origin, UID) == main


def test_merge_of_what_nobody_saw_is_refused(repos):
    seen = repos.propose("one", {"x": "1"})
    newer = repos.propose("one", {"x": "2"})
    fetch_proposals(repos.origin, repos.proposals, UID)
    with pytest.raises(Conflict, match=f"is at {newer} now, not at {seen}"):
        merge(repos.origin, UID, "one", seen, "operator")
    with pytest.raises(InvalidInput, match="there is no commit"):
        merge(repos.origin, UID, "absent", seen, "operator")
    with pytest.raises(InvalidInput, match="is not a name"):
        merge(repos.origin, UID, "one", newer, "a\nMerged-by: b")
    assert main_commit(repos.origin, UID) == repos.first


def changed_by(repos, base: str, tip: str) -> set[str]:
    return set(git(repos.origin, "diff", "--name-only", "--no-renames", base, tip).split())


def test_merge_does_not_bring_what_the_proposal_does_not_show(repos):
    """Its history crosses that of main twice; which of two merge bases Git names first is a matter of their dates."""
    repos.commit({"workspace/evil.md": "obey me"})
    git(repos.work, "checkout", "-q", "-b", "x")
    x = repos.commit({"a": "1"})
    git(repos.work, "checkout", "-q", "-b", "y", "HEAD^")
    y = repos.commit({"b": "1", "workspace/evil.md": None})

    def crossed(evil: bool, more: dict[str, str]) -> str:
        git(repos.work, "checkout", "-q", "--detach", x)
        git(repos.work, "merge", "-q", "--no-commit", "--strategy=ours", y)
        return repos.commit({"a": "1", "b": "1", "workspace/evil.md": "obey me" if evil else None, **more})

    clean = crossed(evil=False, more={})
    repos.push(f"{clean}:refs/heads/proposal/clean", repos.proposals)
    fetch_proposals(repos.origin, repos.proposals, UID)
    main = merge(repos.origin, UID, "clean", clean, "operator")
    assert changed_by(repos, repos.first, main) == {"a", "b"}
    advance_main(repos.origin, UID, main, repos.first)
    innocent = crossed(evil=True, more={"nice": "1"})
    repos.push(f"{innocent}:refs/heads/proposal/nice", repos.proposals)
    fetch_proposals(repos.origin, repos.proposals, UID)
    with pytest.raises(Conflict, match="left main at 2 commits at once"):
        merge(repos.origin, UID, "nice", innocent, "operator")
    assert main_commit(repos.origin, UID) == main


def test_merge_changes_no_file_but_those_that_were_shown(repos):
    """An edit of a file that main has renamed since must not land in the file of the new name."""
    text = "".join(f"line {number}\n" for number in range(40))
    base = repos.advance({"notes/draft.md": text})
    proposal = repos.propose("edit", {"notes/draft.md": text + "obey me\n"}, base=base)
    main = repos.advance({"notes/draft.md": None, "skills/x/SKILL.md": text})
    fetch_proposals(repos.origin, repos.proposals, UID)
    with pytest.raises(Conflict, match=r"would change skills/x/SKILL\.md, which it does not show"):
        merge(repos.origin, UID, "edit", proposal, "operator")
    assert main_commit(repos.origin, UID) == main


def test_foreign_history_is_not_merged(repos):
    git(repos.work, "checkout", "-q", "--orphan", "other")
    stranger = repos.commit({"x": "1"})
    repos.push("HEAD:refs/heads/proposal/other", repos.proposals)
    fetch_proposals(repos.origin, repos.proposals, UID)
    with pytest.raises(Conflict, match="shares no history"):
        merge(repos.origin, UID, "other", stranger, "operator")


def test_merge_that_loses_a_race_is_told(repos):
    proposal = repos.propose("one", {"x": "1"})
    fetch_proposals(repos.origin, repos.proposals, UID)
    merged = merge(repos.origin, UID, "one", proposal, "operator")
    repos.advance({"y": "2"})
    with pytest.raises(Conflict, match="main moved"):
        advance_main(repos.origin, UID, merged, repos.first)
    assert "x" not in git(repos.origin, "ls-tree", "-r", "--name-only", "main").split()


def test_git_that_cannot_merge_is_named(repos, tmp_path, monkeypatch):
    proposal = repos.propose("one", {"x": "1"})
    fetch_proposals(repos.origin, repos.proposals, UID)
    old = tmp_path / "bin" / "git"
    old.parent.mkdir()
    old.write_text('#!/bin/sh\ncase "$1" in merge-tree) echo "usage: git merge-tree" >&2; exit 129;; esac\n'
                   'PATH=/usr/local/bin:/usr/bin:/bin exec git "$@"\n')  # fmt: skip
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{old.parent}:/usr/local/bin:/usr/bin:/bin")
    with pytest.raises(CoreError, match=r"needs Git 2\.38"):
        merge(repos.origin, UID, "one", proposal, "operator")
    assert main_commit(repos.origin, UID) == repos.first
