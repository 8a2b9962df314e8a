"""An update of a fork is a branch of the fork; conflicts are named, and nothing else is ever changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from clawfactory_core.errors import Conflict, CoreError, InvalidInput
from clawfactory_core.promotion.remotes import Remote
from clawfactory_core.promotion.upstream import UpstreamRequest, UpstreamResult, _with_login, propose_upstream
from tests.unit.core.promotion.promotion_machine import BOT, Machine


class Repositories:
    """Upstream with versions, and a fork of the first of them with a change of its own."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.upstream, self.fork = machine.top / "upstream.git", machine.top / "fork.git"
        self.work = machine.top / "source"
        self.work.mkdir()
        machine.git(self.work, "init", "-q", "-b", "main")
        self.release("v2026.9.6", {"a.ts": "a\n", "b.ts": "b\n"})
        machine.git(machine.top, "clone", "-q", "--bare", str(self.work), str(self.upstream))
        machine.git(machine.top, "clone", "-q", "--bare", str(self.work), str(self.fork))

    def release(self, version: str, files: dict[str, str]) -> None:
        self.commit(files)
        self.machine.git(self.work, "tag", version)
        if self.upstream.exists():
            self.machine.git(self.work, "push", "-q", str(self.upstream), "main", version)

    def commit(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            (self.work / name).write_text(text)
        self.machine.git(self.work, "add", "-A")
        self.machine.git(self.work, "commit", "-q", "-m", "x")

    def change_fork(self, files: dict[str, str]) -> str:
        self.machine.git(self.work, "checkout", "-q", "-B", "ours", "v2026.9.6")
        self.commit(files)
        self.machine.git(self.work, "push", "-q", str(self.fork), "ours:main")
        self.machine.git(self.work, "checkout", "-q", "main")
        return self.machine.git(self.fork, "rev-parse", "main")

    def refs(self, repository: Path) -> str:
        return self.machine.git(repository, "for-each-ref")

    def propose(self, version: str = "", *, check: bool = False) -> UpstreamResult:
        return propose_upstream(self.request(version, check=check))

    def request(self, version: str = "", *, check: bool = False) -> UpstreamRequest:
        return UpstreamRequest(
            self.machine.root, BOT, "alice", str(self.fork), "main", str(self.upstream), version, check
        )


@pytest.fixture
def both(machine) -> Repositories:
    return Repositories(machine)


def test_newest_version_is_proposed_as_a_merge(machine, both):
    ours = both.change_fork({"b.ts": "ours\n"})
    both.release("v2026.9.7", {"a.ts": "7\n"})
    both.release("v2026.10.1", {"a.ts": "10\n"})
    upstream = both.refs(both.upstream)
    done = both.propose()
    assert (done.version, done.branch, done.changed, done.files) == (
        "v2026.10.1", "proposal/upstream-2026.10.1", True, 1,
    )  # fmt: skip
    assert machine.git(both.fork, "rev-parse", done.branch) == done.commit
    assert machine.git(both.fork, "rev-parse", f"{done.branch}^1", "main").split() == [ours, ours]
    assert machine.git(both.fork, "show", f"{done.branch}:a.ts") == "10"
    assert machine.git(both.fork, "show", f"{done.branch}:b.ts") == "ours"
    assert both.refs(both.upstream) == upstream
    assert '"event":"upstream.proposed"' in machine.bot.audit.read_text()


def test_named_version_and_again(machine, both):
    both.change_fork({"b.ts": "ours\n"})
    both.release("v2026.9.7", {"a.ts": "7\n"})
    both.release("v2026.10.1", {"a.ts": "10\n"})
    first = both.propose("v2026.9.7")
    assert first.branch == "proposal/upstream-2026.9.7"
    assert both.propose("v2026.9.7") == replace(first, changed=False)


def test_fork_that_went_on_gets_a_proposal_that_follows(machine, both):
    ours = both.change_fork({"b.ts": "ours\n"})
    both.release("v2026.9.7", {"a.ts": "7\n"})
    first = both.propose()
    machine.git(both.work, "checkout", "-q", ours)
    both.commit({"c.ts": "c\n"})
    machine.git(both.work, "push", "-q", str(both.fork), "HEAD:main")
    second = both.propose()
    assert machine.git(both.fork, "merge-base", first.commit, second.commit) == first.commit
    assert machine.git(both.fork, "show", f"{second.branch}:c.ts") == "c"


def test_version_that_the_fork_has(both):
    assert not both.propose().changed


def test_conflicts_are_named_and_change_nothing(machine, both):
    both.change_fork({"a.ts": "ours\n", "b.ts": "ours\n"})
    both.release("v2026.9.7", {"a.ts": "7\n", "b.ts": "7\n"})
    before = both.refs(both.fork)
    with pytest.raises(Conflict, match=r"a\.ts, b\.ts"):
        both.propose()
    assert both.refs(both.fork) == before


def test_looking_pushes_nothing(both):
    both.change_fork({"b.ts": "ours\n"})
    both.release("v2026.9.7", {"a.ts": "7\n"})
    before = both.refs(both.fork)
    assert both.propose(check=True).changed
    assert both.refs(both.fork) == before


@pytest.mark.parametrize("version", ["main", "--all", "v1", "v1.2.3;x", "v2026.9.6/../x"])
def test_versions_are_tags_of_versions(both, version):
    with pytest.raises(InvalidInput, match="no tag of a version"):
        both.propose(version)


def test_what_cannot_be_reached(machine, both):
    with pytest.raises(CoreError, match=r"v9\.9\.9 of .* cannot be fetched"):
        both.propose("v9.9.9")
    both.fork.rename(machine.top / "gone")
    with pytest.raises(CoreError):
        both.propose("v2026.9.6")
    with pytest.raises(InvalidInput, match="has no fork"):
        propose_upstream(replace(both.request(), fork=""))


def test_locked_bot(machine, both):
    machine.lock()
    with pytest.raises(Conflict, match="locked"):
        both.propose()


@pytest.mark.parametrize(
    ("fork", "token"),
    [
        ("https://git.example/fork.git", "t0ken"),
        ("https://git.example.org/fork.git", ""),
        ("http://git.example/fork.git", ""),
        ("https://me@git.example/fork.git", ""),
    ],
)
def test_token_goes_to_its_own_server_only(machine, fork, token):
    machine.settings(remote={"url": "https://git.example/bot1.git", "branch": "main", "user": "x"})
    (machine.root / "secrets" / BOT / "controller.env").write_text("CONTROLLER_REMOTE_TOKEN=t0ken\n")
    assert _with_login(Remote(fork), machine.bot).token == token
