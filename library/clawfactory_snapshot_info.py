#!/usr/bin/python
"""Ansible module: lists and verifies a bot's snapshots."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_snapshot_info
short_description: List and verify snapshots of a bot
description:
  - Lists without any key.
  - Verifies the archives of a chain against their records, or by content, for which a private key is needed.
options:
  root:
    description: Directory of ClawFactory on the machine.
    type: path
    required: true
  bot:
    description: Name of the bot.
    type: str
    required: true
  verify:
    description: V(no), V(digest) of the encrypted archives, or V(content) with every file and database in them.
    type: str
    choices: ["no", digest, content]
    default: "no"
  name:
    description: Which snapshot to verify; an id, a file name or C(latest).
    type: str
    default: latest
  identities:
    description: Text of an age key file, where the private key is not on the machine.
    type: str
attributes:
  check_mode: {support: full, description: Verifies too, but does not note it in the record.}
  diff_mode: {support: none, description: Changes nothing but the note of the last verification.}
author: ClawFactory
"""
EXAMPLES = r"""
- name: Verify the newest snapshot by content, with a key that stays on the control node
  clawfactory_snapshot_info:
    root: /srv/clawfactory
    bot: bot1
    verify: content
    identities: "{{ lookup('ansible.builtin.file', '~/keys/bot1.key') }}"
"""
RETURN = r"""
snapshots:
  description: Records, newest first.
  returned: success
  type: list
  elements: dict
table:
  description: The same as lines, then the checks.
  returned: success
  type: list
  elements: str
checks:
  description: Name, result and detail of every check.
  returned: with verify
  type: list
  elements: dict
broken:
  description: The first that did not pass and why; empty if all did.
  returned: with verify
  type: str
verified:
  description: Whether all of them passed.
  returned: with verify
  type: bool
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.clawfactory_core.errors import CoreError, InvalidInput
from ansible.module_utils.clawfactory_core.snapshots.chains import find, list_snapshots, table
from ansible.module_utils.clawfactory_core.snapshots.progress_file import ProgressFile
from ansible.module_utils.clawfactory_core.snapshots.settings import (
    bot_directories,
    parse_identities,
    read_identities,
    read_settings,
)
from ansible.module_utils.clawfactory_core.snapshots.verify import verify_snapshot


def argument_spec() -> dict[str, dict[str, object]]:
    return {
        "root": {"type": "path", "required": True},
        "bot": {"type": "str", "required": True},
        "verify": {"type": "str", "choices": ["no", "digest", "content"], "default": "no"},
        "name": {"type": "str", "default": "latest"},
        "identities": {"type": "str", "no_log": True},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        result = run(module)
    except (CoreError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


def run(module: AnsibleModule) -> dict[str, object]:
    options = module.params
    root, bot = Path(options["root"]), options["bot"]
    state, directory = bot_directories(root, bot)
    records = list_snapshots(directory)
    verification: dict[str, object] = {}
    verified: list[str] = []
    if options["verify"] != "no":
        content = options["verify"] == "content"
        identities = _identities(root, bot, options["identities"]) if content else None
        record = find(records, options["name"])
        settings = read_settings(root, bot)
        owner = settings.controller_uid
        with ProgressFile(directory, "verify", bot, owner) as progress:
            report = verify_snapshot(
                directory,
                record,
                identities,
                content=content,
                staging=state.parent,
                owner=None if module.check_mode else owner,
                limits=settings.read_limits,
                progress=progress,
            )
        verification = {"checks": report.checks, "verified": report.ok, "broken": report.problem}
        verified = [
            f"{'passed' if check['ok'] else 'FAILED'}  {check['name']}: {check['detail']}" for check in report.checks
        ]
        records = list_snapshots(directory)
    listed = [record.to_dict() for record in records]
    return {"snapshots": listed, "table": [*table(records).splitlines(), *verified], **verification}


def _identities(root: Path, bot: str, text: str | None) -> tuple[str, ...]:
    found = parse_identities(text, "identities") if text else read_identities(root, bot)
    if not found:
        raise InvalidInput(
            f"{bot}: the private age key is not on this machine; give it from the control node: "
            f"ansible-playbook playbooks/snapshots.yml -l {bot} -e snapshots_verify=content -e snapshots_key_file=PATH"
        )
    return found


if __name__ == "__main__":
    main()
