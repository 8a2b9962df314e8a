"""The commands. Each builds one ``ansible-playbook`` call; what happens on the machines is in the playbooks."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NoReturn

import typer

from clawfactory_core import __version__
from clawfactory_core.errors import CoreError

from . import parameters as p
from .ansible import EXIT_ERROR, PROGRAMS, REPOSITORY, AnsibleOptions, environment, list_bots, playbook_command, run

EXIT_CODES = """\
Exit codes: 0 done; 1 Ansible or clawfactory itself could not work; 2 wrong usage; 3 a bot failed;
4 a machine could not be reached (or Ansible could not read a file); 5 both 3 and 4;
69 the Python environment could not be made; 130 interrupted.
"""

app = typer.Typer(
    name="clawfactory",
    help="Deploys and guards OpenClaw bots. Every command runs a playbook of this repository.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if sys.stdout.isatty() and sys.stderr.isatty() else None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clawfactory {__version__}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Deploys and guards OpenClaw bots. Every command runs a playbook of this repository."""


def _fail(error: CoreError) -> NoReturn:
    typer.echo(f"clawfactory: {error}", err=True)
    raise typer.Exit(EXIT_ERROR)


def _limit(bots: list[str] | None, options: AnsibleOptions) -> str:
    """The host pattern for the bots named, or for the only bot there is."""
    if bots:
        return ",".join(bots)
    try:
        known = list_bots(options)
    except CoreError as error:
        _fail(error)
    if len(known) == 1:
        return known[0]
    if not known:
        raise typer.BadParameter("the inventory has no bot: add one to its group 'bots'", param_hint="BOT")
    raise typer.BadParameter(
        f"the inventory has several bots: {', '.join(known)}. Name those you mean, or 'all'", param_hint="BOT"
    )


def _play(playbook: str, limit: str | None, options: AnsibleOptions) -> NoReturn:
    code, _ = run(playbook_command(playbook, limit, options))
    raise typer.Exit(code)


@app.command()
def up(
    bots: p.Bots = None,
    check: p.Check = False,
    diff: p.Diff = False,
    inventory: p.Inventory = None,
    extra_vars: p.ExtraVars = None,
    verbose: p.Verbose = 0,
    ask_become_pass: p.AskBecomePass = None,
    vault_password_file: p.VaultPasswordFile = None,
    ask_vault_pass: p.AskVaultPass = False,
) -> None:
    """Bring bots up, or bring them to what the inventory says (site.yml)."""
    options = p.options(
        inventory, extra_vars, verbose, ask_become_pass, vault_password_file, ask_vault_pass, check=check, diff=diff
    )
    _play("site.yml", _limit(bots, options), options)


def _add_verb(verb: str, summary: str) -> None:
    """Add a command that runs the playbook of the same name on the bots given."""

    def command(
        bots: p.Bots = None,
        inventory: p.Inventory = None,
        extra_vars: p.ExtraVars = None,
        verbose: p.Verbose = 0,
        ask_become_pass: p.AskBecomePass = None,
        vault_password_file: p.VaultPasswordFile = None,
        ask_vault_pass: p.AskVaultPass = False,
    ) -> None:
        options = p.options(inventory, extra_vars, verbose, ask_become_pass, vault_password_file, ask_vault_pass)
        _play(f"playbooks/{verb}.yml", _limit(bots, options), options)

    app.command(verb, help=summary)(command)


_add_verb("start", "Start bots that were stopped.")
_add_verb("stop", "Stop bots; they stay stopped until started.")
_add_verb("restart", "Restart bots.")


