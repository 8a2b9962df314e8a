"""The command ``init``; what it asks is in ``setup``, whose libraries are loaded only for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clawfactory_core.errors import CoreError

from .ansible import EXIT_INTERRUPTED, REPOSITORY, AnsibleOptions, on_terminal
from .parameters import complete_bot, fail

app = typer.Typer()


@app.command()
def init(
    bot: Annotated[
        str | None,
        typer.Argument(metavar="BOT", help="Name of the bot; asked for if left out.", autocompletion=complete_bot),
    ] = None,
    inventory: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Directory of the inventory, or its hosts.yml; default: inventory/."),
    ] = None,
    vault_password_file: Annotated[
        str | None, typer.Option(metavar="PATH", help="File with the password of the inventory's vault.")
    ] = None,
    github_api: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="API of a GitHub of your own; default: the one the bot has, else GitHub's.",
            envvar="GITHUB_API_URL",
        ),
    ] = None,
) -> None:
    """Ask what a bot needs and write inventory and vault; run it again to change answers, Enter keeps them."""
    if not on_terminal():
        fail(
            CoreError("init asks questions, so it needs a terminal; without one write the inventory (docs/README.md)"),
            2,
        )
    from .setup import wizard  # Ansible's vault, httpx and ruamel.yaml are slow to import

    place = (inventory or REPOSITORY / "inventory").expanduser().absolute()
    options = AnsibleOptions(inventory=(str(place),), vault_password_file=vault_password_file)
    try:
        raise typer.Exit(wizard.run(place, bot, options, github_api))
    except (CoreError, OSError) as error:
        fail(error)
    except (typer.Abort, KeyboardInterrupt):
        fail(CoreError("interrupted; run init again, what was written is kept"), EXIT_INTERRUPTED)
