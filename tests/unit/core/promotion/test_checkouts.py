from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from clawfactory_core.checkout import commit as commit_of
from clawfactory_core.errors import CoreError, InvalidInput
from clawfactory_core.promotion import checkouts
from clawfactory_core.promotion.checkouts import checkout
from tests.unit.core.promotion.repositories import UID, Repositories, git


@pytest.fixture
def repos(tmp_path) -> Repositories:
    return Repositories(tmp_path / "bot1")


@pytest.fixture
def target(repos) -> Path:
    return repos.top / "approved.next"


def files(top: Path) -> dict[str, bytes]:
    found = [path for path in top.rglob("*") if ".git" not in path.relative_to(top).parts and not path.is_dir()]
    return {str(path.relative_to(top)): path.read_bytes() for path in found}


def test_checkout_holds_the_commit_and_nothing_else(repos, target):
    checkout(repos.origin, UID, repos.first, target)
    assert files(target) == {
        "workspace/SOUL.md": b"be kind\n",
        "workspace/skills/a/SKILL.md": b"a\n",
        "config.json": b"{}",
    }
    assert commit_of(target) == repos.first
    assert git(target, "status", "--porcelain", "--ignored") == ""
    assert sorted(path.name for path in repos.top.iterdir()) == ["approved.next", "origin.git", "proposals.git", "work"]


def test_checkout_is_readable_but_for_git(repos, target):
    umask = os.umask(0o077)
    try:
        (repos.work / "run.sh").write_text("#!/bin/sh\n")
        (repos.work / "run.sh").chmod(0o755)
        commit = repos.advance({})
        checkout(repos.origin, UID, commit, target)
    finally:
        os.umask(umask)
    modes = {
        name: stat.S_IMODE((target / name).stat().st_mode)
        for name in (".", ".git", "workspace", "config.json", "run.sh")
    }
    assert modes == {".": 0o755, ".git": 0o700, "workspace": 0o755, "config.json": 0o644, "run.sh": 0o755}


@pytest.mark.parametrize("with_spare", [True, False])
def test_files_come_out_as_they_were_committed(repos, target, with_spare, tmp_path):
    marker = tmp_path / "ran"
    attributes = "* text eol=crlf ident filter=evil working-tree-encoding=UTF-16 export-subst\n"
    held = {"a": "$Id$ $Format:%H$\nx\n", "b": "x\r\n", ".gitattributes": attributes, "sub/.gitattributes": attributes}
    git(repos.work, "config", "core.attributesFile", "/dev/null")
    (repos.work / ".git" / "info" / "attributes").write_text("* -text -eol -ident -filter -working-tree-encoding\n")
    commit = repos.advance(held)
    git(repos.origin, "config", "filter.evil.smudge", f"touch {marker}; cat")
    spare = None
    if with_spare:
        spare = repos.top / "approved.previous"
        checkout(repos.origin, UID, repos.first, spare)
    checkout(repos.origin, UID, commit, target, spare)
    assert {name: (target / name).read_bytes() for name in held} == {name: text.encode() for name, text in held.items()}
    assert not marker.exists()


def test_spare_checkout_is_used_up_and_gives_the_same(repos, target):
    spare = repos.top / "approved.previous"
    checkout(repos.origin, UID, repos.first, spare)
    kept = (spare / "config.json").stat().st_ino
    (spare / "stray").write_text("x")
    (spare / "ignored").mkdir()
    (spare / "ignored" / "y").write_text("x")
    (spare / "workspace" / "SOUL.md").write_text("changed by hand")
    commit = repos.advance({".gitignore": "ignored\n", "new/file": "1", "workspace/skills/a/SKILL.md": None})
    checkout(repos.origin, UID, commit, target, spare)
    assert not spare.exists()
    assert files(target) == {
        ".gitignore": b"ignored\n",
        "new/file": b"1",
        "workspace/SOUL.md": b"be kind\n",
        "config.json": b"{}",
    }
    assert (target / "config.json").stat().st_ino == kept
    assert commit_of(target) == commit


@pytest.mark.parametrize("kind", ["absent", "file", "link", "empty", "clone", "unfinished", "damaged"])
def test_spare_that_is_none_is_left_alone(repos, target, kind):
    spare = repos.top / "approved.previous"
    if kind == "file":
        spare.write_text("x")
    elif kind == "link":
        spare.symlink_to(repos.work)
    elif kind == "empty":
        spare.mkdir()
    elif kind == "clone":
        git(repos.top, "clone", "-q", "--no-hardlinks", "origin.git", spare.name)
    elif kind != "absent":
        checkout(repos.origin, UID, repos.first, spare)
        if kind == "unfinished":
            (spare / ".git" / "index.lock").touch()
        else:
            (spare / ".git" / "HEAD").write_text("nonsense")
    before = os.path.lexists(spare)
    checkout(repos.origin, UID, repos.first, target, spare)
    assert commit_of(target) == repos.first and os.path.lexists(spare) == before


def test_hooks_and_settings_of_the_repository_do_nothing(repos, target, tmp_path):
    marker, hook = tmp_path / "ran", repos.origin / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {marker}\n")
    hook.chmod(0o755)
    git(repos.origin, "config", "core.fsmonitor", str(hook))
    checkout(repos.origin, UID, repos.first, target)
    assert not marker.exists()


def test_leftovers_of_a_killed_one_are_removed(repos, target):
    left = target.with_name("approved.next.partial")
    (left / ".git").mkdir(parents=True)
    (left / "stray").write_text("x")
    checkout(repos.origin, UID, repos.first, target)
    assert "stray" not in files(target) and not left.exists()


def test_existing_directory_is_not_replaced(repos, target):
    target.mkdir()
    with pytest.raises(CoreError, match="exists already"):
        checkout(repos.origin, UID, repos.first, target)


@pytest.mark.parametrize("commit", ["1" * 40, "main", "--orphan"])
def test_unknown_commit_leaves_nothing(repos, target, commit):
    with pytest.raises((CoreError, InvalidInput)):
        checkout(repos.origin, UID, commit, target)
    assert sorted(path.name for path in repos.top.iterdir()) == ["origin.git", "proposals.git", "work"]


@pytest.mark.parametrize("step", ["_flush", "_make"])
def test_full_disk_leaves_nothing(repos, target, monkeypatch, step):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkouts, step, fail)
    with pytest.raises(CoreError, match="No space left on device; nothing was changed"):
        checkout(repos.origin, UID, repos.first, target)
    assert not target.exists() and not target.with_name("approved.next.partial").exists()


def test_everything_written_is_flushed(repos, target, monkeypatch):
    flushed, whole = [], []
    monkeypatch.setattr(checkouts, "_flush_file", lambda path: flushed.append(path.name))
    monkeypatch.setattr(checkouts, "_flush_file_system", lambda path: whole.append(path.name))
    checkout(repos.origin, UID, repos.first, target)
    assert (flushed, whole) == ([], ["approved.next.partial"])
    commit = repos.advance({"new/deep/file": "1", "config.json": "2"})
    checkout(repos.origin, UID, commit, repos.top / "another", target)
    assert sorted(flushed) == ["config.json", "file", "index"] and len(whole) == 1
