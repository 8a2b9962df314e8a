#!/usr/bin/python
"""Ansible module: OpenClaw's configuration."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_config
short_description: Install OpenClaw's configuration after the bot's own OpenClaw has validated it
description:
  - Writes C(openclaw.json), keeps the operator's C(operator.json5), and keeps what was there as known good.
options:
  directory:
    description: The bot's config directory.
    type: path
    required: true
  state:
    description:
      - V(validated) only asks OpenClaw, where something would change, and remembers that it agreed. In check mode it
        asks, too, and remembers nothing.
      - V(known_good) puts back what was there before the last change.
    type: str
    choices: [present, validated, known_good]
    default: present
  content:
    description: Wanted text of openclaw.json.
    type: str
    default: "{}"
  uid:
    description: User and group id of the gateway, which reads the files and validates them.
    type: int
    required: true
  image:
    description: Gateway image that validates.
    type: str
    default: ""
  image_id:
    description: Id of that image; with it a passed validation is remembered. Empty asks every time.
    type: str
    default: ""
  remembered:
    description: Directory of remembered validations.
    type: path
    required: true
attributes:
  check_mode: {support: full, description: "Reports what would change; asks OpenClaw with V(validated) only."}
  diff_mode: {support: full, description: Shows openclaw.json; it holds references to secrets, never values.}
author: ClawFactory
"""
EXAMPLES = r"""
- name: Configure
  clawfactory_config:
    directory: /srv/clawfactory/bot_repos/bot1/config
    content: "{{ lookup('ansible.builtin.file', 'openclaw.json') }}"
    uid: 20001
    image: clawfactory-gateway:2026.9.6
    remembered: /srv/clawfactory/build/validated
"""
RETURN = r"""
restored:
  description: Whether a known good configuration was put back.
  returned: when I(state=known_good)
  type: bool
"""

from functools import partial
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.clawfactory_core import config_install
from ansible.module_utils.clawfactory_core.adapters.docker_engine import run_once
from ansible.module_utils.clawfactory_core.errors import CoreError, MissingDependency


def argument_spec() -> dict[str, dict[str, object]]:
    return {
        "directory": {"type": "path", "required": True},
        "state": {"type": "str", "choices": ["present", "validated", "known_good"], "default": "present"},
        "content": {"type": "str", "default": "{}"},
        "uid": {"type": "int", "required": True},
        "image": {"type": "str", "default": ""},
        "image_id": {"type": "str", "default": ""},
        "remembered": {"type": "path", "required": True},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        result = {"present": install, "validated": ask, "known_good": restore}[module.params["state"]](module)
    except (CoreError, MissingDependency) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


def restore(module: AnsibleModule) -> dict[str, object]:
    directory = Path(module.params["directory"])
    if module.check_mode:
        kept = config_install.has_known_good(directory)
        return {"changed": kept, "restored": kept}
    restored = config_install.restore_known_good(directory, module.params["uid"])
    return {"changed": restored, "restored": restored}


def install(module: AnsibleModule) -> dict[str, object]:
    wanted = plan(module)
    if wanted.changed and not module.check_mode:
        config_install.apply_config(wanted, asking(module))
    return {"changed": wanted.changed, "diff": wanted.files.diff()}


def ask(module: AnsibleModule) -> dict[str, object]:
    config_install.validate_config(plan(module), asking(module), remember=not module.check_mode)
    return {"changed": False}


def plan(module: AnsibleModule) -> config_install.ConfigPlan:
    options = module.params
    return config_install.plan_config(
        config_install.ConfigRequest(
            directory=Path(options["directory"]),
            content=options["content"],
            gid=options["uid"],
            image_id=options["image_id"],
            remembered=Path(options["remembered"]),
        )
    )


def asking(module: AnsibleModule) -> config_install.Validate:
    return partial(validate, module.params["image"], module.params["uid"])


def validate(image: str, uid: int, candidate: Path) -> None:
    """Ask the OpenClaw of ``image``; raises CoreError with its words."""
    command = ["openclaw", "config", "validate"]
    run_once(
        image,
        command,
        user=f"{uid}:{uid}",
        mount=(candidate, config_install.VALIDATED_IN),
        env=config_install.VALIDATION_ENVIRONMENT,
    )


if __name__ == "__main__":
    main()
