from __future__ import annotations

import os
import time

import pytest

from controller_app.services.git_process import GitCommand, GitFailed, printable, run_git
from tests.support.git_repositories import git

pytestmark = pytest.mark.anyio


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init", "--quiet", "--bare", "--template=", "x.git")
    return tmp_path / "x.git"


async def test_environment_is_not_that_of_the_process(repository, monkeypatch):
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setenv("CONTROLLER_TOKEN", "hunter2")
    names = set(GitCommand(("version",), repository).variables())
    assert not names & (set(os.environ) - {"PATH", "HOME", "LC_ALL", "TZ"})
    assert (await run_git(GitCommand(("rev-parse", "--git-dir"), repository), seconds=10)).strip() == b"."


async def test_configuration_of_the_repository_is_overruled(repository):
    git(repository, "config", "core.hooksPath", "/evil")
    git(repository, "config", "protocol.allow", "always")
    for name, value in (("core.hooksPath", b"/dev/null\n"), ("protocol.allow", b"never\n")):
        assert await run_git(GitCommand(("config", name), repository), seconds=10) == value
    assert await run_git(GitCommand(("config", "a.b"), repository, [("a.b", "c d")]), seconds=10) == b"c d\n"


async def test_failure_is_told_by_its_end(repository):
    with pytest.raises(GitFailed, match=r"git cat-file: .*1111") as failure:
        await run_git(GitCommand(("cat-file", "-p", "1" * 40), repository), seconds=10)
    assert "\n" not in str(failure.value)


async def test_slow_git_is_ended(repository):
    git(repository, "config", "alias.wait", "!sleep 30")
    started = time.monotonic()
    with pytest.raises(GitFailed, match=r"not done within 0\.3 s"):
        await run_git(GitCommand(("wait",), repository), seconds=0.3)
    assert time.monotonic() - started < 10


async def test_much_output_is_refused(repository):
    with pytest.raises(GitFailed, match="more than 3 bytes"):
        await run_git(GitCommand(("version",), repository), seconds=10, largest=3)


async def test_memory_and_files_are_bounded(repository):
    git(repository, "config", "alias.limits", "!ulimit -d; ulimit -f; ulimit -t; ulimit -c")
    output = await run_git(GitCommand(("limits",), repository), seconds=10)
    assert output.split() == [b"163840", b"262144", b"120", b"0"]


async def test_input_nobody_reads_is_no_error(repository):
    assert await run_git(GitCommand(("version",), repository), data=b"x" * (1 << 20), seconds=10)


def test_nothing_unprintable_is_kept():
    assert printable(b"one\ntwo\x1b[2J\n\xff\nthree\n") == "two?[2J; \ufffd; three"
