#!/usr/bin/python
"""Ansible module: a bot's slot on its machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_allocation
short_description: Give a bot its slot on a machine, with directories, firewall file and disk limit
description:
  - A slot fixes user ids, ports, subnets and paths; it is given once and kept, whatever happens to the inventory.
  - Makes the directories of the machine and of the bot, and writes the machine's nftables file (it is not loaded).
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
    description: V(absent) gives the slot back and takes the bot's tokens out of the registry (purge).
    type: str
    choices: [present, absent]
    default: present
  network_pool:
    description: IPv4 network of which each bot gets a /24.
    type: str
    default: 10.213.0.0/16
  gateway_port:
    description: Port on 127.0.0.1 for the gateway; the slot's own when not given.
    type: int
  controller_port:
    description: Port on 127.0.0.1 for the controller; the slot's own when not given.
    type: int
  host_ports:
    description: TCP ports of the machine itself that the bot's egress may reach.
    type: list
    elements: int
    default: []
  disk:
    description: Limit of its state on disk, as of M(clawfactory_quota); here because a module more takes its time.
    type: dict
    suboptions:
      limit_bytes:
        description: Most bytes on disk.
        type: int
        required: true
      min_free_bytes:
        description: Least free bytes of the file system while the bot runs.
        type: int
        default: 0
      container:
        description: Name of the container that is stopped.
        type: str
        required: true
attributes:
  check_mode: {support: full, description: Returns what would be allocated.}
  diff_mode: {support: full, description: Shows slot and ports.}
author: ClawFactory
"""
EXAMPLES = r"""
- name: Allocate
  clawfactory_allocation:
    root: /srv/clawfactory
    bot: bot1
"""
RETURN = r"""
allocation:
  description: Everything that follows from the slot.
  returned: when I(state=present)
  type: dict
disk_limited:
  description: Whether O(disk) is set; if it could not be, M(clawfactory_quota) has to.
  returned: when I(state=present)
  type: bool
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.clawfactory_core.allocation import AllocationPlan, AllocationRequest, read_allocations
from ansible.module_utils.clawfactory_core.disk import DiskLimit
from ansible.module_utils.clawfactory_core.disk_limit import DiskPlan, DiskRequest, apply_disk, plan_disk
from ansible.module_utils.clawfactory_core.errors import CoreError
from ansible.module_utils.clawfactory_core.layout import apply_layout, plan_layout, release_layout
from ansible.module_utils.clawfactory_core.listening import check_ports_free, listening_ports
from ansible.module_utils.clawfactory_core.quota import read_mounts
from ansible.module_utils.clawfactory_core.secrets import forget_secrets, remembers_secrets
from ansible.module_utils.clawfactory_core.snapshots.journal import is_unsettled
from ansible.module_utils.clawfactory_core.snapshots.settle import settle_restore


def argument_spec() -> dict[str, dict[str, object]]:
    return {
        "root": {"type": "path", "required": True},
        "bot": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "network_pool": {"type": "str", "default": "10.213.0.0/16"},
        "gateway_port": {"type": "int"},
        "controller_port": {"type": "int"},
        "host_ports": {"type": "list", "elements": "int", "default": []},
        "disk": {
            "type": "dict",
            "options": {
                "limit_bytes": {"type": "int", "required": True},
                "min_free_bytes": {"type": "int", "default": 0},
                "container": {"type": "str", "required": True},
            },
        },
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        result = absent(module) if module.params["state"] == "absent" else present(module)
    except CoreError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


def absent(module: AnsibleModule) -> dict[str, object]:
    root, bot = Path(module.params["root"]), module.params["bot"]
    known = bot in read_allocations(root) or remembers_secrets(root, bot)
    if module.check_mode or not known:
        return {"changed": known}
    forgotten = forget_secrets(root, bot)
    return {"changed": release_layout(root, module.params["network_pool"], bot) or forgotten}


def present(module: AnsibleModule) -> dict[str, object]:
    options = module.params
    request = AllocationRequest(
        root=Path(options["root"]),
        bot=options["bot"],
        pool=options["network_pool"],
        gateway_port=options["gateway_port"],
        controller_port=options["controller_port"],
        host_ports=tuple(options["host_ports"]),
    )
    slot, files = plan_layout(request)
    check_ports_free(slot.description, slot.before, listening_ports())
    disk = plan_limit(request, slot, options["disk"])
    # Before a state directory is made where one only has to be moved back.
    settled = is_unsettled(Path(slot.description["paths"]["state"]))
    if not module.check_mode:
        settled = settle_restore(request.root, request.bot)
    if not module.check_mode and (slot.changed or files.changed or settled):
        slot, files = apply_layout(request)
    limited = disk is not None
    if disk and not module.check_mode:
        try:
            # Of the state as it is by now.
            disk = plan_limit(request, slot, options["disk"])
            if disk.changed:
                apply_disk(request.root / "disk", disk)
        except (CoreError, OSError):
            # clawfactory_quota tries again and says why. A run that ended here would leave the firewall written, but
            # not loaded.
            limited = False
    diff = [{"before": slot.before or {}, "after": slot.entry}] if slot.changed else []
    return {
        "changed": slot.changed or files.changed or settled or bool(disk and disk.changed),
        "allocation": slot.description,
        "disk_limited": limited,
        "diff": [*diff, *files.diff(), *([disk.diff()] if disk and disk.changed else [])],
    }


def plan_limit(request: AllocationRequest, slot: AllocationPlan, wanted: dict[str, Any] | None) -> DiskPlan | None:
    """:raises InvalidInput: a value makes no sense."""
    if wanted is None:
        return None
    limit = DiskLimit(bot=request.bot, path=Path(slot.description["paths"]["state"]), **wanted)
    return plan_disk(request.root / "disk", DiskRequest(limit, slot.description["gateway_uid"]), read_mounts())


if __name__ == "__main__":
    main()
