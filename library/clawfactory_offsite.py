#!/usr/bin/python
"""Ansible module: copies of a bot's snapshots away from its machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_offsite
short_description: Copy a bot's snapshots to the remote of rclone, or fetch them from there
options:
  root:
    description: Directory of ClawFactory on the machine.
    type: path
    required: true
  bot:
    description: Name of the bot, whose settings and credentials are used.
    type: str
    required: true
  state:
    description:
      - V(copied) copies what is not there yet and prunes what the retention does not keep.
      - V(fetched) brings a snapshot with all that it builds upon to the machine, for M(clawfactory_restore).
      - V(approved) makes the bot's repository, of which there is none yet, from the newest copy of what was approved.
      - V(absent) deletes what was fetched.
    type: str
    choices: [copied, fetched, approved, absent]
    default: copied
  name:
    description: Which snapshot to fetch; an id, a file name or C(latest).
    type: str
    default: latest
  from_bot:
    description: Bot whose copy to fetch, if another one.
    type: str
  identities:
    description: Private age keys, one a line, with O(state=approved); those on the machine if not given.
    type: str
  owner:
    description: User and group id that the repository belongs to; required with O(state=approved).
    type: int
attributes:
  check_mode: {support: full, description: Tells that it would; the remote is not asked.}
  diff_mode: {support: none, description: The files are encrypted.}
author: ClawFactory
"""
EXAMPLES = r"""
- name: Copy snapshots
  clawfactory_offsite:
    root: /srv/clawfactory
    bot: bot1
"""
RETURN = r"""
place:
  description: Where the copies are.
  returned: unless state=absent
  type: str
pruned:
  description: Archives that were deleted there.
  returned: with state=copied
  type: list
  elements: str
chain:
  description: Archives that were fetched, the full one first.
  returned: with state=fetched, not in check mode
  type: list
  elements: str
commit:
  description: What is approved now; empty if there is no copy of it.
  returned: with state=approved, not in check mode
  type: str
"""

import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.clawfactory_core.errors import CoreError, InvalidInput
from ansible.module_utils.clawfactory_core.names import check_bot_name
from ansible.module_utils.clawfactory_core.snapshots.offsite import (
    copy_noted,
    fetch_chain,
    fetch_history,
    open_place,
    read_offsite,
)
from ansible.module_utils.clawfactory_core.snapshots.restore import offsite_directory
from ansible.module_utils.clawfactory_core.snapshots.settings import parse_identities, read_settings


def argument_spec() -> dict[str, dict[str, object]]:
    return {
        "root": {"type": "path", "required": True},
        "bot": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["copied", "fetched", "approved", "absent"], "default": "copied"},
        "name": {"type": "str", "default": "latest"},
        "from_bot": {"type": "str"},
        "identities": {"type": "str", "no_log": True},
        "owner": {"type": "int"},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(), required_if=[("state", "approved", ["owner"])], supports_check_mode=True
    )
    try:
        result = run(module)
    except (CoreError, OSError) as error:
        module.fail_json(msg=f"{module.params['bot']}: {error}")
    module.exit_json(**result)


def run(module: AnsibleModule) -> dict[str, object]:
    options = module.params
    root, bot, source = Path(options["root"]), options["bot"], options["from_bot"] or options["bot"]
    check_bot_name(bot)
    fetched = offsite_directory(root, bot)
    if options["state"] == "absent":
        there = fetched.exists()
        if there and not module.check_mode:
            shutil.rmtree(fetched)
        return {"changed": there}
    offsite = read_offsite(root, bot)
    if offsite is None:
        raise InvalidInput(f"snapshots_offsite_remote is empty; name it and run: ansible-playbook site.yml -l {bot}")
    place = open_place(root, bot, offsite, source)
    if module.check_mode:
        return {"changed": True, "place": place.place, "pruned": []}
    if options["state"] == "fetched":
        free = read_settings(root, bot).read_limits.min_free_bytes
        chain = fetch_chain(place, options["name"], fetched / source, free)
        return {"changed": True, "place": place.place, "chain": chain}
    if options["state"] == "approved":
        given = options["identities"]
        identities = parse_identities(given, "restore_key_file") if given else ()
        commit = fetch_history(root, bot, place, identities, options["owner"])
        return {"changed": commit != "", "place": place.place, "commit": commit}
    return {"changed": True, "place": place.place, "pruned": copy_noted(root, bot)}


if __name__ == "__main__":
    main()
