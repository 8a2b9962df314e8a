from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from clawfactory_core.adapters.git_repo import GitAnswer, GitCall, call_git, run_git
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


def call(directory, *arguments: str, **more) -> GitAnswer:
    return call_git(directory, GitCall(os.geteuid(), **more), *arguments)


def test_input_is_read_and_bytes_come_back_whole(repository):
    sha = call(repository, "hash-object", "-w", "--stdin", stdin=b"\xff\x00\n\n").output.decode().strip()
    assert call(repository, "cat-file", "blob", sha).output == b"\xff\x00\n\n"


def test_exit_code_can_be_an_answer(repository):
    assert call(repository, "config", "--get", "absent.key", answers=(0, 1)) == GitAnswer(1, b"")
    with pytest.raises(CoreError, match="ended with code 1"):
        call(repository, "config", "--get", "absent.key")


def test_settings_are_stronger_than_the_repository(repository):
    git(repository, "config", "core.hooksPath", "/tmp")
    assert git(repository, "config", "core.hooksPath") == "/dev/null"
    settings = (("user.name", "it's = me"),)
    assert call(repository, "config", "user.name", settings=settings).output == b"it's = me\n"


def test_output_is_cut_where_it_gets_long(repository):
    sha = call(repository, "hash-object", "-w", "--stdin", stdin=b"x" * 500_000).output.decode().strip()
    found = call(repository, "cat-file", "blob", sha, max_output=1000)
    assert found.output == b"x" * 1000 and found.cut
    assert not call(repository, "cat-file", "blob", sha, max_output=500_000).cut
    with pytest.raises(CoreError, match="Not a valid object name"):
        call(repository, "cat-file", "blob", "absent", max_output=1000)


@pytest.mark.parametrize("max_output", [None, 1000])
def test_git_that_hangs_is_killed_with_what_it_started(repository, tmp_path, max_output):
    pid = tmp_path / "pid"
    settings = (("alias.hang", f"!sleep 600 & echo $! > {pid}; wait"),)
    started = time.monotonic()
    with pytest.raises(CoreError, match=r"took longer than 0\.5 s"):
        call(repository, "hang", settings=settings, timeout=0.5, max_output=max_output)
    assert time.monotonic() - started < 20
    # A killed process is there until the kernel has got to it, and then until its parent looks.
    state = Path("/proc", pid.read_text().strip(), "stat")
    while state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() - started < 30
        time.sleep(0.05)


def test_repository_of_whoever_started_us_is_not_taken(repository, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet", "--initial-branch", "elsewhere", "--template=")
    for name, value in (("GIT_DIR", str(other / ".git")), ("GIT_WORK_TREE", str(other)), ("GIT_CONFIG_COUNT", "x")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    assert git(repository, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert not (tmp_path / "trace").exists()


def test_replaced_objects_are_not_shown(repository):
    for text in ("one", "two"):
        (repository / "file").write_text(text)
        git(repository, "add", "file")
        git(repository, "commit", "--quiet", "--message", text)
    one, two = git(repository, "rev-list", "--reverse", "HEAD").split()
    git(repository, "replace", two, one)
    assert git(repository, "show", f"{two}:file") == "two"


def test_login_is_cut_out_of_what_git_says(repository):
    with pytest.raises(CoreError) as caught:
        call(repository, "ls-remote", "http://user:made-up@127.0.0.1:1/x")
    assert "127.0.0.1:1" in str(caught.value) and "made-up" not in str(caught.value)


def test_environment_with_secrets_is_not_printed():
    assert "made-up" not in repr(GitCall(1, environment={"CLAWFACTORY_GIT_PASSWORD": "made-up"}, stdin=b"made-up"))


def test_git_that_is_not_there_is_named(repository, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(CoreError, match="install the package git"):
        git(repository, "status")
