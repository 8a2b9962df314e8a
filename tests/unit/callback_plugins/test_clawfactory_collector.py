"""What Ansible forks does not go through what was loaded before."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.playbooks import ansible_playbook

# Of a filter, because that is worked out in the process of the task.
PLAYBOOK = """
- hosts: bots
  gather_facts: false
  tasks: [{set_fact: {frozen: "{{ 0 | frozen_objects }}"}}]
"""
FILTER = """
import gc
class FilterModule:
    def filters(self):
        return {"frozen_objects": lambda _: gc.get_freeze_count()}
"""


def test_most_of_what_is_loaded_is_out_of_the_collector_s_reach(tmp_path: Path) -> None:
    inventory, playbook = tmp_path / "hosts.json", tmp_path / "play.yml"
    inventory.write_text(json.dumps({"bots": {"hosts": {"bot1": {"ansible_connection": "local"}}}}))
    playbook.write_text(PLAYBOOK)
    (tmp_path / "filter_plugins").mkdir()
    (tmp_path / "filter_plugins" / "frozen.py").write_text(FILTER)
    done = ansible_playbook(str(playbook), inventory).succeeded()
    [play] = done.report["plays"]
    assert play["tasks"][0]["hosts"]["bot1"]["ansible_facts"]["frozen"] > 50_000
