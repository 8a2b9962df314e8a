#!/usr/bin/python
"""Ansible module: copies a bot's memory to a branch of its repository."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_memory_backup
short_description: Copy the markdown of a bot's memory to the branch memory-backup
description:
  - Commits C(MEMORY.md) and C(memory/**/*.md) of the workspace to the branch, of the remote if the bot has one.
  - Files with what looks like a secret are left out, and so is the vector store.
options:
  root:
    description: Directory of ClawFactory on the machine.
    type: path
    required: true
  bot:
    description: Name of the bot.
    type: str
    required: true
  actor:
    description: Who asked, for the commit and the audit.
    type: str
    default: operator
attributes:
  check_mode: {support: full}
  diff_mode: {support: none, description: A bot's memory is not shown.}
author: ClawFactory
"""
EXAMPLES = r"""
- name: Back up the memory
  clawfactory_memory_backup:
    root: /srv/clawfactory
    bot: bot1
"""
RETURN = r"""
commit:
  description: Tip of the branch; empty while there is none.
  returned: success
  type: str
files:
  description: Path to bytes of what is in it.
  returned: success
  type: dict
left_out:
  description: Path to reason of what is not in it.
  returned: success
  type: dict
indexes:
  description: Path below the state to bytes of the vector stores, which are never in it.
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
from ansible.module_utils.clawfactory_core.promotion.memory import MemoryBackup, backup_memory


def argument_spec() -> dict[str, dict[str, object]]:
    return {
        "root": {"type": "path", "required": True},
        "bot": {"type": "str", "required": True},
        "actor": {"type": "str", "default": "operator"},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = module.params
    try:
        done = backup_memory(Path(options["root"]), options["bot"], actor=options["actor"], check=module.check_mode)
    except (CoreError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=done.changed,
        commit=done.commit,
        files=done.files,
        left_out=done.left_out,
        indexes=done.indexes,
        table=table(done),
    )


def table(done: MemoryBackup) -> list[str]:
    where = "the remote's memory-backup" if done.pushed else "memory-backup of the bot's repository on the machine"
    head = f"{len(done.files)} files, {sum(done.files.values())} bytes, in {where} at {done.commit or 'no commit yet'}"
    left_out = [f"left out: {path}: {reason}" for path, reason in sorted(done.left_out.items())]
    indexes = [f"vector store, never in it: {name}, {size} bytes" for name, size in sorted(done.indexes.items())]
    return [head, *left_out, *indexes]


if __name__ == "__main__":
    main()