@app.command()
def lock(
    bots: p.Bots = None,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why, for whoever comes next.")] = "",
    machine: Annotated[
        bool, typer.Option("--machine", help="Cut off the whole machine, but loopback and your own SSH.")
    ] = False,
    snapshot: Annotated[bool, typer.Option("--snapshot", help="Make a snapshot when everything is dead.")] = False,
    inventory: p.Inventory = None,
    extra_vars: p.ExtraVars = None,
    verbose: p.Verbose = 0,
    ask_become_pass: p.AskBecomePass = None,
    vault_password_file: p.VaultPasswordFile = None,
    ask_vault_pass: p.AskVaultPass = False,
) -> None:
    """Kill switch: cut bots off, kill them, and let nothing start them until 'unlock'."""
    options = p.options(inventory, extra_vars, verbose, ask_become_pass, vault_password_file, ask_vault_pass)
    chosen = {
        "lockdown_reason": reason,
        "lockdown_scope": "machine" if machine else "bot",
        "lockdown_snapshot": snapshot,
    }
    options = replace(options, extra_vars=(*options.extra_vars, json.dumps(chosen)))
    _play("playbooks/lockdown.yml", _limit(bots, options), options)


@app.command()
def unlock(
    bots: p.Bots = None,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Give gateway, controller and agent new tokens first.")
    ] = False,
    snapshot: Annotated[str | None, typer.Option("--snapshot", metavar="ID", help="Restore it first.")] = None,
    sha: Annotated[
        str | None, typer.Option("--sha", metavar="COMMIT", help="Move what is approved to it first.")
    ] = None,
    machine: Annotated[bool, typer.Option("--machine", help="Also end the cut of the whole machine.")] = False,
    inventory: p.Inventory = None,
    extra_vars: p.ExtraVars = None,
    verbose: p.Verbose = 0,
    ask_become_pass: p.AskBecomePass = None,
    vault_password_file: p.VaultPasswordFile = None,
    ask_vault_pass: p.AskVaultPass = False,
) -> None:
    """End a lock: show who, when and why, then bring the bots back."""
    options = p.options(inventory, extra_vars, verbose, ask_become_pass, vault_password_file, ask_vault_pass)
    chosen: dict[str, object] = {"unlock_rotate": rotate, "unlock_scope": "machine" if machine else "bot"}
    chosen |= {name: value for name, value in (("unlock_snapshot", snapshot), ("unlock_sha", sha)) if value}
    options = replace(options, extra_vars=(*options.extra_vars, json.dumps(chosen)))
    _play("playbooks/unlock.yml", _limit(bots, options), options)


@app.command()
def status(
    bots: p.Bots = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")] = False,
    inventory: p.Inventory = None,
    extra_vars: p.ExtraVars = None,
    verbose: p.Verbose = 0,
    ask_become_pass: p.AskBecomePass = None,
    vault_password_file: p.VaultPasswordFile = None,
    ask_vault_pass: p.AskVaultPass = False,
) -> None:
    """Show how bots are; without a name, all of them."""
    options = p.options(inventory, extra_vars, verbose, ask_become_pass, vault_password_file, ask_vault_pass)
    limit = ",".join(bots) if bots else None
    if as_json:
        _print_status_json(limit, options)
    _play("playbooks/status.yml", limit, options)


def _print_status_json(limit: str | None, options: AnsibleOptions) -> NoReturn:
    """Run the status playbook silently and print the file it wrote; what it printed follows on stderr if it failed."""
    with TemporaryDirectory(prefix="clawfactory-status-") as directory:
        result = Path(directory) / "status.json"
        variable = json.dumps({"status_json_file": str(result)})
        options = replace(options, extra_vars=(*options.extra_vars, variable))
        code, output = run(playbook_command("playbooks/status.yml", limit, options), capture=True)
        if code != 0:
            typer.echo(output, err=True, nl=False)
        if result.exists():  # also after a failure: it tells of the bots that answered
            typer.echo(json.dumps(json.loads(result.read_text(encoding="utf-8")), indent=2))
        elif code == 0:
            typer.echo(output, err=True, nl=False)
            _fail(CoreError(f"playbooks/status.yml succeeded but did not write {result}"))
    raise typer.Exit(code)


_audit = typer.Typer(name="audit", help="The hash-chained logs about bots.", no_args_is_help=True)
app.add_typer(_audit)


