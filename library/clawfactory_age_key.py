#!/usr/bin/python
"""Ansible module: makes and rotates age key pairs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_age_key
short_description: Make an age key pair, or rotate the one of a bot
description:
  - A key file that is there is never overwritten; a rotated one stays beside the new one, for the snapshots it opens.
  - The private key is never in the result.
options:
  path:
    description: Where a new private key goes (0600); the recipient goes beside it, with C(.pub) at the end.
    type: path
  root:
    description: Directory of ClawFactory on the machine, to rotate a bot's key.
    type: path
  bot:
    description: Name of the bot.
    type: str
attributes:
  check_mode: {support: full}
  diff_mode: {support: full, description: The recipient; private keys are never shown.}
author: ClawFactory
"""
EXAMPLES = r"""
- name: A rescue key
  clawfactory_age_key:
    path: ~/keys/rescue.key

- name: Rotate
  clawfactory_age_key:
    root: /srv/clawfactory
    bot: bot1
"""
RETURN = r"""
recipient:
  description: The public key, C(age1…); empty in check mode.
  returned: success
  type: str
before:
  description: The recipient before the rotation.
  returned: with bot
  type: str
path:
  description: Where the private key is.
  returned: with path
  type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.clawfactory_core.adapters.age import make_key_pair
from ansible.module_utils.clawfactory_core.errors import CoreError
from ansible.module_utils.clawfactory_core.snapshots.keys import (
    check_key,
    check_new_key_file,
    make_key_file,
    recipient_in,
    rotate_key,
)

#: What check mode shows for a key that is not made.
NOT_YET = "a new recipient"


def argument_spec() -> dict[str, dict[str, object]]:
    return {"path": {"type": "path"}, "root": {"type": "path"}, "bot": {"type": "str"}}


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        required_one_of=[("path", "bot")],
        mutually_exclusive=[("path", "bot")],
        required_together=[("root", "bot")],
    )
    try:
        result = run(module)
    except (CoreError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True, **result)


def run(module: AnsibleModule) -> dict[str, object]:
    path, root, bot = module.params["path"], module.params["root"], module.params["bot"]
    before = recipient = ""
    if bot:
        public = check_key(Path(root), bot)[1]
        before = recipient_in(public)
        if not module.check_mode:
            before, recipient = rotate_key(Path(root), bot, make_key_pair)
        return {"recipient": recipient, "before": before, "diff": _diff(public, before, recipient)}
    public = check_new_key_file(Path(path))
    if not module.check_mode:
        recipient = make_key_file(Path(path), make_key_pair)
    return {"recipient": recipient, "path": path, "diff": _diff(public, before, recipient)}


def _diff(public: Path, before: str, recipient: str) -> dict[str, str]:
    return {
        "before_header": str(public),
        "after_header": str(public),
        "before": f"{before}\n" if before else "",
        "after": f"{recipient or NOT_YET}\n",
    }


if __name__ == "__main__":
    main()
