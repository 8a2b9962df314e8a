"""Playbooks about snapshots and their keys, run against a bot that has nothing but its files."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from clawfactory_core.adapters.age import make_key_pair
from clawfactory_core.allocation import AllocationRequest, record_allocation
from clawfactory_core.snapshots.create import apply_snapshot
from clawfactory_core.snapshots.keys import make_key_file
from clawfactory_core.snapshots.settings import snapshot_request
from tests.support.playbooks import PlaybookRun, ansible_playbook

# No container of any engine has this label.
BOT = "of-unit-tests"
CHECK = ["--check", "--diff"]


class Files:
    """A root with one bot."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "bot_repos" / BOT / "state"
        self.directory = root / "snapshots" / BOT
        self.secrets = root / "secrets" / BOT
        for path in (self.state / "workspace", self.directory, self.secrets, root / "locks"):
            path.mkdir(parents=True)
        (root / "venv").symlink_to(sys.prefix)
        record_allocation(AllocationRequest(root, BOT, "10.213.0.0/16"))
        make_key_file(self.secrets / "snapshot.key", make_key_pair)
        (self.secrets / "snapshot.key.pub").rename(self.secrets / "snapshot.pub")
        (self.state / "workspace" / "note.md").write_text("before")
        self.settle()
        self.inventory = root.parent / "inventory.yml"
        host = {"clawfactory_root": str(root), "ansible_python_interpreter": sys.executable}
        self.inventory.write_text(json.dumps({"bots": {"hosts": {BOT: host}, "vars": {"ansible_connection": "local"}}}))

    def settle(self, keep_last: int = 9, max_chain: int = 9) -> None:
        limits = {"max_entries": 1000, "max_mb": 100, "max_file_mb": 100, "max_minutes": 5, "min_free_mb": 0}
        settings = {
            **limits, "controller_uid": os.geteuid(), "gateway_uid": os.geteuid(), "recipients": [], "exclude": [],
            "include": [], "max_chain": max_chain, "max_delta_percent": 99999,
            "keep": {"last": keep_last, "daily": 0, "weekly": 0, "monthly": 0},
        }  # fmt: skip
        (self.root / "snapshots" / f"{BOT}.json").write_text(json.dumps(settings))

    def snapshot(self) -> str:
        return apply_snapshot(snapshot_request(self.root, BOT)).record.file_name

    def play(self, name: str, *arguments: str, **variables: object) -> PlaybookRun:
        return ansible_playbook(
            f"playbooks/{name}.yml", self.inventory, *arguments, "--extra-vars", json.dumps(variables)
        )

    def everything(self) -> dict[str, object]:
        found = [path for path in self.root.rglob("*") if self.root / "venv" not in (path, *path.parents)]
        return {str(path): path.read_bytes() if path.is_file() else os.path.lexists(path) for path in found}


@pytest.fixture
def files(tmp_path) -> Files:
    return Files(tmp_path / "root")


def result(run: PlaybookRun, task: str) -> dict[str, Any]:
    """What the one task of this name returned."""
    found = [result for _, name, result in run._results() if name.endswith(task) and not result.get("skipped")]
    assert len(found) == 1, (task, [name for _, name, _ in run._results()])
    return found[0]


def test_keygen(tmp_path, files):
    path = tmp_path / "keys" / "rescue.key"
    would = result(files.play("keygen", *CHECK, keygen_file=str(path)).succeeded(), "Make it")
    assert would["changed"] and would["diff"]["after"] == "a new recipient\n"
    assert not path.parent.exists()
    run = files.play("keygen", "--diff", keygen_file=str(path)).succeeded()
    recipient = (tmp_path / "keys" / "rescue.key.pub").read_text()
    assert result(run, "Make it")["diff"]["after"] == recipient
    assert "AGE-SECRET-KEY" in path.read_text() and path.stat().st_mode & 0o777 == 0o600
    assert "AGE-SECRET-KEY" not in json.dumps(run.report) + run.stderr
    before = path.read_text()
    for options in ([], CHECK):
        assert "never replaced" in files.play("keygen", *options, keygen_file=str(path)).failures["localhost"]
    assert path.read_text() == before


