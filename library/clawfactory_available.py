#!/usr/bin/python
"""Ansible module: which versions of OpenClaw there are."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_available
short_description: Find versions of OpenClaw that are newer than the pinned one
description:
  - Asks where a bot's OpenClaw comes from; nothing is downloaded, and nothing changed.
options:
  version:
    description: The pinned version.
    type: str
    required: true
  image:
    description: Image in whose registry to look for tags; empty asks npm for its channels.
    type: str
    default: ""
  npm:
    description: Address of the npm registry.
    type: str
    default: https://registry.npmjs.org
attributes:
  check_mode: {support: full, description: Reads only.}
  diff_mode: {support: none, description: Changes nothing.}
author: ClawFactory
"""
EXAMPLES = r"""
- name: Ask npm
  clawfactory_available:
    version: 2026.9.6
"""
RETURN = r"""
source:
  description: Who was asked.
  returned: success
  type: str
newer:
  description: Newer versions, the newest first; npm tells the newest of each of its channels.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.clawfactory_core.available import image_versions, npm_versions
from ansible.module_utils.clawfactory_core.errors import CoreError
from ansible.module_utils.clawfactory_core.versions import newer


def argument_spec() -> dict[str, dict[str, object]]:
    return {
        "version": {"type": "str", "required": True},
        "image": {"type": "str", "default": ""},
        "npm": {"type": "str", "default": "https://registry.npmjs.org"},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = module.params
    try:
        found = image_versions(options["image"]) if options["image"] else npm_versions(options["npm"])
        later = newer(found, options["version"])
    except CoreError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, source=options["image"] or options["npm"], newer=later)


if __name__ == "__main__":
    main()
