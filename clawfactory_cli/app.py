"""The command line as a whole. What happens on the machines is in the playbooks."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from clawfactory_core import __version__

from . import containers, development, initializing, lifecycle, showing, snapshots
from .parameters import complete_bot

EXIT_CODES = """\
Exit codes: 0 done; 1 Ansible or clawfactory itself could not work; 2 wrong usage; 3 a bot failed;
4 a machine could not be reached (or Ansible could not read a file); 5 both 3 and 4;
69 the Python environment could not be made; 130 interrupted.
"""

app = typer.Typer(
    name="clawfactory",
    help="Deploys and guards OpenClaw bots. Nearly every command runs a playbook of this repository.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if sys.stdout.isatty() and sys.stderr.isatty() else None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: Commands that -i would mean nothing to.
_OF_NO_BOT = ("init", "playbook", "test", "version")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clawfactory {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    instances: Annotated[
        list[str] | None,
        typer.Option(
            "--instance", "-i", metavar="BOT", help="Bot that is meant; the same after the command.",
            autocompletion=complete_bot,
        ),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:  # fmt: skip
    """Deploys and guards OpenClaw bots. Nearly every command runs a playbook of this repository."""
    if instances and context.invoked_subcommand in _OF_NO_BOT:
        raise typer.BadParameter(f"'{context.invoked_subcommand}' takes no bot this way", param_hint="-i")
    context.obj = instances


for part in (initializing.app, lifecycle.app, showing.app, containers.app, development.app):
    app.add_typer(part)
app.add_typer(snapshots.app)
