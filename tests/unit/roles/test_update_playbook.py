"""Which bots an update tries."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.playbooks import ansible_playbook

# Nothing listens there.
NOWHERE = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}


def test_no_bot_is_tried_after_the_canaries_failed(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({"bots": {"hosts": {f"far{number}": NOWHERE for number in range(5)}}}))
    run = ansible_playbook("playbooks/update.yml", inventory, "--extra-vars", "update_canary=2 update_serial=1")
    assert run.returncode == 4
    assert run.stats.keys() == {"far0", "far1"}
