"""The memory's markdown goes to a branch; secrets, the vector store and what the bot makes of its files do not."""

from __future__ import annotations

import json
import os

import pytest

from clawfactory_core.errors import Conflict, CoreError, InvalidInput
from clawfactory_core.promotion.memory import BRANCH, backup_memory
from clawfactory_core.promotion.memory_files import MemoryLimits, read_memory
from tests.unit.core.promotion.promotion_machine import BOT, SECRET, UID, Machine


@pytest.fixture
def workspace(machine):
    path = machine.repositories / "state" / "workspace"
    (path / "memory" / "2026").mkdir(parents=True)
    (path / "MEMORY.md").write_text("# What I know\n")
    (path / "memory" / "2026" / "today.md").write_text("rain\n")
    (path / "memory" / "notes.txt").write_text("no markdown\n")
    store = machine.repositories / "state" / "memory"
    store.mkdir()
    (store / "main.sqlite").write_bytes(b"vectors")
    agent = machine.repositories / "state" / "agents" / "main" / "agent"
    agent.mkdir(parents=True)
    (agent / "openclaw-agent.sqlite").write_bytes(b"more vectors")
    # The bot may say that its store is anywhere.
    (store / "other.sqlite").symlink_to("/etc/passwd")
    (agent.parents[1] / "away").symlink_to(machine.top)
    return path


def backup(machine: Machine, **options: bool):
    return backup_memory(machine.root, BOT, actor="alice", **options)


def held(machine: Machine, repository=None) -> dict[str, str]:
    where = repository or machine.bot.origin
    names = machine.git(where, "ls-tree", "-r", "--name-only", BRANCH).split("\n")
    return {name: machine.git(where, "show", f"{BRANCH}:{name}") for name in names if name}


def test_markdown_goes_to_the_branch(machine, workspace):
    done = backup(machine)
    assert done.changed
    assert done.files == {"MEMORY.md": 14, "memory/2026/today.md": 5}
    assert done.indexes == {"agents/main/agent/openclaw-agent.sqlite": 12, "memory/main.sqlite": 7}
    assert held(machine) == {"MEMORY.md": "# What I know", "memory/2026/today.md": "rain"}
    assert machine.git(machine.bot.origin, "rev-parse", BRANCH) == done.commit
    # Nothing of it is on the branch that is promoted.
    assert machine.git(machine.bot.origin, "merge-base", "--all", "main", BRANCH, ok=(1,)) == ""
    line = json.loads(machine.bot.audit.read_text())
    assert (line["event"], line["actor"], line["commit"], line["files"]) == ("memory.backup", "alice", done.commit, 2)


def test_only_changes_make_a_commit(machine, workspace):
    first = backup(machine)
    assert backup(machine) == type(first)(**{**vars(first), "changed": False})
    (workspace / "MEMORY.md").unlink()
    second = backup(machine)
    assert set(held(machine)) == {"memory/2026/today.md"}
    assert machine.git(machine.bot.origin, "rev-parse", f"{second.commit}^") == first.commit
    assert machine.git(machine.bot.origin, "for-each-ref", "refs/clawfactory/") == ""


def test_looking_changes_nothing(machine, workspace):
    done = backup(machine, check=True)
    assert (done.changed, done.commit, set(done.files)) == (True, "", {"MEMORY.md", "memory/2026/today.md"})
    assert machine.git(machine.bot.origin, "for-each-ref", f"refs/heads/{BRANCH}") == ""


def test_no_memory_yet(machine):
    assert backup(machine).files == {}


def test_secrets_stay(machine, workspace):
    (workspace / "memory" / "login.md").write_text(f"the token is {SECRET}.\n")
    (workspace / "memory" / "key.md").write_text("AGE-SECRET-KEY-1" + "Q" * 58 + "\n")
    (workspace / "memory" / f"{SECRET}.md").write_text("innocent\n")
    done = backup(machine)
    assert set(held(machine)) == {"MEMORY.md", "memory/2026/today.md"}
    assert {"memory/login.md", "memory/key.md"} < set(done.left_out)
    assert SECRET not in json.dumps([done.left_out, done.files])


def test_nothing_goes_where_secrets_cannot_be_told(machine, workspace):
    machine.bot.fingerprints.unlink()
    with pytest.raises(InvalidInput, match="fingerprints"):
        backup(machine)


