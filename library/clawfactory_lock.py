#!/usr/bin/python
"""Ansible module: the kill switch."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_lock
short_description: Lock bots of a machine, or end that
description:
  - Locks all bots that are named in one go; cuts their network, kills every process of theirs, turns restart policies
    off, writes the locks and the audit, in this order. Waits for nothing that can hang.
  - Needs the standard library of Python and nft alone; run it with the machine's own Python.
options:
  root:
    description: Directory of ClawFactory on the machine.
    type: path
    required: true
  state:
    description: V(unlocked) ends the lock and opens the network; it starts nothing.
    type: str
    choices: [locked, unlocked]
    default: locked
  bots:
    description: Names of the bots; they need not be deployed.
    type: list
    elements: str
    required: true
  scope:
    description:
      - V(machine) also cuts off all other traffic of the machine but loopback, the SSH session Ansible came by and
        O(allow). With O(state=unlocked) it ends that, too.
    type: str
    choices: [bot, machine]
    default: bot
  allow:
    description: Addresses or networks that reach the machine's SSH with O(scope=machine).
    type: list
    elements: str
    default: []
  ssh:
    description: Whether Ansible came by SSH, so that O(scope=machine) has to know from where.
    type: bool
    default: false
  actor:
    description: Who does it, for lock and audit.
    type: str
    required: true
  reason:
    description: Why, on one line.
    type: str
    default: ""
  evidence:
    description: Record what runs before it is killed.
    type: bool
    default: true
attributes:
  check_mode: {support: full, description: Says what would be done to each bot.}
  diff_mode: {support: full, description: Shows who was and is locked.}
author: ClawFactory
"""
EXAMPLES = r"""
- name: Lock bot1
  clawfactory_lock:
    root: /srv/clawfactory
    bots: [bot1]
    actor: alice
    reason: talks to strangers

- name: End that
  clawfactory_lock:
    root: /srv/clawfactory
    bots: [bot1]
    state: unlocked
    actor: alice
"""
RETURN = r"""
bots:
  description:
    - By bot what its lock says (V(actor), V(time), V(reason), V(scope)), and what was done. With O(state=unlocked) what
      it said, null for a bot that was not locked.
  returned: success
  type: dict
others:
  description: What else runs in containers of this machine, V(bots) and V(containers); not in check mode.
  returned: when O(state=locked)
  type: dict
milliseconds:
  description: When each step was over, since the module began; not in check mode.
  returned: when O(state=locked)
  type: dict
network:
  description: How the network was cut, V(nft) or V(links); not in check mode.
  returned: when O(state=locked)
  type: str
killed:
  description: How many processes were killed; not in check mode.
  returned: when O(state=locked)
  type: int
unlocked:
  description: Bots whose lock could not be written, so that nothing keeps them dead; not in check mode.
  returned: when O(state=locked)
  type: list
  elements: str
left:
  description: Processes that the kernel does not let die; not in check mode.
  returned: when O(state=locked)
  type: list
  elements: int
engine:
  description: Whether the Docker engine V(answers), is V(stopped) or V(hangs).
  returned: success
  type: str
problems:
  description: What did not work; what could be done without it was done.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.clawfactory_core.errors import CoreError, InvalidInput
from ansible.module_utils.clawfactory_core.killswitch.lock import LockRequest, apply_lock, plan_lock
from ansible.module_utils.clawfactory_core.killswitch.machine_lock import exceptions
from ansible.module_utils.clawfactory_core.killswitch.network import Exceptions
from ansible.module_utils.clawfactory_core.killswitch.operator import find_session
from ansible.module_utils.clawfactory_core.killswitch.unlock import UnlockRequest, apply_unlock, plan_unlock
from ansible.module_utils.clawfactory_core.killswitch.world import World


def argument_spec() -> dict[str, dict[str, object]]:
    return {
        "root": {"type": "path", "required": True},
        "state": {"type": "str", "choices": ["locked", "unlocked"], "default": "locked"},
        "bots": {"type": "list", "elements": "str", "required": True},
        "scope": {"type": "str", "choices": ["bot", "machine"], "default": "bot"},
        "allow": {"type": "list", "elements": "str", "default": []},
        "ssh": {"type": "bool", "default": False},
        "actor": {"type": "str", "required": True},
        "reason": {"type": "str", "default": ""},
        "evidence": {"type": "bool", "default": True},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        result = lock(module) if module.params["state"] == "locked" else unlock(module)
    except (CoreError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


def lock(module: AnsibleModule) -> dict[str, object]:
    options = module.params
    request = LockRequest(
        root=Path(options["root"]),
        bots=tuple(options["bots"]),
        actor=options["actor"],
        reason=options["reason"],
        machine=let_in(options) if options["scope"] == "machine" else None,
        take_evidence=options["evidence"],
    )
    if module.check_mode:
        plan = plan_lock(request, World())
        told = {bot: f"{bot}: {', '.join(steps) or 'locked'}\n" for bot, steps in plan.items()}
        return {
            "changed": any(plan.values()),
            "bots": {bot: {"changed": bool(steps), "planned": steps} for bot, steps in plan.items()},
            "diff": [{"prepared": text} for bot, text in told.items() if plan[bot]],
        }
    done = apply_lock(request)
    diff = [{"before": "", "after": f"{item['refusal']}\n"} for item in done.bots.values() if item["changed"]]
    return {"changed": done.changed, "diff": diff, **vars(done)}


def let_in(options: dict[str, object]) -> Exceptions:
    """:raises InvalidInput: Ansible came by SSH, but from where is not known: it would lock the operator out."""
    session = find_session()
    if options["ssh"] and session is None and not options["allow"]:
        raise InvalidInput(
            "scope=machine: the address of this SSH session cannot be found, so it would end as well; "
            'nothing has been done. Name it: -e \'{"lockdown_allow": ["ADDRESS"]}\', or lock the bots alone'
        )
    return exceptions(options["allow"], session)  # type: ignore[arg-type]  # Ansible has made it a list of texts


def unlock(module: AnsibleModule) -> dict[str, object]:
    options = module.params
    request = UnlockRequest(
        root=Path(options["root"]),
        bots=tuple(options["bots"]),
        actor=options["actor"],
        reason=options["reason"],
        machine=options["scope"] == "machine",
    )
    done = plan_unlock(request, World()) if module.check_mode else apply_unlock(request)
    diff = [{"before": f"{item['refusal']}\n", "after": ""} for item in done.locks.values() if item]
    return {
        "changed": done.changed, "diff": diff, "bots": done.locks, "engine": done.engine, "problems": done.problems
    }  # fmt: skip


if __name__ == "__main__":
    main()
