#!/usr/bin/python
"""Ansible module: a bot's secrets on its machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_secrets
short_description: Write a bot's env files, token registry, age key pair and SSH key
description:
  - Given values win; missing tokens are generated once and kept. No value is ever returned or shown.
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
    description: V(rotated) replaces the tokens of gateway, controller and agent, and nothing else.
    type: str
    choices: [present, rotated]
    default: present
  actor:
    description: Who rotates, for the audit; needed with O(state=rotated).
    type: str
  values:
    description: Environment names and values from the inventory.
    type: dict
    default: {}
  used:
    description: Environment names that the bot's providers and channels use.
    type: list
    elements: str
    default: []
  gateway_uid:
    description: User id that reads the gateway's runtime copy; needed with O(state=present).
    type: int
  controller_uid:
    description: User id that reads the controller's runtime copy; needed with O(state=present).
    type: int
  snapshot_key:
    description: Where the private age key is kept.
    type: str
    choices: [machine, control]
    default: machine
  snapshot_recipient:
    description: age recipient, with I(snapshot_key=control).
    type: str
    default: ""
  remote_url:
    description: URL of the bot's repository; with an SSH address the bot gets a key for it.
    type: str
    default: ""
  remote_host_keys:
    description: Public keys of that server, C(TYPE BASE64) each.
    type: list
    elements: str
    default: []
  remote_key:
    description: Private key to use there; without one it is made once.
    type: str
    default: ""
attributes:
  check_mode: {support: full, description: Reports what would change.}
  diff_mode: {support: partial, description: Shows paths; secret contents are hidden.}
author: ClawFactory
"""
EXAMPLES = r"""
- name: Write secrets
  clawfactory_secrets:
    root: /srv/clawfactory
    bot: bot1
    values: "{{ secrets_env }}"
    used: [ANTHROPIC_API_KEY]
    gateway_uid: 20001
    controller_uid: 30001
"""
RETURN = r"""
generated:
  description: Names of the secrets that were generated, or would be.
  returned: with O(state=present)
  type: list
  elements: str
rotated:
  description: Names of the tokens that were replaced, or would be.
  returned: with O(state=rotated)
  type: list
  elements: str
recipient:
  description: age recipient of the bot's snapshots (public).
  returned: with O(state=present)
  type: str
generations:
  description: When each container's copy was last written.
  returned: success
  type: dict
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.clawfactory_core import secrets
from ansible.module_utils.clawfactory_core.adapters.age import make_key_pair
from ansible.module_utils.clawfactory_core.adapters.ssh_key import make_ssh_key
from ansible.module_utils.clawfactory_core.errors import CoreError
from ansible.module_utils.clawfactory_core.killswitch.record import Record, audit
from ansible.module_utils.clawfactory_core.remote_key import RemoteKeyRequest


def argument_spec() -> dict[str, dict[str, object]]:
    return {
        "root": {"type": "path", "required": True},
        "bot": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "rotated"], "default": "present"},
        "actor": {"type": "str"},
        "values": {"type": "dict", "default": {}, "no_log": True},
        "used": {"type": "list", "elements": "str", "default": []},
        "gateway_uid": {"type": "int"},
        "controller_uid": {"type": "int"},
        "snapshot_key": {"type": "str", "choices": ["machine", "control"], "default": "machine", "no_log": False},
        "snapshot_recipient": {"type": "str", "default": ""},
        "remote_url": {"type": "str", "default": "", "no_log": True},  # may hold a login
        "remote_host_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},  # public
        "remote_key": {"type": "str", "default": "", "no_log": True},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_if=[("state", "present", ("gateway_uid", "controller_uid")), ("state", "rotated", ("actor",))],
        supports_check_mode=True,
    )
    try:
        result = rotate(module) if module.params["state"] == "rotated" else run(module)
    except (CoreError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


def run(module: AnsibleModule) -> dict[str, object]:
    options = module.params
    request = secrets.SecretsRequest(
        root=Path(options["root"]),
        bot=options["bot"],
        values=options["values"],
        used=tuple(options["used"]),
        gateway_uid=options["gateway_uid"],
        controller_uid=options["controller_uid"],
        snapshot_key=options["snapshot_key"],
        snapshot_recipient=options["snapshot_recipient"],
        remote=RemoteKeyRequest(options["remote_url"], tuple(options["remote_host_keys"]), options["remote_key"]),
    )
    if module.check_mode:
        # A key pair is not made for a look; the recipient is not known before there is one.
        plan = secrets.plan_secrets(request, lambda: ("", "age1-generated-when-applied"), lambda _place, _name: "")
    else:
        plan = secrets.apply_secrets(request, make_key_pair, make_ssh_key)
    return {
        "changed": plan.changed,
        "generated": plan.generated,
        "recipient": plan.recipient,
        "generations": secrets.generations(request.root, request.bot),
        "diff": plan.files.diff(),
    }


def rotate(module: AnsibleModule) -> dict[str, object]:
    root, bot = Path(module.params["root"]), module.params["bot"]
    names = list(secrets.ROTATED)
    if not module.check_mode:
        names = secrets.rotate_tokens(root, bot)
        # After it: tokens that are new without a line are better than a line about tokens that are old.
        said = Record(bot, module.params["actor"], source="playbook")
        audit(root, "secrets.rotated", said, {"names": names})
    return {"changed": True, "rotated": names, "generations": secrets.generations(root, bot)}


if __name__ == "__main__":
    main()
