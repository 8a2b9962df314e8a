#!/usr/bin/python
"""Ansible module: one look at a machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_machine_info
short_description: Read what a machine is and what ClawFactory has on it
description:
  - Reads operating system, resources, programs, Docker engine, containers, networks, images, firewall, allocations,
    locks and listening ports in one go, with the standard library only.
  - Fails when the machine cannot carry a bot, naming the value and the way out.
options:
  root:
    description: Directory of ClawFactory on the machine.
    type: path
    required: true
  network_pool:
    description: IPv4 network of which each bot gets a /24.
    type: str
    default: 10.213.0.0/16
  commands:
    description: Programs that have to be in PATH; absent ones are reported, not refused.
    type: list
    elements: str
    default: []
  minimum_memory_mb:
    description: Least memory of the machine in MiB.
    type: int
    default: 0
  minimum_disk_mb:
    description: Least free space below I(root) in MiB; checked only while the bots of I(new_bots) have no slot yet.
    type: int
    default: 0
  new_bots:
    description: Bots about to be deployed on the machine.
    type: list
    elements: str
    default: []
  secrets:
    description:
      - What bots want kept, by bot, each a dictionary with the options C(values), C(used), C(snapshot_key) and
        C(snapshot_recipient) of M(clawfactory_secrets). C(settled) of the bot's secrets says whether all is so.
      - No value is returned or logged.
    type: dict
    default: {}
attributes:
  check_mode: {support: full, description: Reads only.}
  diff_mode: {support: none, description: Changes nothing.}
author: ClawFactory
"""
EXAMPLES = r"""
- name: Read the machine
  clawfactory_machine_info:
    root: /srv/clawfactory
    commands: [git, nft]
"""
RETURN = r"""
machine:
  description: Facts as described by clawfactory_core.machine.describe_machine.
  returned: success
  type: dict
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.clawfactory_core.errors import CoreError
from ansible.module_utils.clawfactory_core.machine import check_machine, describe_machine
from ansible.module_utils.clawfactory_core.secrets import settled_bots


def argument_spec() -> dict[str, dict[str, object]]:
    return {
        "root": {"type": "path", "required": True},
        "network_pool": {"type": "str", "default": "10.213.0.0/16"},
        "commands": {"type": "list", "elements": "str", "default": []},
        "minimum_memory_mb": {"type": "int", "default": 0},
        "minimum_disk_mb": {"type": "int", "default": 0},
        "new_bots": {"type": "list", "elements": "str", "default": []},
        # Not no_log: a value that is part of a path or a name would be cut out of the facts.
        "secrets": {"type": "dict", "default": {}, "no_log": False},
    }


class _QuietModule(AnsibleModule):  # type: ignore[misc] # ansible-core has no type information
    """Does not copy its arguments, which hold secrets, to the machine's system log."""

    def _log_invocation(self) -> None:
        pass


def main() -> None:
    module = _QuietModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = module.params
    try:
        machine = describe_machine(Path(options["root"]), options["network_pool"], options["commands"])
        fresh = not set(options["new_bots"]) <= set(machine["allocations"])
        wanted = {bot: options["secrets"][bot] for bot in options["secrets"].keys() & machine["secrets"].keys()}
        for bot in settled_bots(Path(options["root"]), options["network_pool"], machine["allocations"], wanted):
            machine["secrets"][bot]["settled"] = True
        check_machine(machine, options["minimum_memory_mb"], options["minimum_disk_mb"] if fresh else 0)
    except CoreError as error:
        bots = ", ".join(options["new_bots"])
        module.fail_json(msg=f"{bots}: {error}" if bots else str(error), invocation={})
    # Nor are the arguments echoed.
    module.exit_json(changed=False, machine=machine, invocation={})


if __name__ == "__main__":
    main()
