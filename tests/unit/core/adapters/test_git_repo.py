from __future__ import annotations

import os
import sys

import pytest

from clawfactory_core.adapters.git_repo import run_git
from clawfactory_core.errors import CoreError, MissingDependency


@pytest.fixture
def repository(tmp_path):
    directory = tmp_path / "repository"
    directory.mkdir()
    git(directory, "init", "--quiet", "--initial-branch", "main", "--template=")
    return directory


def git(directory, *arguments: str) -> str:
    return run_git(directory, *arguments, uid=os.geteuid())


def test_output_comes_back(repository):
    assert git(repository, "symbolic-ref", "HEAD") == "refs/heads/main"


def test_failure_is_said_in_the_words_of_git(repository):
    with pytest.raises(CoreError, match=r"git rev-parse: .*unknown revision"):
        git(repository, "rev-parse", "absent")


def test_absent_directory_is_an_error_of_ours(tmp_path):
    with pytest.raises(CoreError, match="git status"):
        git(tmp_path / "absent", "status")


@pytest.mark.parametrize("named", [True, False])
def test_configuration_of_the_user_is_not_read(repository, tmp_path, monkeypatch, named):
    home = tmp_path / "home"
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".gitconfig").write_text("[user]\n\tname = Somebody\n[commit]\n\tgpgSign = true\n")
    (home / ".config" / "git" / "ignore").write_text("*.md\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    if named:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    (repository / "AGENTS.md").write_text("x")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "x")
    assert git(repository, "ls-files") == "AGENTS.md"
    assert git(repository, "log", "--format=%an <%ae> %cn") == "ClawFactory <clawfactory@localhost> ClawFactory"


def test_missing_library_is_named(repository, monkeypatch):
    monkeypatch.setitem(sys.modules, "git", None)
    with pytest.raises(MissingDependency, match="git"):
        git(repository, "status")
