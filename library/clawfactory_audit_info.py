#!/usr/bin/python
"""Ansible module: says whether the logs about a bot are whole."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_audit_info
short_description: Say whether the logs about a bot are whole
description:
  - Reads the log of decisions, and that of what the broker refused, and checks that every line names the one before it
    and that the line written last is there. Changes nothing.
options:
  root:
    description: Directory of ClawFactory on the machine.
    type: path
    required: true
  bot:
    description: Name of the bot.
    type: str
    required: true
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
author: ClawFactory
"""
EXAMPLES = r"""
- name: Logs
  clawfactory_audit_info:
    root: /srv/clawfactory
    bot: bot1
"""
RETURN = r"""
logs:
  description: For each log its C(path), how many C(lines) it has and C(problems), which name the line.
  returned: success
  type: list
  elements: dict
problems:
  description: Those of all of them.
  returned: success
  type: list
  elements: str
table:
  description: The same as lines.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.clawfactory_core import audit
from ansible.module_utils.clawfactory_core.errors import CoreError, InvalidInput
from ansible.module_utils.clawfactory_core.names import check_bot_name

#: Problems of a log that are told: the first one is where it broke.
_TOLD = 20


def argument_spec() -> dict[str, dict[str, object]]:
    return {"root": {"type": "path", "required": True}, "bot": {"type": "str", "required": True}}


def _read(path: Path) -> dict[str, object]:
    try:
        found = audit.verify(path)
    except (CoreError, OSError) as error:
        return {"path": str(path), "lines": 0, "problems": [f"{path}: it cannot be read: {error}"]}
    problems = list(found.problems[:_TOLD])
    if len(found.problems) > _TOLD:
        problems.append(f"{path}: and {len(found.problems) - _TOLD} more")
    return {"path": str(path), "lines": found.lines, "problems": problems}


def _told(log: dict[str, object]) -> list[str]:
    problems = log["problems"]
    if isinstance(problems, list) and problems:
        return [f"BROKEN {log['path']}", *(f"  {problem}" for problem in problems)]
    return [f"whole  {log['path']}: {log['lines']} lines"]


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    directory, bot = Path(module.params["root"]) / "audit", module.params["bot"]
    try:
        check_bot_name(bot)
    except InvalidInput as error:
        module.fail_json(msg=str(error))
    logs = [_read(path) for path in (directory / f"{bot}.jsonl", directory / bot / "broker.jsonl")]
    problems = [problem for log in logs if isinstance(log["problems"], list) for problem in log["problems"]]
    table = [line for log in logs for line in _told(log)]
    module.exit_json(changed=False, logs=logs, problems=problems, table=table)


if __name__ == "__main__":
    main()
