#!/usr/bin/python
"""Ansible module: proves on a running bot that it is isolated."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_verification
short_description: Prove on a running bot that its tools run in sandboxes and that it is isolated
description:
  - Lets the bot's own OpenClaw run one command as its tool, finds the process on the machine, and asks the engine which
    container it is in. OpenClaw is not asked whether its sandbox is on.
  - Also looks at approved files, at the gateway's container and at who holds the engine's socket.
  - Never fails because of what it finds; the result says it.
options:
  root:
    description: Directory of ClawFactory on the machine.
    type: path
    required: true
  bot:
    description: Name of the bot.
    type: str
    required: true
  network_pool:
    description: IPv4 network of which each bot gets a /24.
    type: str
    required: true
  probe:
    description: Text of the program that answers as the bot's model, run in the gateway's container.
    type: str
    required: true
  egress:
    description: Checks that C(openclaw proxy validate --json) returned.
    type: list
    elements: dict
    default: []
attributes:
  check_mode: {support: full, description: Verifies too; nothing of the bot is changed but the history of one session.}
  diff_mode: {support: none, description: Changes nothing.}
author: ClawFactory
"""
EXAMPLES = r"""
- name: Verify
  clawfactory_verification:
    root: /srv/clawfactory
    bot: bot1
    network_pool: 10.213.0.0/16
    probe: "{{ lookup('ansible.builtin.file', 'verify/probe.mjs') }}"
"""
RETURN = r"""
checks:
  description: Name, result and detail of every check.
  returned: success
  type: list
  elements: dict
table:
  description: The same as lines.
  returned: success
  type: list
  elements: str
verified:
  description: Whether all of them passed.
  returned: success
  type: bool
"""

from dataclasses import asdict
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.clawfactory_core.allocation import describe, read_allocations
from ansible.module_utils.clawfactory_core.errors import CoreError
from ansible.module_utils.clawfactory_core.verification import table
from ansible.module_utils.clawfactory_core.verify_bot import verify


def argument_spec() -> dict[str, dict[str, object]]:
    return {
        "root": {"type": "path", "required": True},
        "bot": {"type": "str", "required": True},
        "network_pool": {"type": "str", "required": True},
        "probe": {"type": "str", "required": True},
        "egress": {"type": "list", "elements": "dict", "default": []},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = module.params
    root, bot = Path(options["root"]), options["bot"]
    try:
        entry = read_allocations(root).get(bot)
        if entry is None:
            raise CoreError(f"{bot} is not deployed on this machine; run: ansible-playbook site.yml -l {bot}")
        checks = verify(root, describe(root, bot, options["network_pool"], entry), options["probe"], options["egress"])
    except (CoreError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=False,
        checks=[asdict(check) for check in checks],
        table=table(checks),
        verified=all(check.ok for check in checks),
    )


if __name__ == "__main__":
    main()
