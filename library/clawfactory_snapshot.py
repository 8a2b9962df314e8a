#!/usr/bin/python
"""Ansible module: creates and prunes a bot's encrypted snapshots."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_snapshot
short_description: Create and prune encrypted snapshots of a bot
description:
  - Archives the state of a bot, running or not, as one age file; only the recipient is needed for it.
  - What is kept, left out and bounded is settled by the role C(snapshots).
options:
  root:
    description: Directory of ClawFactory on the machine.
    type: path
    required: true
  bot:
    description: Name of the bot.
    type: str
    required: true
  state:
    description: V(present) makes a snapshot, V(pruned) deletes those that the retention does not keep.
    type: str
    choices: [present, pruned]
    default: present
  label:
    description: Start of the snapshot's name; other characters than letters, digits, C(-) and C(_) become C(-).
    type: str
    default: ""
  full:
    description: Make a full snapshot even if an increment would do.
    type: bool
    default: false
  of_locked:
    description: Make it although the bot is locked, once everything of it is dead.
    type: bool
    default: false
attributes:
  check_mode: {support: full}
  diff_mode: {support: full, description: Names of the archives that come and go.}
author: ClawFactory
"""
EXAMPLES = r"""
- name: Snapshot before an upgrade
  clawfactory_snapshot:
    root: /srv/clawfactory
    bot: bot1
    label: before-upgrade

- name: Prune
  clawfactory_snapshot:
    root: /srv/clawfactory
    bot: bot1
    state: pruned
"""
RETURN = r"""
snapshot:
  description: The record of the new snapshot; in check mode its would-be id and kind.
  returned: with state=present
  type: dict
reason:
  description: Why it is a full one or an increment.
  returned: with state=present
  type: str
left_out:
  description: Path and reason of what was left out, the first hundred, most important first.
  returned: with state=present
  type: list
  elements: dict
left_out_count:
  description: Number of entries that were left out, by reason.
  returned: with state=present, not in check mode
  type: dict
warnings_of_snapshot:
  description: What was not as it should be, for example a database that could not be read as one.
  returned: with state=present
  type: list
  elements: str
pruned:
  description: File names that were deleted, or would be.
  returned: with state=pruned
  type: list
  elements: str
"""

from datetime import datetime, timezone
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.clawfactory_core.errors import CoreError
from ansible.module_utils.clawfactory_core.locks import check_unlocked
from ansible.module_utils.clawfactory_core.snapshots.chains import apply_prune, list_snapshots, plan_prune
from ansible.module_utils.clawfactory_core.snapshots.create import apply_snapshot, plan_snapshot
from ansible.module_utils.clawfactory_core.snapshots.progress_file import ProgressFile
from ansible.module_utils.clawfactory_core.snapshots.settings import (
    bot_directories,
    read_settings,
    snapshot_request,
)


def argument_spec() -> dict[str, dict[str, object]]:
    return {
        "root": {"type": "path", "required": True},
        "bot": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "pruned"], "default": "present"},
        "label": {"type": "str", "default": ""},
        "full": {"type": "bool", "default": False},
        "of_locked": {"type": "bool", "default": False},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        result = prune(module) if module.params["state"] == "pruned" else create(module)
    except (CoreError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=result.pop("changed"), **result)


def create(module: AnsibleModule) -> dict[str, object]:
    options = module.params
    kind = "full" if options["full"] else "auto"
    request = snapshot_request(
        Path(options["root"]), options["bot"], label=options["label"], kind=kind, of_locked=options["of_locked"]
    )
    plan = plan_snapshot(request)
    if module.check_mode:
        name = f"{plan.id}.{plan.kind}.tar.zst.age"
        snapshot: dict[str, object] = {"id": plan.id, "kind": plan.kind}
        return {"changed": True, "snapshot": snapshot, "reason": plan.why, "diff": _diff([name], [])}
    with ProgressFile(request.directory, "snapshot", request.bot, request.owner) as progress:
        done = apply_snapshot(request, progress)
    return {
        "changed": True,
        "snapshot": done.record.to_dict(),
        "reason": plan.why,
        "left_out": done.left_out[:100],
        "left_out_count": done.left_out_count,
        "warnings_of_snapshot": done.warnings,
        "diff": _diff([done.record.file_name], []),
    }


def prune(module: AnsibleModule) -> dict[str, object]:
    root, bot = Path(module.params["root"]), module.params["bot"]
    settings = read_settings(root, bot)
    directory = bot_directories(root, bot)[1]
    check_unlocked(root, bot)
    gone = plan_prune(list_snapshots(directory), settings.keep, datetime.now(timezone.utc))
    if not module.check_mode:
        apply_prune(directory, gone)
    names = [record.file_name for record in gone]
    return {"changed": bool(names), "pruned": names, "diff": _diff([], names)}


def _diff(come: list[str], go: list[str]) -> dict[str, str]:
    return {
        "before_header": "snapshots",
        "after_header": "snapshots",
        "before": "".join(f"{name}\n" for name in go),
        "after": "".join(f"{name}\n" for name in come),
    }


if __name__ == "__main__":
    main()
