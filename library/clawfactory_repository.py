#!/usr/bin/python
"""Ansible module: a bot's repository and approved checkout."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_repository
short_description: Make a bot's repositories and its approved checkout where they do not exist
description:
  - A bare repository on the machine is the authority, made from the template or copied from the remote.
  - Beside it comes one for the bot's proposals, C(proposals.git).
  - An existing checkout is never moved; that is promotion.
options:
  bot:
    description: Name of the bot.
    type: str
    required: true
  origin:
    description: Bare repository that is the authority.
    type: path
    required: true
  approved:
    description: Checkout that the gateway reads.
    type: path
    required: true
  template:
    description: Files that a new repository is made from, a tar.gz in Base64; needed without a remote.
    type: str
    default: ""
  remote:
    description: URL of the bot's repository; empty works offline.
    type: str
    default: ""
  branch:
    description: Branch of the remote that is the authority.
    type: str
    default: main
  remote_user:
    description: User name at the remote, unless it is in the URL.
    type: str
    default: ""
  login_file:
    description: Env file on the machine whose C(CONTROLLER_REMOTE_TOKEN) is the password, unless it is in the URL.
    type: path
    default: /dev/null
  keys:
    description: Directory on the machine of what ssh needs, with an SSH address.
    type: path
  owner:
    description: User and group id that the repositories belong to.
    type: int
    required: true
attributes:
  check_mode: {support: full, description: Reports what would be made.}
  diff_mode: {support: none, description: Makes whole repositories.}
author: ClawFactory
"""
EXAMPLES = r"""
- name: Make the repository
  clawfactory_repository:
    bot: bot1
    origin: /srv/clawfactory/bot_repos/bot1/origin.git
    approved: /srv/clawfactory/bot_repos/bot1/approved
    template: "{{ lookup('clawfactory_context', [{'src': 'bot_template', 'dest': '.'}], content=true) }}"
    owner: 30001
"""
RETURN = r"""
commit:
  description: Commit of the approved checkout.
  returned: success
  type: str
entries:
  description: Top-level entries of the approved workspace.
  returned: success
  type: list
  elements: dict
"""

import base64
import io
import tarfile
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.clawfactory_core import repository
from ansible.module_utils.clawfactory_core.checkout import commit
from ansible.module_utils.clawfactory_core.errors import CoreError
from ansible.module_utils.clawfactory_core.secrets import read_env
from ansible.module_utils.clawfactory_core.workspace import workspace_entries


def argument_spec() -> dict[str, dict[str, object]]:
    return {
        "bot": {"type": "str", "required": True},
        "origin": {"type": "path", "required": True},
        "approved": {"type": "path", "required": True},
        "template": {"type": "str", "default": ""},
        "remote": {"type": "str", "default": "", "no_log": True},  # may hold a login
        "branch": {"type": "str", "default": "main"},
        "remote_user": {"type": "str", "default": ""},
        "login_file": {"type": "path", "default": "/dev/null"},
        "keys": {"type": "path", "no_log": False},  # says where they are
        "owner": {"type": "int", "required": True},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    approved = Path(module.params["approved"])
    try:
        with tempfile.TemporaryDirectory(dir=module.tmpdir) as template:
            changed = make(module, approved, Path(template))
        entries = workspace_entries(approved)
    except CoreError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, commit=commit(approved), entries=entries)


def make(module: AnsibleModule, approved: Path, template: Path) -> bool:
    """Make what is missing, in check mode nothing; whether something is."""
    options = module.params
    request = repository.RepositoryRequest(
        bot=options["bot"],
        origin=Path(options["origin"]),
        approved=approved,
        template=template,
        remote=options["remote"],
        owner=options["owner"],
        branch=options["branch"],
        user=options["remote_user"],
        token=read_env(Path(options["login_file"])).get("CONTROLLER_REMOTE_TOKEN", ""),
        keys=Path(options["keys"]) if options["keys"] else None,
    )
    plan = repository.plan_repository(request)
    if plan.changed and not module.check_mode:
        if plan.needs_template:
            unpack(options["template"], template)
        repository.apply_repository(plan)
    return plan.changed


def unpack(archive: str, directory: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(archive))) as packed:
        packed.extractall(directory)  # noqa: S202 - our own files, packed by the control node


if __name__ == "__main__":
    main()