@_audit.command("verify")
def verify_audit(
    bots: p.Bots = None,
    inventory: p.Inventory = None,
    extra_vars: p.ExtraVars = None,
    verbose: p.Verbose = 0,
    ask_become_pass: p.AskBecomePass = None,
    vault_password_file: p.VaultPasswordFile = None,
    ask_vault_pass: p.AskVaultPass = False,
) -> None:
    """Find lines that were changed, cut or moved, and name them; without a name, in the logs of all bots."""
    options = p.options(inventory, extra_vars, verbose, ask_become_pass, vault_password_file, ask_vault_pass)
    _play("playbooks/verify-audit.yml", ",".join(bots) if bots else None, options)


@app.command()
def remove(
    bots: p.Bots = None,
    purge: Annotated[bool, typer.Option("--purge", help="Delete the bot's data too; needs --yes-delete-data.")] = False,
    yes_delete_data: Annotated[
        bool, typer.Option("--yes-delete-data", help="Confirm --purge: nothing brings the data back.")
    ] = False,
    inventory: p.Inventory = None,
    extra_vars: p.ExtraVars = None,
    verbose: p.Verbose = 0,
    ask_become_pass: p.AskBecomePass = None,
    vault_password_file: p.VaultPasswordFile = None,
    ask_vault_pass: p.AskVaultPass = False,
) -> None:
    """Remove bots from their machines; their data stays unless purged. Bots must be named."""
    if not bots:
        raise typer.BadParameter("name the bots to remove", param_hint="BOT")
    if purge != yes_delete_data:
        raise typer.BadParameter(
            "deleting a bot's data takes both flags: --purge --yes-delete-data", param_hint="--purge"
        )
    if purge and len(bots) != 1:
        raise typer.BadParameter(f"purge one bot at a time, not {', '.join(bots)}", param_hint="BOT")
    options = p.options(inventory, extra_vars, verbose, ask_become_pass, vault_password_file, ask_vault_pass)
    if purge:
        # As JSON: a boolean stays one, and no name can add a variable.
        confirmed = json.dumps({"remove_purge": True, "remove_confirm": bots[0]})
        options = replace(options, extra_vars=(*options.extra_vars, confirmed))
    _play("playbooks/remove.yml", ",".join(bots), options)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def playbook(
    context: typer.Context, name: Annotated[str, typer.Argument(help="Its name, with or without .yml.")]
) -> None:
    """Run playbooks/NAME.yml; everything after the name goes to ansible-playbook as it is."""
    path = f"playbooks/{name.removesuffix('.yml')}.yml"
    if not (REPOSITORY / path).is_file():
        known = ", ".join(sorted(file.stem for file in (REPOSITORY / "playbooks").glob("*.yml")))
        raise typer.BadParameter(f"there is no {path}; known: {known}", param_hint="NAME")
    code, _ = run([str(PROGRAMS / "ansible-playbook"), path, *context.args])
    raise typer.Exit(code)


@app.command("test")
def run_tests(
    stages: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STAGE", help="engine, lint, unit, browser, broker, e2e, images, molecule; default: all."
        ),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Only what needs no container engine: lint and unit.")] = False,
) -> None:
    """Run the project's tests; the last line is 'N passed, N failed, N skipped'."""
    arguments = ["--fast"] if fast else []
    command = [sys.executable, "-P", "-m", "tests.runner", *arguments, *(stages or [])]
    os.chdir(REPOSITORY)
    os.execve(sys.executable, command, environment())  # noqa: S606 - replaced on purpose: signals reach the runner


@app.command()
def version() -> None:
    """Show the versions of ClawFactory, Ansible and Python."""
    from importlib.metadata import version as installed  # slow to import, and needed here only

    typer.echo(f"clawfactory {__version__}")
    typer.echo(f"ansible {installed('ansible')} (core {installed('ansible-core')})")
    typer.echo(f"python {sys.version.split()[0]}")
