#!/usr/bin/python
"""Ansible module: several files and directories in one task."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_files
short_description: Bring several files and directories to a wanted state in one task
description:
  - Every file is written under a temporary name, synced and renamed. Links are never followed.
options:
  files:
    description:
      - Wanted paths. Each is a dictionary with C(path), C(state) (V(file), V(directory), V(absent)), C(content),
        C(owner) and C(group) (numbers), C(mode) (octal text), C(secret) (keep the content out of the diff) and C(once)
        (write the content only if the file does not exist).
    type: list
    elements: dict
    required: true
attributes:
  check_mode: {support: full, description: Reports what would change.}
  diff_mode: {support: full, description: Shows contents that are not secret.}
author: ClawFactory
"""
EXAMPLES = r"""
- name: Configure
  clawfactory_files:
    files:
      - {path: /srv/clawfactory/egress/bot1, state: directory, mode: "0755"}
      - {path: /srv/clawfactory/egress/bot1/squid.conf, content: "http_port 3128\n", mode: "0644"}
"""
RETURN = r"""
changed_paths:
  description: Paths that changed, or would.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.clawfactory_core.errors import CoreError
from ansible.module_utils.clawfactory_core.files import apply_files, parse_specs, plan_files


def argument_spec() -> dict[str, dict[str, object]]:
    # Not no_log: that would hide the paths too. Contents that are secret come back in no result and no log (below).
    return {"files": {"type": "list", "elements": "dict", "required": True}}


class _QuietModule(AnsibleModule):  # type: ignore[misc] # ansible-core has no type information
    """Does not copy its arguments, which may hold secret contents, to the machine's system log."""

    def _log_invocation(self) -> None:
        pass


def main() -> None:
    module = _QuietModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        plan = plan_files(parse_specs(module.params["files"]))
        if plan.changed and not module.check_mode:
            apply_files(plan)
    except CoreError as error:
        module.fail_json(msg=str(error), invocation={})
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}", invocation={})
    paths = [str(change.spec.path) for change in plan.changes]
    # The arguments may hold secret contents; do not echo them back in 'invocation'.
    module.exit_json(changed=plan.changed, changed_paths=paths, diff=plan.diff(), invocation={})


if __name__ == "__main__":
    main()
