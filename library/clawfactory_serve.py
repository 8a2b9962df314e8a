#!/usr/bin/python
"""Ansible module: routes of Tailscale Serve."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_serve
short_description: Publish local ports in the tailnet by Tailscale Serve
description:
  - Sets the wanted routes and takes away those that were set earlier and are wanted no more. Routes of others stay.
  - Never uses Funnel, and refuses a port on which it is on.
options:
  hostname:
    description: Whole name of the machine in its tailnet.
    type: str
    required: true
  routes:
    description: Wanted routes, each with C(port) (HTTPS), C(path) and C(target).
    type: list
    elements: dict
    required: true
  applied:
    description: Routes that were set earlier.
    type: list
    elements: dict
    default: []
attributes:
  check_mode: {support: full, description: Reports what would be set.}
  diff_mode: {support: full, description: Shows the routes that come and go.}
author: ClawFactory
"""
EXAMPLES = r"""
- name: Publish a controller
  clawfactory_serve:
    hostname: machine.tail1234.ts.net
    routes:
      - {port: 443, path: /bot1, target: "http://127.0.0.1:8080/bot1"}
"""
RETURN = r"""
routes:
  description: How many routes were set or taken away, or would be.
  returned: success
  type: int
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.clawfactory_core.errors import CoreError
from ansible.module_utils.clawfactory_core.tailscale import Route, apply_serve, plan_serve, read_status, run_tailscale


def argument_spec() -> dict[str, dict[str, object]]:
    return {
        "hostname": {"type": "str", "required": True},
        "routes": {"type": "list", "elements": "dict", "required": True},
        "applied": {"type": "list", "elements": "dict", "default": []},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    name = module.params["hostname"]
    wanted, applied = (
        [Route(int(one["port"]), one["path"], one["target"]) for one in module.params[option]]
        for option in ("routes", "applied")
    )
    try:
        plan = plan_serve(read_status(run_tailscale), name, wanted, applied)
        if plan.changed and not module.check_mode:
            apply_serve(plan, run_tailscale)
            left = plan_serve(read_status(run_tailscale), name, wanted, applied)
            if left.changed:
                raise CoreError("tailscale took the routes and does not have them; see 'tailscale serve status'")
    except CoreError as error:
        module.fail_json(msg=str(error))
    before, after = (
        "".join(f"https://{name}:{one.port}{one.path} -> {one.target}\n" for one in routes)
        for routes in (plan.gone, plan.due)
    )
    diff = {"before": before, "after": after, "before_header": "Serve", "after_header": "Serve"}
    module.exit_json(changed=plan.changed, routes=len(plan.gone) + len(plan.due), diff=diff)


if __name__ == "__main__":
    main()
