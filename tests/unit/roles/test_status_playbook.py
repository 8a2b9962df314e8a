"""What the status says when no machine answers at all."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from tests.support.playbooks import REPOSITORY, ansible_playbook

# Nothing listens there.
NOWHERE = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}


def test_page_is_one_file_that_shows_names_as_text(tmp_path: Path) -> None:
    """What a machine says of a bot may be of the bot's making; here it is what hostvars hold."""
    inventory, page = tmp_path / "hosts.json", tmp_path / "status.html"
    hostile = "<script>alert(1)</script>"
    known = {
        "bot": "near", "state": "locked", "version": "2026.9.6", "approved": "c" * 40, "restarts": 3, "lock": hostile,
        "drift": [f"/srv/{hostile}"], "snapshot": "failed", "snapshot_time": "2026-11-29T03:00:00",
        "snapshot_problem": hostile, "egress_denials": "17",
        "containers": {"gateway": {"status": "running", "health": hostile}},
    }  # fmt: skip
    inventory.write_text(json.dumps({"bots": {"hosts": {"near": {"bot_status": known}, "far1": NOWHERE}}}))
    play = yaml.safe_load((REPOSITORY / "playbooks" / "status.yml").read_text())[-1]
    task = next(task for task in play["tasks"] if task["name"] == "Page")
    task["ansible.builtin.template"]["src"] = str(REPOSITORY / "playbooks" / "templates" / "status.html.j2")
    (tmp_path / "play.yml").write_text(json.dumps([{**play, "tasks": [task]}]))
    ansible_playbook(str(tmp_path / "play.yml"), inventory, "--extra-vars", f"status_html_file={page}").succeeded()
    text = page.read_text()
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 4
    assert all(word in text for word in ("near", "far1", 'class="unknown"', 'class="locked"', "cccccccccccc<", ">17\n"))
    assert not re.search(r"(?i)(src|href|url)\s*[=(]", text)
    assert page.stat().st_mode & 0o777 == 0o600


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
