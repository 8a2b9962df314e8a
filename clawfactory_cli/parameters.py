"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from .ansible import AnsibleOptions, list_bots


def _complete_bot(incomplete: str) -> list[str]:
    return [bot for bot in list_bots(AnsibleOptions()) if bot.startswith(incomplete)]


Bots = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="BOT",
        help="Bots or host patterns ('all' for every bot). May be left out where the inventory has one bot.",
        autocompletion=_complete_bot,
        show_default=False,
    ),
]
Inventory = Annotated[
    list[str] | None,
    typer.Option("--inventory", "-i", metavar="PATH", help="Inventory; default: inventory/. May be repeated."),
]
ExtraVars = Annotated[
    list[str] | None,
    typer.Option("--extra-vars", "-e", metavar="KEY=VALUE|@FILE", help="Variables for this run. May be repeated."),
]
Verbose = Annotated[int, typer.Option("--verbose", "-v", count=True, help="Let Ansible say more. May be repeated.")]
AskBecomePass = Annotated[
    bool | None,
    typer.Option(
        "--ask-become-pass/--no-ask-become-pass",
        "-K",
        help="Ask for the sudo password; default: when sudo needs one here and there is a terminal.",
        show_default=False,
    ),
]
VaultPasswordFile = Annotated[
    str | None, typer.Option(metavar="PATH", help="File with the password of the inventory's vault.")
]
AskVaultPass = Annotated[
    bool, typer.Option("--ask-vault-pass", "-J", help="Ask for the password of the inventory's vault.")
]
Check = Annotated[bool, typer.Option("--check", "-C", help="Change nothing; say what would change.")]
Diff = Annotated[bool, typer.Option("--diff", "-D", help="Show what changes in files.")]


def options(
    inventory: list[str] | None,
    extra_vars: list[str] | None,
    verbose: int,
    ask_become_pass: bool | None,
    vault_password_file: str | None,
    ask_vault_pass: bool,
    *,
    check: bool = False,
    diff: bool = False,
) -> AnsibleOptions:
    """The parsed options of a command as one value."""
    return AnsibleOptions(
        inventory=tuple(inventory or ()),
        extra_vars=tuple(extra_vars or ()),
        verbosity=verbose,
        ask_become_pass=ask_become_pass,
        vault_password_file=vault_password_file,
        ask_vault_pass=ask_vault_pass,
        check=check,
        diff=diff,
    )
