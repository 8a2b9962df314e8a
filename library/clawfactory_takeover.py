#!/usr/bin/python
"""Ansible module: takes over a bot of the original ClawFactory."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_takeover
short_description: Take over a bot of the original ClawFactory, the shell scripts
description:
  - Copies state, secrets, snapshot key, snapshots and repository of a bot to where the roles expect them.
  - The original's directory is only read, and the bot must not run there. A bot that was taken over is left alone.
options:
  source:
    description: Directory of the original on the machine, the one that holds C(bot_repos).
    type: path
    required: true
  root:
    description: Directory of ClawFactory on the machine.
    type: path
    required: true
  bot:
    description: Name of the bot, there and here.
    type: str
    required: true
  allocation:
    description: The bot's place on the machine, as M(clawfactory_allocation) returns it.
    type: dict
    required: true
  keep_key:
    description: Take the private snapshot key too; false where it is not to lie on the machine.
    type: bool
    default: true
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
author: ClawFactory
"""
EXAMPLES = r"""
- name: Take the bot over
  clawfactory_takeover:
    source: /home/operator/clawfactory
    root: /srv/clawfactory
    bot: bot1
    allocation: "{{ host_bot }}"
"""
RETURN = r"""
taken:
  description: "What was taken: V(state), V(secrets), V(key), V(snapshots), V(repository)."
  returned: success
  type: list
  elements: str
left:
  description: What stays at the source, and why; the first hundred.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.clawfactory_core.adapters.age import recipient_of
from ansible.module_utils.clawfactory_core.adapters.engine_socket import EngineSocket
from ansible.module_utils.clawfactory_core.errors import CoreError
from ansible.module_utils.clawfactory_core.takeover import TakeoverRequest, apply_takeover, plan_takeover

SHOWN = 100


def argument_spec() -> dict[str, dict[str, Any]]:
    return {
        "source": {"type": "path", "required": True},
        "root": {"type": "path", "required": True},
        "bot": {"type": "str", "required": True},
        "allocation": {"type": "dict", "required": True},
        "keep_key": {"type": "bool", "default": True, "no_log": False},  # whether, not which
    }


def mounts() -> dict[str, list[str]]:
    """Directories of the machine that each running container has mounted."""
    return {
        container["Names"][0].removeprefix("/"): [mount["Source"] for mount in container["Mounts"] if "Source" in mount]
        for container in EngineSocket().get("/containers/json") or []
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = module.params
    allocation = options["allocation"]
    try:
        plan = plan_takeover(
            TakeoverRequest(
                source=Path(options["source"]).resolve(),
                root=Path(options["root"]),
                bot=options["bot"],
                paths=allocation["paths"],
                gateway_uid=int(allocation["gateway_uid"]),
                controller_uid=int(allocation["controller_uid"]),
                mounts=mounts(),
                keep_key=options["keep_key"],
            )
        )
        if plan.changed and not module.check_mode:
            apply_takeover(plan, recipient_of)
    except (CoreError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=plan.changed, taken=plan.taken, left=plan.left[:SHOWN])


if __name__ == "__main__":
    main()
