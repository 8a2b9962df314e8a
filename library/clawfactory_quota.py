#!/usr/bin/python
"""Ansible module: the disk limit of a bot."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_quota
short_description: Limit what a bot's state may take on disk
description:
  - Writes the limit down for clawfactory-disk-watch, which stops a bot that is over it or leaves too little space free.
  - Where the file system has project quotas (ext4 mounted with prjquota, XFS with pquota), sets one too, so that a bot
    runs into the limit instead of being stopped at it.
options:
  directory:
    description: Where limits are written down, C(<root>/disk).
    type: path
    required: true
  bot:
    description: Name of the bot.
    type: str
    required: true
  state:
    description: V(absent) takes the limit away, and with it the note that the bot was stopped.
    type: str
    choices: [present, absent]
    default: present
  path:
    description: Directory that is limited; it has to exist, except in check mode. Needed with O(state=present).
    type: path
  limit_bytes:
    description: Most bytes on disk. Needed with O(state=present).
    type: int
  min_free_bytes:
    description: Least free bytes of the file system while the bot runs.
    type: int
    default: 0
  container:
    description: Name of the container that is stopped. Needed with O(state=present).
    type: str
  project_id:
    description: Quota project of the bot, unique on the file system; its gateway's user id is.
    type: int
    required: true
attributes:
  check_mode: {support: full, description: Reports what would be set.}
  diff_mode: {support: full, description: Shows the limit.}
author: ClawFactory
"""
EXAMPLES = r"""
- name: Limit the state of bot1 to 10 GiB
  clawfactory_quota:
    directory: /srv/clawfactory/disk
    bot: bot1
    path: /srv/clawfactory/bot_repos/bot1/state
    limit_bytes: 10737418240
    min_free_bytes: 2147483648
    container: clawfactory-bot1-gateway
    project_id: 20001
"""
RETURN = r"""
method:
  description: V(quota) if the file system enforces the limit too, V(watch) if the watcher alone does.
  returned: when O(state=present)
  type: str
reason:
  description: Why this method.
  returned: when O(state=present)
  type: str
disk:
  description: The limit as written down.
  returned: when O(state=present)
  type: dict
stopped:
  description: Why the bot may not run, null if it may; keys V(reason), V(message), V(stopped_at).
  returned: when O(state=present)
  type: dict
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.clawfactory_core.disk import DiskLimit, read_mark
from ansible.module_utils.clawfactory_core.disk_limit import DiskRequest, apply_disk, plan_disk, remove_disk, to_result
from ansible.module_utils.clawfactory_core.errors import CoreError
from ansible.module_utils.clawfactory_core.names import check_bot_name
from ansible.module_utils.clawfactory_core.quota import read_mounts


def argument_spec() -> dict[str, dict[str, object]]:
    return {
        "directory": {"type": "path", "required": True},
        "bot": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "path": {"type": "path"},
        "limit_bytes": {"type": "int"},
        "min_free_bytes": {"type": "int", "default": 0},
        "container": {"type": "str"},
        "project_id": {"type": "int", "required": True},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_if=[("state", "present", ("path", "limit_bytes", "container"))],
        supports_check_mode=True,
    )
    try:
        check_bot_name(module.params["bot"])
        result = remove(module) if module.params["state"] == "absent" else limit(module)
    except (CoreError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


def limit(module: AnsibleModule) -> dict[str, object]:
    options = module.params
    directory = Path(options["directory"])
    wanted = DiskLimit(
        bot=options["bot"],
        path=Path(options["path"]),
        limit_bytes=options["limit_bytes"],
        min_free_bytes=options["min_free_bytes"],
        container=options["container"],
    )
    plan = plan_disk(directory, DiskRequest(wanted, options["project_id"]), read_mounts())
    if plan.changed and not module.check_mode:
        apply_disk(directory, plan)
    stopped = read_mark(directory, wanted.bot)
    return {"changed": plan.changed, "diff": plan.diff(), "stopped": stopped, **to_result(plan)}


def remove(module: AnsibleModule) -> dict[str, object]:
    options = module.params
    changed = remove_disk(
        Path(options["directory"]), options["bot"], options["project_id"], read_mounts(), check_only=module.check_mode
    )
    return {"changed": changed}


if __name__ == "__main__":
    main()
