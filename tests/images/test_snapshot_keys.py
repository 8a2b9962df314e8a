"""A private key that is on the control node alone: nothing of it stays on the machine that it restores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.snapshot_files import BOT, Files

pytestmark = pytest.mark.integration


def test_a_state_is_restored_with_it(tmp_path: Path) -> None:
    files = Files(tmp_path / "root")
    key = tmp_path / "control" / "snapshot.key"
    secret = files.key_goes(key)
    files.snapshot()
    note = files.state / "workspace" / "note.md"
    note.write_text("after")
    assert "restore_key_file" in files.play("restore").failures[BOT]
    run = files.play("restore", "--diff", "-vvv", restore_key_file=str(key)).succeeded()
    assert note.read_text() == "before"
    assert secret not in json.dumps(run.report) + run.stderr
    assert files.holds(secret) == []
    assert [path.name for path in files.state.parent.glob(".*")] == []
