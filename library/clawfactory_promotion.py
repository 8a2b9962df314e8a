#!/usr/bin/python
"""Ansible module: promotes a bot, rolls it back, and decides about its proposals."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_promotion
short_description: Move what is approved of a bot to another commit
description:
  - Prepares the commit's tree beside the live one, exchanges the two in one step, restarts the gateway, waits for it.
  - If the gateway does not get ready, the commit of before comes back, and the module fails and says why.
  - What an interrupted promotion left is finished or undone first.
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
    description:
      - V(promoted) moves to a commit of the branch, V(rolled_back) to one that was approved before.
      - V(denied) closes a proposal, V(reopened) opens it again.
      - V(resumed) only finishes or undoes what an interrupted promotion left.
    type: str
    choices: [promoted, rolled_back, denied, reopened, resumed]
    default: promoted
  sha:
    description: Commit; empty for the newest of the branch, or for the one before.
    type: str
    default: ""
  proposal:
    description: Proposal to merge first, to close or to open again; with or without C(proposal/).
    type: str
    default: ""
  bundle:
    description: Git bundle on the machine with a commit of the operator's own as its HEAD; C(main) moves to it.
    type: path
  reason:
    description: Why a proposal is closed; the bot reads it.
    type: str
    default: ""
  actor:
    description: Who decided, for history and audit.
    type: str
    default: operator
attributes:
  check_mode: {support: full, description: Fetches into the bot's repository too.}
  diff_mode: {support: full, description: The change as git shows it.}
author: ClawFactory
"""
EXAMPLES = r"""
- name: Promote the newest commit
  clawfactory_promotion:
    root: /srv/clawfactory
    bot: bot1
    actor: alice

- name: Merge and promote a proposal
  clawfactory_promotion:
    root: /srv/clawfactory
    bot: bot1
    proposal: proposal/new-skill

- name: Promote a commit of one's own
  clawfactory_promotion:
    root: /srv/clawfactory
    bot: bot1
    bundle: /root/bot1.bundle

- name: Go back
  clawfactory_promotion:
    root: /srv/clawfactory
    bot: bot1
    state: rolled_back

- name: Close a proposal
  clawfactory_promotion:
    root: /srv/clawfactory
    bot: bot1
    state: denied
    proposal: proposal/new-skill
    reason: Ask before you read mail.
"""
RETURN = r"""
told:
  description: What was done, or would be, in a sentence.
  returned: success
  type: str
promotion:
  description: Commits before and after, entries that come and go, numbers of files and lines, snapshot.
  returned: with state=promoted and state=rolled_back
  type: dict
denial:
  description: Name, commit, reason, actor and time.
  returned: with state=denied
  type: dict
outcome:
  description: V(nothing), V(finished) or V(undone); V(waiting) in check mode where there is something to be done.
  returned: with state=resumed
  type: str
"""

from dataclasses import asdict
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.clawfactory_core.errors import CoreError
from ansible.module_utils.clawfactory_core.promotion.apply import apply_promotion, resume
from ansible.module_utils.clawfactory_core.promotion.decide import deny, plan_denial, plan_reopening, undeny
from ansible.module_utils.clawfactory_core.promotion.journal import read_journal
from ansible.module_utils.clawfactory_core.promotion.plan import PromotionPlan, PromotionRequest, plan_promotion
from ansible.module_utils.clawfactory_core.promotion.state import load

SOURCE = "playbook"


def argument_spec() -> dict[str, dict[str, object]]:
    return {
        "root": {"type": "path", "required": True},
        "bot": {"type": "str", "required": True},
        "state": {
            "type": "str",
            "choices": ["promoted", "rolled_back", "denied", "reopened", "resumed"],
            "default": "promoted",
        },
        "sha": {"type": "str", "default": ""},
        "proposal": {"type": "str", "default": ""},
        "bundle": {"type": "path"},
        "reason": {"type": "str", "default": ""},
        "actor": {"type": "str", "default": "operator"},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        required_if=[("state", "denied", ("proposal", "reason")), ("state", "reopened", ("proposal",))],
    )
    work = {"denied": close, "reopened": reopen, "resumed": bring_to_an_end}.get(module.params["state"], promote)
    try:
        result = work(module)
    except (CoreError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


def promote(module: AnsibleModule) -> dict[str, object]:
    options = module.params
    request = PromotionRequest(
        root=Path(options["root"]),
        bot=options["bot"],
        actor=options["actor"],
        source=SOURCE,
        sha=options["sha"],
        proposal=options["proposal"],
        bundle=Path(options["bundle"]) if options["bundle"] else None,
        rollback=options["state"] == "rolled_back",
        check=module.check_mode,
    )
    plan = plan_promotion(request)
    answer: dict[str, object] = {"changed": plan.changed, "promotion": plan.to_dict(), "diff": diff_of(plan)}
    if not plan.changed:
        return {**answer, "told": f"{plan.bot.bot} stays at {plan.current}"}
    if module.check_mode:
        return {**answer, "told": f"{plan.bot.bot} would go from {plan.current} to {plan.target}"}
    done = apply_promotion(plan)
    answer["promotion"] = {**plan.to_dict(), **asdict(done)}
    if done.result == "restored":
        module.fail_json(
            msg=f"{plan.bot.bot}: {done.to_commit} did not stay, {done.from_commit} is approved again: {done.reason}",
            **{**answer, "changed": False},
        )
    snapshot = f", snapshot {done.snapshot}" if done.snapshot else ""
    how = "made anew" if done.recreated else "restarted"
    told = f"{plan.bot.bot} went from {done.from_commit} to {done.to_commit}; its gateway was {how}{snapshot}"
    return {**answer, "changed": done.result == "promoted", "told": told}


def close(module: AnsibleModule) -> dict[str, object]:
    options = module.params
    asked = (Path(options["root"]), options["bot"], options["proposal"], options["reason"])
    denial, before = plan_denial(*asked, actor=options["actor"])
    changed = before is None or (before.commit, before.reason) != (denial.commit, denial.reason)
    if changed and not module.check_mode:
        denial = deny(*asked, actor=options["actor"], source=SOURCE)
    return {
        "changed": changed,
        "denial": asdict(denial),
        "told": f"proposal/{denial.name} {'would be' if module.check_mode else 'is'} denied: {denial.reason}",
        "diff": {"before": f"{before.reason}\n" if before else "", "after": f"{denial.reason}\n"},
    }


def reopen(module: AnsibleModule) -> dict[str, object]:
    options = module.params
    asked = (Path(options["root"]), options["bot"], options["proposal"])
    before = plan_reopening(*asked)
    if before is not None and not module.check_mode:
        undeny(*asked, actor=options["actor"], source=SOURCE)
    return {
        "changed": before is not None,
        "told": f"{options['proposal']} {'would be' if module.check_mode else 'is'} open",
        "diff": {"before": f"{before.reason}\n" if before else "", "after": ""},
    }


def bring_to_an_end(module: AnsibleModule) -> dict[str, object]:
    root, bot = Path(module.params["root"]), module.params["bot"]
    if module.check_mode:
        outcome = "nothing" if read_journal(load(root, bot)) is None else "waiting"
    else:
        outcome = resume(root, bot)
    return {"changed": outcome != "nothing", "outcome": outcome, "told": f"{bot}: {outcome}"}


def diff_of(plan: PromotionPlan) -> dict[str, str]:
    entries = "".join(f"+ workspace/{name}\n" for name in plan.added)
    entries += "".join(f"- workspace/{name}\n" for name in plan.removed)
    return {"prepared": f"{entries}{plan.diff}"}


if __name__ == "__main__":
    main()
