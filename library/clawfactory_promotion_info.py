#!/usr/bin/python
"""Ansible module: tells what is approved of a bot, what it proposes and what was promoted."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_promotion_info
short_description: Tell what is approved of a bot, what it proposes and what was promoted
description:
  - Fetches the bot's proposals into its repository and changes nothing else.
options:
  root:
    description: Directory of ClawFactory on the machine.
    type: path
    required: true
  bot:
    description: Name of the bot.
    type: str
    required: true
  history:
    description: Newest entries of the history to return.
    type: int
    default: 20
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
author: ClawFactory
"""
EXAMPLES = r"""
- name: Proposals
  clawfactory_promotion_info:
    root: /srv/clawfactory
    bot: bot1
"""
RETURN = r"""
info:
  description: >-
    Commits C(approved) and C(main), by how many commits the first is C(ahead) and C(behind), C(proposals) with author,
    time, size and files, C(drift), the paths of the approved tree that are not as promoted, C(history), newest first,
    and C(running), the phase of a promotion that goes on or was interrupted.
  returned: success
  type: dict
table:
  description: The same as lines.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.clawfactory_core.errors import CoreError
from ansible.module_utils.clawfactory_core.promotion.info import promotion_info, table


def argument_spec() -> dict[str, dict[str, object]]:
    return {
        "root": {"type": "path", "required": True},
        "bot": {"type": "str", "required": True},
        "history": {"type": "int", "default": 20},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        info = promotion_info(Path(module.params["root"]), module.params["bot"], history=module.params["history"])
    except (CoreError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, info=info, table=table(info))


if __name__ == "__main__":
    main()
