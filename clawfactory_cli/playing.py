"""Which bots a command means, and running a playbook on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

import typer

from clawfactory_core.errors import CoreError

from . import ansible
from .ansible import AnsibleOptions
from .output import show_json
from .parameters import Call, fail
from .settings import default_bot

#: What Ansible adds to a module's result.
_OF_ANSIBLE = ("action", "invocation", "changed", "failed", "msg", "exception", "ansible_facts")


def limit_of(call: Call) -> str:
    """The host pattern for the bots named, or for the default one, or for the only one."""
    return ",".join(call.named) if call.named else _chosen(call.options)


def one_bot(call: Call) -> str:
    """The one bot that is named, or the default one, or the only one.

    :raises typer.BadParameter: several are meant, or one that the inventory does not have.
    """
    if not call.named:
        return _chosen(call.options)
    known = _known(call.options)
    strange = [bot for bot in call.named if bot not in known]
    if strange:
        raise typer.BadParameter(
            f"the inventory has no bot {', '.join(strange)}; it has {', '.join(known) or 'none'}", param_hint="BOT"
        )
    if len(call.named) > 1:
        raise typer.BadParameter(f"name one bot, not {', '.join(call.named)}", param_hint="BOT")
    return call.named[0]


def _known(options: AnsibleOptions) -> list[str]:
    try:
        return ansible.list_bots(options)
    except CoreError as error:
        fail(error)


def _chosen(options: AnsibleOptions) -> str:
    known = _known(options)
    try:
        remembered = default_bot()
    except CoreError as error:
        fail(error)
    if remembered in known:
        return str(remembered)
    if len(known) == 1:
        return known[0]
    if not known:
        raise typer.BadParameter("the inventory has no bot: add one to its group 'bots'", param_hint="BOT")
    raise typer.BadParameter(
        f"the inventory has several bots: {', '.join(known)}. Name those you mean, or 'all'; "
        "'clawfactory use BOT' makes one the default",
        param_hint="BOT",
    )


def play(playbook: str, limit: str | None, call: Call, *, module: str = "") -> NoReturn:
    """Run a playbook and end with its exit code.

    :param module: whose result is what ``--json`` shows of each bot.
    """
    command = ansible.playbook_command(playbook, limit, call.options)
    if not call.as_json:
        raise typer.Exit(ansible.run(command)[0])
    code, results = play_quietly(command, module)
    show_json(results)
    raise typer.Exit(code)


def play_quietly(command: list[str], module: str = "") -> tuple[int, dict[str, Any]]:
    """Run a playbook without showing it.

    :returns: its exit code, and by bot ``state`` (ok, failed, unreachable), ``changed``, ``message`` and ``result``.
    """
    code, output = ansible.run(command, capture=True, variables=ansible.AS_JSON)
    try:
        return code, results_of(output, module)
    except ValueError:
        typer.echo(output, err=True, nl=False)
        if code == 0:
            fail(CoreError("Ansible did not answer with JSON"))
        return code, {}


def results_of(output: str, module: str = "") -> dict[str, Any]:
    """What :func:`play_quietly` tells of each bot, from what Ansible printed.

    :raises ValueError: that is no JSON.
    """
    read = json.loads(output)
    return {host: _result(host, counts, read["plays"], module) for host, counts in read["stats"].items()}


def _result(host: str, counts: Mapping[str, int], plays: list[Mapping[str, Any]], module: str) -> dict[str, Any]:
    results = [task["hosts"][host] for each in plays for task in each["tasks"] if host in task["hosts"]]
    failed = [result for result in results if result.get("failed") or result.get("unreachable")]
    state = "unreachable" if counts["unreachable"] else "failed" if counts["failures"] else "ok"
    told = [] if state == "ok" else [str(result["msg"]) for result in failed if result.get("msg")]
    found = {"state": state, "changed": counts["changed"] > 0, "message": told[-1] if told else ""}
    wanted = [result for result in results if module and result.get("action") == module]
    if wanted:
        last = {key: value for key, value in wanted[-1].items() if not key.startswith("_ansible")}
        found["result"] = {key: value for key, value in last.items() if key not in _OF_ANSIBLE}
    return found


def output_there(bot: str, arguments: list[str], call: Call, *, accepted: tuple[int, ...] = (0,)) -> str:
    """What a program prints on a bot's machine, run by Ansible as root; ends the command if it fails.

    :param accepted: exit codes that are no failure.
    """
    code, results = play_quietly(ansible.module_command(bot, arguments, call.options), "ansible.builtin.command")
    found = results.get(bot, {})
    result = found.get("result", {})
    if code != 0 and result.get("rc") not in accepted:
        told = result.get("stderr") or found.get("message") or "Ansible said nothing of it"
        fail(CoreError(f"{bot}: {arguments[0]}: {told}"), code)
    return str(result.get("stdout", ""))
