#!/usr/bin/python
"""Ansible module: the steps of restoring a bot's state from its snapshots."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clawfactory_restore
short_description: Restore the state of a bot from its snapshots
description:
  - One step at a time, so that the bot is stopped only for the shortest of them; C(playbooks/restore.yml) puts them
    together.
  - After each step, and after a crash in one, the bot's state is the old one or the restored one as a whole.
options:
  root:
    description: Directory of ClawFactory on the machine.
    type: path
    required: true
  bot:
    description: Name of the bot whose state is restored.
    type: str
    required: true
  state:
    description:
      - V(staged) verifies the whole chain and extracts it beside the live state, which is not touched.
      - V(swapped) puts the staged state in the place of the live one, which stays aside. The gateway must not run.
      - V(put_back) puts the old state back; V(kept) deletes it.
      - V(recovered) finishes or undoes what ended in the middle of V(swapped), V(put_back) or V(kept), before the bot
        starts.
      - V(extracted) writes chosen paths to a directory, and nothing else.
    type: str
    choices: [staged, swapped, put_back, kept, recovered, extracted]
    required: true
  name:
    description: Which snapshot; an id, a file name or C(latest).
    type: str
    default: latest
  from_bot:
    description: Bot whose snapshot it is, if another one. Identity and paired devices are left out then.
    type: str
  offsite:
    description: Read what M(clawfactory_offsite) fetched, and not the snapshots of the machine.
    type: bool
    default: false
  identities:
    description: Text of an age key file, where the private key is not on the machine.
    type: str
  rotate_token:
    description: Give the gateway a new token, with O(state=swapped).
    type: bool
    default: false
  paths:
    description: Files and directories to extract, relative to the bot's state.
    type: list
    elements: str
    default: []
  destination:
    description: Directory for them; must not exist or be empty.
    type: path
attributes:
  check_mode: {support: full}
  diff_mode:
    support: partial
    description: Which snapshot takes the place of the state, or which paths are written; not what is in them.
author: ClawFactory
"""
EXAMPLES = r"""
- name: Look at one file of a snapshot
  clawfactory_restore:
    root: /srv/clawfactory
    bot: bot1
    state: extracted
    name: before-upgrade--2026-11-22T10-00-00Z
    paths: [workspace/MEMORY.md]
    destination: /root/bot1-memory
"""
RETURN = r"""
chain:
  description: File names of the archives, the full one first.
  returned: with state=staged
  type: list
  elements: str
staged:
  description: Where the verified state lies.
  returned: with state=staged, not in check mode
  type: str
before:
  description: Where the old state lies until it is kept or put back.
  returned: with state=swapped, not in check mode
  type: str
extracted:
  description: What was written.
  returned: with state=extracted
  type: list
  elements: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.clawfactory_core.errors import CoreError, InvalidInput
from ansible.module_utils.clawfactory_core.names import check_bot_name
from ansible.module_utils.clawfactory_core.secrets import rotate_gateway_token
from ansible.module_utils.clawfactory_core.snapshots import restore
from ansible.module_utils.clawfactory_core.snapshots.extract import extract_paths
from ansible.module_utils.clawfactory_core.snapshots.identity import renew_identity
from ansible.module_utils.clawfactory_core.snapshots.journal import is_unsettled
from ansible.module_utils.clawfactory_core.snapshots.progress_file import ProgressFile
from ansible.module_utils.clawfactory_core.snapshots.settings import (
    bot_directories,
    parse_identities,
    read_identities,
    read_settings,
)
from ansible.module_utils.clawfactory_core.snapshots.settle import refuse_running, settle_restore

STEPS = ["staged", "swapped", "put_back", "kept", "recovered", "extracted"]


def argument_spec() -> dict[str, dict[str, object]]:
    return {
        "root": {"type": "path", "required": True},
        "bot": {"type": "str", "required": True},
        "state": {"type": "str", "choices": STEPS, "required": True},
        "name": {"type": "str", "default": "latest"},
        "from_bot": {"type": "str"},
        "offsite": {"type": "bool", "default": False},
        "identities": {"type": "str", "no_log": True},
        "rotate_token": {"type": "bool", "default": False, "no_log": False},
        "paths": {"type": "list", "elements": "str", "default": []},
        "destination": {"type": "path"},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        required_if=[("state", "extracted", ("paths", "destination"))],
    )
    steps = {
        "staged": stage,
        "swapped": swap,
        "put_back": put_back,
        "kept": keep,
        "recovered": recover,
        "extracted": extract,
    }
    try:
        result = steps[module.params["state"]](module)
    except (CoreError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=result.pop("changed"), **result)


def stage(module: AnsibleModule) -> dict[str, object]:
    request = _request(module)
    plan = restore.plan_restore(request)
    size = f"{plan.count} entries, {plan.bytes} bytes" if plan.count >= 0 else "an archive without a record"
    result: dict[str, object] = {
        "changed": True,
        "chain": [record.file_name for record in plan.chain],
        "diff": _diff(request.state, "the live state", f"{_source(module)}'s snapshot {plan.record.id}, {size}"),
    }
    if not module.check_mode:
        with _progress(module, "restore") as progress:
            staged = restore.stage_restore(request, progress).path
        if _source(module) != module.params["bot"]:
            try:
                renew_identity(staged, request.uid, request.gid)
            except BaseException:
                # Another bot's secrets are in it, and nobody will swap it in.
                restore.recover(request.state)
                raise
        result["staged"] = str(staged)
    return result


def extract(module: AnsibleModule) -> dict[str, object]:
    request = _request(module)
    paths = module.params["paths"]
    diff = _diff(request.destination, "", "\n".join(paths))
    if module.check_mode:
        restore.plan_restore(request)
        return {"changed": True, "extracted": paths, "diff": diff}
    with _progress(module, "extract") as progress:
        return {"changed": True, "extracted": extract_paths(request, progress), "diff": diff}


def swap(module: AnsibleModule) -> dict[str, object]:
    root, bot = Path(module.params["root"]), module.params["bot"]
    refuse_running(bot)
    if module.check_mode:
        return {"changed": True}
    before = restore.swap(bot_directories(root, bot)[0])
    if module.params["rotate_token"]:
        rotate_gateway_token(root, bot, read_settings(root, bot).gateway_uid)
    return {"changed": True, "before": str(before)}


def put_back(module: AnsibleModule) -> dict[str, object]:
    root, bot = Path(module.params["root"]), module.params["bot"]
    state = bot_directories(root, bot)[0]
    if module.check_mode:
        return {"changed": True}
    # What was not swapped can go while the bot runs.
    if not restore.is_swapped(state):
        return {"changed": restore.discard_staged(state)}
    refuse_running(bot)
    return {"changed": restore.put_back(state)}


def keep(module: AnsibleModule) -> dict[str, object]:
    root, bot = Path(module.params["root"]), module.params["bot"]
    return {"changed": module.check_mode or restore.keep(bot_directories(root, bot)[0])}


def recover(module: AnsibleModule) -> dict[str, object]:
    root, bot = Path(module.params["root"]), module.params["bot"]
    if module.check_mode:
        return {"changed": is_unsettled(bot_directories(root, bot)[0])}
    return {"changed": settle_restore(root, bot)}


def _diff(path: Path | None, before: str, after: str) -> dict[str, str]:
    return {
        "before_header": str(path),
        "after_header": str(path),
        "before": f"{before}\n" if before else "",
        "after": f"{after}\n",
    }


def _progress(module: AnsibleModule, operation: str) -> ProgressFile:
    root, bot = Path(module.params["root"]), module.params["bot"]
    return ProgressFile(bot_directories(root, bot)[1], operation, bot, read_settings(root, bot).controller_uid)


def _source(module: AnsibleModule) -> str:
    return str(module.params["from_bot"] or module.params["bot"])


def _request(module: AnsibleModule) -> restore.RestoreRequest:
    options = module.params
    root, bot, source = Path(options["root"]), options["bot"], _source(module)
    settings = read_settings(root, bot)
    check_bot_name(source)
    text = options["identities"]
    identities = parse_identities(text, "identities") if text else read_identities(root, source)
    if not identities:
        raise InvalidInput(
            f"{source}: the private age key is not on this machine; give it from the control node: "
            f"ansible-playbook playbooks/restore.yml -l {bot} -e restore_key_file=PATH"
        )
    return restore.RestoreRequest(
        root=root,
        bot=bot,
        state=bot_directories(root, bot)[0],
        directory=restore.offsite_directory(root, bot) / source
        if options["offsite"]
        else bot_directories(root, source)[1],
        name=options["name"],
        identities=identities,
        uid=settings.gateway_uid,
        gid=settings.gateway_uid,
        destination=Path(options["destination"]) if options["destination"] else None,
        paths=tuple(options["paths"]),
        limits=settings.read_limits,
    )


if __name__ == "__main__":
    main()
