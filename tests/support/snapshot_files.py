"""A bot that has nothing but its files, for playbooks about its snapshots."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

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

    def key_goes(self, path: Path) -> str:
        """Move the private key to the control node. :returns: its secret part."""
        path.parent.mkdir()
        (self.secrets / "snapshot.key").rename(path)
        secret = path.read_text().split()[-1]
        assert secret.startswith("AGE-SECRET-KEY-1")
        return secret

    def holds(self, secret: str) -> list[str]:
        """Files that have it."""
        return [path for path, data in self.everything().items() if secret in str(data)]


def result(run: PlaybookRun, task: str) -> dict[str, Any]:
    """What the one task of this name returned."""
    found = [result for _, name, result in run._results() if name.endswith(task) and not result.get("skipped")]
    assert len(found) == 1, (task, [name for _, name, _ in run._results()])
    return found[0]
