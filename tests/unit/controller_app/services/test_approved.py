from __future__ import annotations

import shutil
import subprocess

import pytest

from controller_app.services.approved import ApprovedCommit, read_approved_commit


def git(directory, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(directory), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("needs git")
    path = tmp_path / "repository"
    path.mkdir()
    git(path, "init", "--quiet", "--initial-branch=main")
    git(path, "commit", "--quiet", "--allow-empty", "--message=first")
    return path


def test_loose_branch(repository):
    assert read_approved_commit(repository) == ApprovedCommit(git(repository, "rev-parse", "HEAD"), "main", None)


def test_packed_branch(repository):
    git(repository, "branch", "other")
    git(repository, "pack-refs", "--all")
    assert not (repository / ".git" / "refs" / "heads" / "main").exists()
    assert read_approved_commit(repository) == ApprovedCommit(git(repository, "rev-parse", "HEAD"), "main", None)


def test_loose_branch_wins_over_the_packed_one(repository):
    git(repository, "pack-refs", "--all")
    git(repository, "commit", "--quiet", "--allow-empty", "--message=second")
    assert read_approved_commit(repository).commit == git(repository, "rev-parse", "HEAD")


def test_detached_head(repository):
    git(repository, "checkout", "--quiet", "--detach")
    assert read_approved_commit(repository) == ApprovedCommit(git(repository, "rev-parse", "HEAD"), None, None)


def test_branch_with_slashes(repository):
    git(repository, "checkout", "--quiet", "-b", "release/1.0")
    assert read_approved_commit(repository).branch == "release/1.0"


def test_no_commit_yet(tmp_path, approved_dir):
    (approved_dir / ".git" / "refs" / "heads" / "main").unlink()
    assert read_approved_commit(approved_dir) == ApprovedCommit(None, "main", "branch main has no commit yet")


def test_no_repository(tmp_path):
    reason = f"there is no Git repository at {tmp_path}"
    assert read_approved_commit(tmp_path) == ApprovedCommit(None, None, reason)


@pytest.mark.parametrize(
    "head",
    [
        "",
        "ref: refs/heads/../../../../etc/passwd",
        "ref: refs/heads/a/../../x",
        "ref: /etc/passwd",
        "ref: refs/tags/x",
        "\0" * 9,
        "f" * 41,
    ],
)
def test_strange_head_is_not_followed(approved_dir, head):
    (approved_dir / ".git" / "HEAD").write_text(head)
    approved = read_approved_commit(approved_dir)
    assert approved.commit is None
    assert approved.reason == f"{approved_dir}/.git/HEAD names neither a commit nor a branch"


def test_unreadable_file_is_named(approved_dir):
    branch = approved_dir / ".git" / "refs" / "heads" / "main"
    branch.unlink()
    branch.mkdir()
    assert read_approved_commit(approved_dir).reason == f"cannot read {branch}: Is a directory"
