"""Playbooks about promotion that need no running bot, on a machine's directory with real repositories."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.github_server import GitHubServer, github
from tests.support.playbooks import PlaybookRun, ansible_playbook
from tests.unit.core.promotion.promotion_machine import BOT, SECRET, Machine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="git runs as the bot's own users there")
CONTROLLER, GATEWAY = 30001, 20001
TOKEN = "the-forks-own-token-0123456789"


def own(path: Path, uid: int) -> None:
    subprocess.run(["chown", "-R", f"{uid}:{uid}", str(path)], check=True)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    # Not below pytest's own directory, which only root may enter.
    with tempfile.TemporaryDirectory(prefix="cfp-") as directory:
        os.chmod(directory, 0o755)  # noqa: S103 - the bot's users come here
        made = Machine(Path(directory))
        for path in (made.repositories / "origin.git", made.repositories / "proposals.git", made.approved):
            own(path, CONTROLLER)
        own(made.repositories / "state", GATEWAY)
        os.chmod(made.repositories, 0o755)  # noqa: S103 - as role gateway has it
        (made.root / "venv").symlink_to(Path(sys.executable).parents[1])
        yield made


@pytest.fixture(scope="module")
def play(machine: Machine):
    inventory = machine.top / "hosts.yml"
    inventory.write_text(f"bots:\n  hosts:\n    {BOT}: {{ansible_connection: local}}\n")

    def run(playbook: str, *options: str, **variables: object) -> PlaybookRun:
        extra = json.dumps({"clawfactory_root": str(machine.root), **variables})
        return ansible_playbook(f"playbooks/{playbook}.yml", inventory, "--extra-vars", extra, *options)

    return run


def git(directory: Path, *arguments: str) -> str:
    return Machine.git(directory, "-c", "safe.directory=*", *arguments)


def test_clone_is_edited_and_looked_at_before_it_is_promoted(machine, play):
    clone = machine.top / "clone"
    play("clone", clone_to=str(clone)).succeeded()
    first = git(clone, "rev-parse", "HEAD")
    assert first == git(machine.repositories / "origin.git", "rev-parse", "main")
    assert (clone / "workspace" / "SOUL.md").read_text() == "kind\n"
    (clone / "workspace" / "SOUL.md").write_text("by the operator\n")
    refused = play("promote", "--check", "--diff", promote_from=str(clone))
    assert "nobody committed" in refused.failures[BOT]
    git(clone, "commit", "-q", "-a", "-m", "mine")
    looked = play("promote", "--check", "--diff", promote_from=str(clone)).succeeded()
    assert looked.changed
    assert "+by the operator" in json.dumps(looked.report)
    assert git(machine.repositories / "origin.git", "rev-parse", "main") == first
    assert not list(Path("/root").glob(".clawfactory-*.bundle"))


def test_clone_that_is_there_gets_what_is_new_and_keeps_its_own(machine, play):
    clone, origin = machine.top / "clone", machine.repositories / "origin.git"
    mine = git(clone, "rev-parse", "HEAD")
    before = git(origin, "rev-parse", "main")
    theirs = git(origin, "commit-tree", f"{before}^{{tree}}", "-p", before, "-m", "theirs")
    git(origin, "update-ref", "refs/heads/main", theirs)
    own(origin, CONTROLLER)
    play("clone", clone_to=str(clone)).succeeded()
    assert git(clone, "rev-parse", "HEAD") == mine
    assert git(clone, "rev-parse", "machine/main") == theirs
    refused = play("promote", "--check", promote_from=str(clone))
    assert "does not follow on main" in refused.failures[BOT]
    git(clone, "rebase", "-q", "machine/main")
    play("promote", "--check", promote_from=str(clone)).succeeded()


def test_memory_is_backed_up_without_secrets(machine, play):
    workspace = machine.repositories / "state" / "workspace"
    (workspace / "memory").mkdir(parents=True)
    (workspace / "memory" / "rain.md").write_text("It rained.\n")
    (workspace / "memory" / "token.md").write_text(f"My token is {SECRET}.\n")
    own(workspace, GATEWAY)
    assert play("backup-memory", "--check").succeeded().changed
    run = play("backup-memory").succeeded()
    assert run.changed
    assert "left out: memory/token.md" in json.dumps(run.report)
    assert SECRET not in json.dumps(run.report)
    origin = machine.repositories / "origin.git"
    assert git(origin, "ls-tree", "-r", "--name-only", "memory-backup") == "memory/rain.md"
    assert play("backup-memory").succeeded().changed == []


def commit(machine: Machine, name: str, text: str) -> None:
    """In another program's repository."""
    (machine.top / "openclaw" / name).write_text(text)
    machine.git(machine.top / "openclaw", "add", "--all")
    machine.git(machine.top / "openclaw", "commit", "-q", "-m", "change")


@pytest.fixture(scope="module")
def server(machine: Machine) -> Iterator[GitHubServer]:
    """A fork that asks for a token, and upstream, which asks for none."""
    for name in ("fork.git", "public.git"):
        machine.git(machine.top, "init", "-q", "--bare", "-b", "main", name)
    machine.git(machine.top, "init", "-q", "-b", "main", "openclaw")
    commit(machine, "a.txt", "1\n")
    machine.git(machine.top / "openclaw", "push", "-q", str(machine.top / "fork.git"), "main")
    commit(machine, "b.txt", "2\n")
    machine.git(machine.top / "openclaw", "tag", "v2026.9.9")
    machine.git(machine.top / "openclaw", "push", "-q", str(machine.top / "public.git"), "main", "v2026.9.9")
    with github(machine.top / "fork.git", TOKEN) as found:
        yield found


class TestFork:
    @pytest.fixture
    def variables(self, server) -> dict[str, str]:
        return {
            "gateway_image_source": "fork",
            "gateway_fork_repository": f"http://x-access-token:{TOKEN}@{server.address}/fork.git",
            "promotion_upstream_url": f"http://{server.address}/public.git",
        }

    def test_update_is_proposed_at_the_fork(self, machine, play, variables):
        fork = machine.top / "fork.git"
        main = git(fork, "rev-parse", "main")
        # Of a run of this test before, if it is tried once more.
        git(fork, "update-ref", "-d", "refs/heads/proposal/upstream-2026.9.9")
        assert play("update-upstream", "--check", **variables).succeeded().changed
        assert git(fork, "for-each-ref", "--format=%(refname)") == "refs/heads/main"
        run = play("update-upstream", **variables).succeeded()
        assert "upstream-2026.9.9" in json.dumps(run.report)
        assert TOKEN not in json.dumps(run.report)
        assert git(fork, "show", "proposal/upstream-2026.9.9:b.txt") == "2"
        assert git(fork, "rev-parse", "main") == main
        assert play("update-upstream", **variables).succeeded().changed == []

    def test_conflict_is_told_by_file_and_changes_nothing(self, machine, play, variables):
        fork = machine.top / "fork.git"
        machine.git(machine.top / "openclaw", "checkout", "-q", "v2026.9.9^")
        commit(machine, "b.txt", "ours\n")
        machine.git(machine.top / "openclaw", "push", "-q", str(fork), "HEAD:main")
        git(fork, "update-ref", "-d", "refs/heads/proposal/upstream-2026.9.9")
        before = git(fork, "for-each-ref")
        run = play("update-upstream", **variables)
        assert "b.txt" in run.failures[BOT]
        assert git(fork, "for-each-ref") == before

    def test_bot_without_a_fork_is_refused(self, play):
        assert "only a fork has an upstream" in play("update-upstream").failures[BOT]