def test_rotate(files):
    files.snapshot()
    old = (files.secrets / "snapshot.pub").read_text()
    key = (files.secrets / "snapshot.key").read_text().split()[-1]
    before = files.everything()
    would = result(files.play("rotate-snapshot-key", *CHECK).succeeded(), "Rotate")
    assert would["changed"]
    assert (would["diff"]["before"], would["diff"]["after"]) == (old, "a new recipient\n")
    assert files.everything() == before
    run = files.play("rotate-snapshot-key", "--diff").succeeded()
    new = (files.secrets / "snapshot.pub").read_text()
    assert new != old
    assert (result(run, "Rotate")["diff"]["before"], result(run, "Rotate")["diff"]["after"]) == (old, new)
    text = json.dumps(run.report) + run.stderr
    assert key not in text and "AGE-SECRET-KEY" not in text


@pytest.mark.parametrize("options", [[], CHECK])
def test_neither_rotates_nor_prunes_what_is_locked(files, options):
    files.snapshot()
    files.settle(keep_last=1, max_chain=1)
    (files.root / "locks" / BOT).touch()
    before = files.everything()
    for playbook in ("rotate-snapshot-key", "snapshot"):
        assert "locked" in files.play(playbook, *options).failures[BOT]
    assert files.everything() == before


def test_prune(files):
    files.settle(keep_last=1, max_chain=1)
    made = [files.snapshot() for _ in range(3)]
    before = files.everything()
    run = files.play("snapshot", *CHECK).succeeded()
    would = result(run, "Prune | What the retention does not keep")
    # The one that would be made is not there to be counted.
    assert would["changed"] and sorted(would["pruned"]) == sorted(made[:2])
    assert sorted(would["diff"]["before"].split()) == sorted(made[:2]) and would["diff"]["after"] == ""
    assert files.everything() == before
    run = files.play("snapshot", "--diff", snapshot_label="newest").succeeded()
    pruned = result(run, "Prune | What the retention does not keep")
    assert sorted(pruned["pruned"]) == sorted(made)
    left = [path.name for path in files.directory.glob("*.age")]
    assert [name.partition("--")[0] for name in left] == ["newest"]


class TestKeyOfTheControlNode:
    """The private key is not on the machine, and travels for a restore alone."""

    @pytest.fixture
    def key(self, tmp_path, files) -> Path:
        path = tmp_path / "control" / "snapshot.key"
        path.parent.mkdir()
        (files.secrets / "snapshot.key").rename(path)
        files.snapshot()
        (files.state / "workspace" / "note.md").write_text("after")
        return path

    def private(self, files: Files, key: Path) -> str:
        """The key, after making sure that it lies nowhere on the machine."""
        secret = key.read_text().split()[-1]
        assert secret.startswith("AGE-SECRET-KEY-1")
        assert not [
            path for path, data in files.everything().items() if isinstance(data, bytes) and secret.encode() in data
        ]
        return secret

    def test_restores_a_state(self, files, key):
        assert "restore_key_file" in files.play("restore").failures[BOT]
        before = files.everything()
        would = files.play("restore", *CHECK, restore_key_file=str(key)).succeeded()
        diff = result(would, "Restore | Verify and extract beside the live state")["diff"]
        assert diff["before"] == "the live state\n" and "entries" in diff["after"]
        assert files.everything() == before
        run = files.play("restore", "--diff", "-vvv", restore_key_file=str(key)).succeeded()
        assert (files.state / "workspace" / "note.md").read_text() == "before"
        assert self.private(files, key) not in json.dumps(run.report) + run.stderr
        assert [path.name for path in files.state.parent.glob(".*")] == []

    def test_takes_files_out(self, tmp_path, files, key):
        found = tmp_path / "found"
        run = files.play(
            "restore", restore_key_file=str(key), restore_paths=["workspace/note.md"], restore_destination=str(found)
        ).succeeded()
        assert (found / "workspace" / "note.md").read_text() == "before"
        assert (files.state / "workspace" / "note.md").read_text() == "after"
        assert self.private(files, key) not in json.dumps(run.report) + run.stderr

    def test_verifies(self, files, key):
        assert "snapshots_key_file" in files.play("snapshots", snapshots_verify="content").failures[BOT]
        run = files.play("snapshots", snapshots_verify="content", snapshots_key_file=str(key)).succeeded()
        assert result(run, "List | Snapshots")["verified"] is True
        assert self.private(files, key) not in json.dumps(run.report) + run.stderr

    def test_another_key_is_refused_and_the_state_stays(self, tmp_path, files, key):
        make_key_file(tmp_path / "other.key", make_key_pair)
        before = files.everything()
        run = files.play("restore", restore_key_file=str(tmp_path / "other.key"))
        assert "no private key given opens this archive" in run.failures[BOT]
        assert files.everything() == before
