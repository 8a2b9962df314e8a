"""Variables of a wrong kind, of several roles at once."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.playbooks import REPOSITORY, ansible_playbook

BOTS = {
    "right": {"proxy_pids": "{{ 16 * 2 }}", "egress_mode": "open"},
    "wrong": {"proxy_pids": "many", "egress_mode": "ajar", "secrets_env": "sk-hush", "proxy_cpus": "{{ 2 }}"},
    "untold": {"proxy_pids": "{{ nobody_said }}"},
}


def test_they_are_told_together_and_without_values_of_secrets(tmp_path: Path) -> None:
    roles = [str(REPOSITORY / "roles" / role) for role in ("egress", "proxy", "secrets")]
    task = {
        "fail": {"msg": "{{ wrong | join('; ') }}"}, "when": "wrong | length > 0",
        "vars": {"wrong": "{{ query('clawfactory_argument_errors', *roles) }}", "roles": roles},
    }  # fmt: skip
    inventory, path = tmp_path / "hosts.json", tmp_path / "play.yml"
    hosts = {bot: {"ansible_connection": "local", **variables} for bot, variables in BOTS.items()}
    inventory.write_text(json.dumps({"bots": {"hosts": hosts}}))
    path.write_text(json.dumps([{"hosts": "bots", "gather_facts": False, "tasks": [task]}]))
    run = ansible_playbook(str(path), inventory)
    assert set(run.failures) == {"wrong", "untold"}
    for told in ("proxy_pids", "egress_mode must be one of: allowlist, open, none", "secrets_env", "ajar"):
        assert told in run.failures["wrong"]
    assert "proxy_cpus" not in run.failures["wrong"]
    assert "nobody_said" in run.failures["untold"]
    assert "hush" not in json.dumps(run.report) + run.stderr
