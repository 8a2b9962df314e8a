"""What the status says when no machine answers at all."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.playbooks import ansible_playbook

# Nothing listens there.
NOWHERE = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}


def test_bots_are_named_as_unknown_and_failed(tmp_path: Path) -> None:
    inventory, facts = tmp_path / "hosts.json", tmp_path / "status.json"
    inventory.write_text(json.dumps({"bots": {"hosts": {"far1": NOWHERE, "far2": {**NOWHERE, "ansible_port": 2}}}}))
    run = ansible_playbook("playbooks/status.yml", inventory, "--extra-vars", f"status_json_file={facts}")
    assert run.returncode == 2
    table = next(task for play in run.report["plays"] for task in play["tasks"] if task["task"]["name"] == "Table")
    (lines,) = [result["msg"] for result in table["hosts"].values() if "msg" in result]
    assert [line.split() for line in lines[1:]] == [["far1", "unknown", "unknown"], ["far2", "unknown", "unknown"]]
    assert all("whether it is locked, is unknown" in run.failures[bot] for bot in ("far1", "far2"))
    assert [(bot["bot"], bot["lock"]) for bot in json.loads(facts.read_text())] == [
        ("far1", "unknown"),
        ("far2", "unknown"),
    ]
