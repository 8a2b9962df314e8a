"""Commands that show how bots are."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NoReturn

import typer

from clawfactory_core.errors import CoreError
from clawfactory_core.names import container, env_prefix

from . import ansible
from .machine import Machine
from .output import is_rich, show_facts, show_json, show_table
from .parameters import Call, absolute, complete_bot, fail, shared
from .playing import one_bot, output_there, play
from .settings import default_bot, remember_bot

app = typer.Typer()
audit = typer.Typer(name="audit", help="The hash-chained logs about bots.", no_args_is_help=True)
app.add_typer(audit)

_COLUMNS = ("bot", "state", "version", "approved", "gateway", "controller", "restarts", "sandboxes", "snapshot", "lock")
#: Of an event, what has a column of its own or only proves the chain.
_SHOWN = ("time", "bot", "event", "actor", "previous")


@app.command()
@shared()
def status(
    call: Call,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="PATH", dir_okay=False, help="Also write it as a page that needs nothing else."),
    ] = None,
) -> None:
    """Show how bots are; without a name, all of them."""
    limit = ",".join(call.named) or None
    call = call.with_vars(status_html_file=absolute(html))
    if call.options.verbosity and not call.as_json:
        play("playbooks/status.yml", limit, call)
    code, facts = read_status(limit, call)
    if facts is not None and call.as_json:
        show_json(facts)
    elif facts is not None:
        _show_status(facts)
    raise typer.Exit(code)


def _show_status(facts: list[dict[str, Any]]) -> None:
    rows = [
        {
            **bot,
            "approved": str(bot.get("approved", ""))[:12],
            "gateway": bot.get("gateway_url", ""),
            "controller": bot.get("controller_url", ""),
            "snapshot": f"{bot.get('snapshot', '')} {str(bot.get('snapshot_time', ''))[:16]}".strip(),
        }
        for bot in facts
    ]
    show_table(_COLUMNS, rows)
    for bot in facts:
        if bot.get("snapshot_problem"):
            typer.echo(f"{bot['bot']}: the last scheduled snapshot failed: {bot['snapshot_problem']}")


def read_status(limit: str | None, call: Call) -> tuple[int, list[dict[str, Any]] | None]:
    """Run the status playbook silently; what it printed follows on standard error if it failed.

    :returns: its exit code, and what it found; None if it could not even write that.
    """
    with TemporaryDirectory(prefix="clawfactory-status-") as directory:
        result = Path(directory) / "status.json"
        options = call.with_vars(status_json_file=str(result)).options
        code, output = _with_spinner(ansible.playbook_command("playbooks/status.yml", limit, options))
        if code != 0 or not result.exists():
            typer.echo(output, err=True, nl=False)
        if result.exists():  # also after a failure: it tells of the bots that answered
            return code, json.loads(result.read_text(encoding="utf-8"))
    if code == 0:
        fail(CoreError(f"playbooks/status.yml succeeded but did not write {result}"))
    return code, None


def _with_spinner(command: list[str]) -> tuple[int, str]:
    if not is_rich():
        return ansible.run(command, capture=True)
    from rich.console import Console  # slow to import

    # Not while Ansible asks for a password: it would be written over.
    if {"--ask-become-pass", "--ask-vault-pass"} & set(command):
        return ansible.run(command, capture=True)
    with Console(stderr=True).status("reading the machines"):
        return ansible.run(command, capture=True)


@app.command("list")
@shared(bots=False)
def list_bots(call: Call) -> None:
    """List the bots of the inventory and their machines, without asking these."""
    try:
        chosen = default_bot()
        found = ansible.all_variables(call.options)
        rows = [
            {"bot": bot, "machine": Machine(bot, variables).address, "default": bot == chosen}
            for bot, variables in found.items()
        ]
    except CoreError as error:
        fail(error)
    if call.as_json:
        show_json(rows)
    else:
        show_table(("bot", "machine", "default"), [{**row, "default": "*" if row["default"] else ""} for row in rows])


@app.command()
@shared()
def info(
    call: Call,
    tokens: Annotated[bool, typer.Option("--tokens", help="Also read the bot's tokens and print them.")] = False,
) -> None:
    """Show a bot's addresses, version and paths, and how to read its tokens."""
    code, facts = _read_facts(call)
    if tokens:
        facts["tokens"] = _read_tokens(facts, call)
    if call.as_json:
        show_json(facts)
    else:
        show_facts({key.replace("_", " "): value for key, value in facts.items() if key != "tokens" and value != ""})
        for name, token in facts.get("tokens", {}).items():
            typer.echo(f"{name}={token}")
    raise typer.Exit(code)


def _read_facts(call: Call) -> tuple[int, dict[str, Any]]:
    bot = one_bot(call)
    code, found = read_status(bot, call)
    if not found:
        raise typer.Exit(code)
    try:
        return code, _facts(Machine(bot, ansible.variables_of(bot, call.options)), found[0])
    except CoreError as error:
        fail(error)


