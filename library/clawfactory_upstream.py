#!/usr/bin/python
"""Ansible module: proposes an update of a bot's own fork of OpenClaw."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_upstream
short_description: Propose an update of a bot's own fork of OpenClaw
description:
  - Merges a version of upstream on the branch C(proposal/upstream-VERSION) of the fork; nothing else is changed.
  - Files that conflict are named, and nothing is pushed then.
options:
  root:
    description: Directory of ClawFactory on the machine.
    type: path
    required: true
  bot:
    description: Name of the bot.
    type: str
    required: true
  fork:
    description: URL of the fork; a login in it is used, else the bot's token if it is on the same host.
    type: str
    required: true
  branch:
    description: Branch of the fork.
    type: str
    default: main
  upstream:
    description: URL to update from.
    type: str
    required: true
  version:
    description: Tag there; empty for the newest.
    type: str
    default: ""
  actor:
    description: Who asked, for the commit and the audit.
    type: str
    default: operator
attributes:
  check_mode: {support: full, description: Fetches both repositories too.}
  diff_mode: {support: none}
author: ClawFactory
"""
EXAMPLES = r"""
- name: Propose the newest version
  clawfactory_upstream:
    root: /srv/clawfactory
    bot: bot1
    fork: https://git.example/bot1-openclaw.git
    upstream: https://github.com/openclaw/openclaw.git
"""
RETURN = r"""
version:
  description: Tag that was merged.
  returned: success
  type: str
branch:
  description: Branch of the fork that it is proposed on.
  returned: success
  type: str
commit:
  description: The merge; in check mode its would-be tree.
  returned: success
  type: str
told:
  description: The same in a sentence.
  returned: success
  type: str
"""

from dataclasses import asdict
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.clawfactory_core.errors import CoreError
from ansible.module_utils.clawfactory_core.promotion.upstream import UpstreamRequest, propose_upstream


def argument_spec() -> dict[str, dict[str, object]]:
    return {
        "root": {"type": "path", "required": True},
        "bot": {"type": "str", "required": True},
        "fork": {"type": "str", "required": True, "no_log": True},  # may hold a login
        "branch": {"type": "str", "default": "main"},
        "upstream": {"type": "str", "required": True},
        "version": {"type": "str", "default": ""},
        "actor": {"type": "str", "default": "operator"},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = {**module.params, "root": Path(module.params["root"])}
    try:
        done = propose_upstream(UpstreamRequest(check=module.check_mode, **options))
    except (CoreError, OSError) as error:
        module.fail_json(msg=str(error))
    verb = "would be" if module.check_mode else "is"
    told = (
        f"{done.version} {verb} proposed on {done.branch}, {done.files} files differ; merge it at the fork, and set "
        "gateway_fork_commit to the merge"
        if done.changed
        else f"{done.branch} of the fork has {done.version} already, at {done.commit}"
    )
    module.exit_json(told=told, **asdict(done))


if __name__ == "__main__":
    main()
