"""Playbooks about snapshots and their keys, run against a bot that has nothing but its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clawfactory_core.adapters.age import make_key_pair
from clawfactory_core.snapshots.keys import make_key_file
from tests.support.playbooks import PlaybookRun
from tests.support.snapshot_files import BOT, CHECK, Files, result


@pytest.fixture
def files(tmp_path) -> Files:
    return Files(tmp_path / "root")


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
        files.key_goes(path)
        files.snapshot()
        (files.state / "workspace" / "note.md").write_text("after")
        return path

    def stays_away(self, run: PlaybookRun, files: Files, key: Path) -> bool:
        secret = key.read_text().split()[-1]
        return secret not in json.dumps(run.report) + run.stderr and files.holds(secret) == []

    def test_check_mode_tells_what_would_be_replaced(self, files, key):
        assert "restore_key_file" in files.play("restore", *CHECK).failures[BOT]
        before = files.everything()
        run = files.play("restore", *CHECK, restore_key_file=str(key)).succeeded()
        diff = result(run, "Restore | Verify and extract beside the live state")["diff"]
        assert diff["before"] == "the live state\n" and "entries" in diff["after"]
        assert files.everything() == before
        assert self.stays_away(run, files, key)

    def test_takes_files_out(self, tmp_path, files, key):
        found = tmp_path / "found"
        run = files.play(
            "restore", restore_key_file=str(key), restore_paths=["workspace/note.md"], restore_destination=str(found)
        ).succeeded()
        assert (found / "workspace" / "note.md").read_text() == "before"
        assert (files.state / "workspace" / "note.md").read_text() == "after"
        assert self.stays_away(run, files, key)

    def test_verifies(self, files, key):
        assert "snapshots_key_file" in files.play("snapshots", snapshots_verify="content").failures[BOT]
        run = files.play("snapshots", snapshots_verify="content", snapshots_key_file=str(key)).succeeded()
        assert result(run, "List | Snapshots")["verified"] is True
        assert self.stays_away(run, files, key)

    def test_another_key_is_refused_and_the_state_stays(self, tmp_path, files, key):
        make_key_file(tmp_path / "other.key", make_key_pair)
        before = files.everything()
        run = files.play("restore", restore_key_file=str(tmp_path / "other.key"))
        assert "no private key given opens this archive" in run.failures[BOT]
        assert files.everything() == before


def test_a_restore_that_cannot_keep_what_it_replaces_leaves_nothing_lying_about(files: Files) -> None:
    files.snapshot()
    (files.state / "workspace" / "note.md").write_text("newer")
    (files.secrets / "snapshot.pub").unlink()
    run = files.play("restore")
    assert "the state is as it was: " in run.failures[BOT]
    assert "has no recipient" in run.failures[BOT]
    assert (files.state / "workspace" / "note.md").read_text() == "newer"
    assert not list(files.state.parent.glob(".restore*"))


def test_a_second_restore_of_the_newest_does_not_bring_back_what_the_first_replaced(files: Files) -> None:
    files.snapshot()
    (files.state / "workspace" / "note.md").write_text("damaged")
    for _ in range(2):
        files.play("restore").succeeded()
        assert (files.state / "workspace" / "note.md").read_text() == "before"


def test_a_restore_keeps_free_what_snapshots_keep_free(files: Files) -> None:
    files.snapshot()
    path = files.root / "snapshots" / f"{BOT}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "min_free_mb": 1 << 40}))
    assert "are to stay free" in files.play("restore").failures[BOT]
    assert not list(files.state.parent.glob(".restore*"))