def test_locked_bot(machine, workspace):
    machine.lock()
    with pytest.raises(Conflict, match="locked"):
        backup(machine)


def test_what_the_bot_makes_of_its_files(machine, workspace):
    memory = workspace / "memory"
    (memory / "link.md").symlink_to("/etc/passwd")
    os.mkfifo(memory / "pipe.md")
    (memory / "binary.md").write_bytes(b"\xff\xfe")
    (memory / "new\nline.md").write_text("x")
    (memory / 'quo"te.md').write_text("x")
    (memory / ".git").mkdir()
    (memory / ".git" / "config.md").write_text("x")
    (memory / "Case.md").write_text("x")
    (memory / "case.md").write_text("x")
    (memory / "dir.md").mkdir()
    (memory / "away").symlink_to("/etc")
    deep = memory
    for number in range(12):
        deep = deep / str(number)
        deep.mkdir()
    (deep / "deep.md").write_text("x")
    done = backup(machine)
    assert set(held(machine)) == {"MEMORY.md", "memory/2026/today.md", "memory/Case.md"}
    assert {
        "memory/case.md",
        "memory/.git/config.md",
        "memory/link.md",
        "memory/pipe.md",
        "memory/binary.md",
        'memory/quo"te.md',
    } <= set(done.left_out)
    assert any(path.startswith("memory/0/1/") for path in done.left_out)


def test_memory_that_is_a_link(machine, workspace):
    (machine.top / "elsewhere").mkdir()
    (machine.top / "elsewhere" / "MEMORY.md").write_text("of another\n")
    workspace.rename(machine.top / "away")
    workspace.symlink_to(machine.top / "elsewhere")
    with pytest.raises(CoreError):
        backup(machine)


def test_state_is_read_as_the_bots_own_user(machine, workspace):
    if os.geteuid() != 0:
        assert set(read_memory(machine.bot.state, UID).files) == {"MEMORY.md", "memory/2026/today.md"}
        return
    for path in (machine.bot.state, *machine.bot.state.rglob("*")):
        os.chown(path, 20001, 20001)
    os.chown(workspace / "MEMORY.md", 0, 0)
    (workspace / "MEMORY.md").chmod(0o600)
    found = read_memory(machine.bot.state, 20001)
    assert set(found.files) == {"memory/2026/today.md"}
    assert found.left_out == {"MEMORY.md": "Permission denied"}


def test_limits(machine, workspace):
    for number in range(5):
        (workspace / "memory" / f"{number}.md").write_text("x" * 100)
    found = read_memory(machine.bot.state, UID, MemoryLimits(files=3))
    assert len(found.files) == 3
    assert "there is too much" in found.left_out.values()
    found = read_memory(machine.bot.state, UID, MemoryLimits(file_bytes=50))
    assert set(found.files) == {"MEMORY.md", "memory/2026/today.md"}
    found = read_memory(machine.bot.state, UID, MemoryLimits(total_bytes=250))
    assert sum(map(len, found.files.values())) <= 250


class TestRemote:
    @pytest.fixture
    def remote(self, machine):
        path = machine.top / "remote.git"
        machine.git(machine.top, "clone", "-q", "--bare", str(machine.bot.origin), str(path))
        machine.settings(remote={"url": str(path), "branch": "main", "user": ""})
        return path

    def test_branch_is_the_remotes(self, machine, workspace, remote):
        done = backup(machine)
        assert done.pushed
        assert set(held(machine, remote)) == {"MEMORY.md", "memory/2026/today.md"}
        # Another machine, or somebody at the remote, went on with it.
        other = machine.git(remote, "commit-tree", f"{BRANCH}^{{tree}}", "-p", BRANCH, "-m", "other")
        machine.git(remote, "update-ref", f"refs/heads/{BRANCH}", other)
        (workspace / "MEMORY.md").write_text("more\n")
        second = backup(machine)
        assert machine.git(remote, "rev-parse", f"{BRANCH}^") == other
        assert machine.git(remote, "rev-parse", BRANCH) == second.commit

    def test_gone(self, machine, workspace, remote):
        backup(machine)
        remote.rename(machine.top / "gone")
        (workspace / "MEMORY.md").write_text("more\n")
        before = held(machine)
        with pytest.raises(CoreError):
            backup(machine)
        assert held(machine) == before