def _facts(machine: Machine, status: dict[str, Any]) -> dict[str, Any]:
    root = machine.root
    addresses = {name: status.get(f"{name}_url", "") for name in ("gateway", "controller")}
    ports = [int(url.rstrip("/").rpartition(":")[2]) for url in addresses.values() if url]
    registry = root / "secrets/tokens.env"
    return {
        "bot": machine.bot,
        "state": status["state"],
        "version": status.get("version", ""),
        "machine": machine.address,
        **addresses,
        "tunnel": machine.tunnel(*ports) if ports and not machine.is_local else "",
        "approved_commit": status.get("approved", ""),
        "approved": str(root / "bot_repos" / machine.bot / "approved"),
        "state_directory": str(root / "bot_repos" / machine.bot / "state"),
        "snapshots": str(root / "snapshots" / machine.bot),
        "audit_log": str(root / "audit" / f"{machine.bot}.jsonl"),
        "token_file": str(registry),
        "read_tokens": f"sudo grep ^{env_prefix(machine.bot)} {registry}",
    }


def _read_tokens(facts: dict[str, Any], call: Call) -> dict[str, str]:
    from clawfactory_core.secrets import TOKENS  # slow to import, and needed here only

    prefix = env_prefix(facts["bot"])
    lines = output_there(facts["bot"], ["grep", f"^{prefix}", facts["token_file"]], call, accepted=(0, 1))
    found = dict(line.split("=", 1) for line in lines.splitlines() if "=" in line)
    # A bot 'a' has no business with the tokens of a bot 'a-b', which begin alike.
    return {name: value for name, value in found.items() if name.removeprefix(prefix) in TOKENS}


@app.command()
@shared()
def controller(
    call: Call,
    browser: Annotated[bool, typer.Option("--open", help="Open it in the browser of this computer.")] = False,
    token: Annotated[bool, typer.Option("--token", help="Also read its token and print it.")] = False,
) -> None:
    """Show where a bot's controller is, and how to get in."""
    code, facts = _read_facts(call)
    if not facts["controller"]:
        fail(CoreError(f"{facts['bot']} is not deployed; bring it up first: clawfactory up {facts['bot']}"))
    shown = {key: facts[key] for key in ("controller", "tunnel", "read_tokens")}
    if token:
        shown["token"] = _read_tokens(facts, call).get(f"{env_prefix(facts['bot'])}CONTROLLER_TOKEN", "")
    if call.as_json:
        show_json(shown)
    else:
        show_facts({key.replace("_", " "): value for key, value in shown.items() if value})
    if browser:
        typer.launch(facts["controller"])
    raise typer.Exit(code)


@app.command()
@shared()
def doctor(call: Call) -> None:
    """Show how a bot is and run OpenClaw's own health checks in its gateway; changes nothing."""
    bot = one_bot(call)
    code, found = read_status(bot, call)
    if not found:
        raise typer.Exit(code)
    if found[0]["state"] not in ("healthy", "starting", "unhealthy"):
        fail(CoreError(f"{bot} is {found[0]['state']}; its gateway has to run for this"), ansible.EXIT_BOT_FAILED)
    checks = ["docker", "exec", container(bot, "gateway"), "openclaw", "doctor", "--lint", "--json"]
    # 1: it has findings, and prints them all the same.
    text = output_there(bot, checks, call, accepted=(0, 1))
    try:
        report = json.loads(text)
    except ValueError:
        fail(CoreError(f"{bot}: OpenClaw's checks did not answer with JSON: {text[:300]!r}"), ansible.EXIT_BOT_FAILED)
    _show_report(bot, found[0]["state"], report, call)


def _show_report(bot: str, state: str, report: dict[str, Any], call: Call) -> NoReturn:
    findings = report.get("findings", [])
    if call.as_json:
        show_json({"bot": bot, "state": state, "checks": report})
    else:
        show_facts({"bot": bot, "state": state, "checks": report.get("checksRun", ""), "findings": len(findings)})
        show_table(("severity", "checkId", "message"), findings)
    serious = [finding for finding in findings if finding.get("severity") == "error"]
    raise typer.Exit(ansible.EXIT_BOT_FAILED if serious or state != "healthy" else ansible.EXIT_OK)


@app.command()
@shared(bots=False)
def use(
    call: Call, bot: Annotated[str, typer.Argument(metavar="BOT", help="Its name.", autocompletion=complete_bot)]
) -> None:
    """Remember a bot as the one that is meant where none is named."""
    named = one_bot(Call((bot,), call.options))
    try:
        remember_bot(named)
    except OSError as error:
        fail(error)
    if call.as_json:
        show_json({"default": named})
    else:
        typer.echo(f"{named} is the default now")


@audit.command("show")
@shared()
def show_audit(
    call: Call,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=10000, help="So many of the newest.")] = 20,
) -> None:
    """Show the newest events of a bot's log of decisions."""
    bot = one_bot(call)
    try:
        log = Machine(bot, ansible.variables_of(bot, call.options)).root / "audit" / f"{bot}.jsonl"
    except CoreError as error:
        fail(error)
    # find: a bot about which nothing was decided yet has no log, which is no error.
    tail = ["find", str(log.parent), "-name", log.name, "-exec", "tail", "-n", str(lines), "{}", ";"]
    events = [json.loads(line) for line in output_there(bot, tail, call).splitlines()]
    if call.as_json:
        show_json(events)
        return
    rows = [
        {**event, "details": json.dumps({key: value for key, value in event.items() if key not in _SHOWN})}
        for event in events
    ]
    show_table(("time", "event", "actor", "details"), rows)


@audit.command("verify")
@shared()
def verify_audit(call: Call) -> None:
    """Find lines that were changed, cut or moved, and name them; without a name, in the logs of all bots."""
    play("playbooks/verify-audit.yml", ",".join(call.named) or None, call, module="clawfactory_audit_info")
