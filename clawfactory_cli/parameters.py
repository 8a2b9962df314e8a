"""Arguments and options that commands share, and the decorator that gives a command all of them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from clawfactory_core.errors import CoreError

from .ansible import EXIT_ERROR, AnsibleOptions, list_bots

#: A value of -i that is no bot's name but an inventory, as with Ansible's own -i: a path, a file, a host list.
_INVENTORY = re.compile(r"[/.,]")


def complete_bot(incomplete: str) -> list[str]:
    """Bots of the inventory whose names begin so; none where it cannot be read: a shell has no place for errors."""
    try:
        return [bot for bot in list_bots(AnsibleOptions(), quiet=True) if bot.startswith(incomplete)]
    except CoreError:
        return []


BOTS = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="BOT",
        help="Bots or host patterns ('all' for every bot). May be left out where there is a default or only one.",
        autocompletion=complete_bot,
        show_default=False,
    ),
]
_INSTANCES = Annotated[
    list[str] | None,
    typer.Option(
        "--instance",
        "-i",
        metavar="BOT",
        help="Bot that is meant, the same as BOT. May be repeated. With '/', '.' or ',' in it: an inventory.",
        autocompletion=complete_bot,
    ),
]
KEY_FILE = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        metavar="PATH",
        exists=True,
        dir_okay=False,
        help="Private key here, where none is on the machine.",
    ),
]
EACH_MACHINE = Annotated[
    bool,
    typer.Option(
        "--each-machine", help="A run for each machine, all at the same time: a slow one keeps nobody waiting."
    ),
]
SHARED: dict[str, tuple[Any, Any]] = {
    "instances": (_INSTANCES, None),
    "inventory": (
        Annotated[
            list[str] | None,
            typer.Option("--inventory", metavar="PATH", help="Inventory; default: inventory/. May be repeated."),
        ],
        None,
    ),
    "extra_vars": (
        Annotated[
            list[str] | None,
            typer.Option(
                "--extra-vars", "-e", metavar="KEY=VALUE|@FILE", help="Variables for this run. May be repeated."
            ),
        ],
        None,
    ),
    "verbose": (
        Annotated[int, typer.Option("--verbose", "-v", count=True, help="Let Ansible say more. May be repeated.")],
        0,
    ),
    "ask_become_pass": (
        Annotated[
            bool | None,
            typer.Option(
                "--ask-become-pass/--no-ask-become-pass",
                "-K",
                help="Ask for the sudo password; default: when sudo needs one here and there is a terminal.",
                show_default=False,
            ),
        ],
        None,
    ),
    "vault_password_file": (
        Annotated[str | None, typer.Option(metavar="PATH", help="File with the password of the inventory's vault.")],
        None,
    ),
    "ask_vault_pass": (
        Annotated[bool, typer.Option("--ask-vault-pass", "-J", help="Ask for the password of the inventory's vault.")],
        False,
    ),
    "as_json": (Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")], False),
}
_DRY: dict[str, tuple[Any, Any]] = {
    "check": (Annotated[bool, typer.Option("--check", "-C", help="Change nothing; say what would change.")], False),
    "diff": (Annotated[bool, typer.Option("--diff", "-D", help="Show what changes in files.")], False),
}


@dataclass(frozen=True)
class Call:
    """What one call of a command was given.

    :param named: bots or host patterns that were named, by argument or by ``--instance``.
    :param as_json: print one JSON document instead of what is for people.
    """

    named: tuple[str, ...]
    options: AnsibleOptions
    as_json: bool = False

    def with_vars(self, **variables: object) -> Call:
        """The same with variables for the playbook; as JSON, so that no value can add another one."""
        import json

        given = {name: value for name, value in variables.items() if value is not None and value != ""}
        if not given:
            return self
        added = replace(self.options, extra_vars=(*self.options.extra_vars, json.dumps(given)))
        return replace(self, options=added)


def shared(
    *, bots: bool = True, dry: bool = False, json: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command, a function of a :class:`Call` and its own parameters, the options that all have.

    :param bots: whether it takes bots as arguments.
    :param dry: whether it can be asked what it would change.
    :param json: whether what it shows can be JSON.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        table = {**({"bots": (BOTS, None)} if bots else {}), **(_DRY if dry else {}), **SHARED}
        if not json:
            del table["as_json"]
        others = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, (annotation, default) in table.items()
        ]

        def command(*, context: typer.Context, **values: Any) -> None:
            mine = {parameter.name: values.pop(parameter.name) for parameter in own}
            function(_call(context, values), **mine)

        first = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        # Arguments come in this order: the command's own, then the bots.
        parameters = [first, *keyword, *others]
        command.__doc__ = function.__doc__
        command.__name__ = function.__name__
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return command

    return decorate


def _call(context: typer.Context, values: dict[str, Any]) -> Call:
    instances = [*(context.obj or ()), *(values["instances"] or ())]
    inventory = [*(values["inventory"] or ()), *(value for value in instances if _INVENTORY.search(value))]
    named = [*(values.get("bots") or ()), *(value for value in instances if not _INVENTORY.search(value))]
    options = AnsibleOptions(
        inventory=tuple(inventory),
        extra_vars=tuple(values["extra_vars"] or ()),
        verbosity=values["verbose"],
        ask_become_pass=values["ask_become_pass"],
        vault_password_file=values["vault_password_file"],
        ask_vault_pass=values["ask_vault_pass"],
        check=values.get("check", False),
        diff=values.get("diff", False),
    )
    return Call(tuple(dict.fromkeys(named)), options, values.get("as_json", False))


def absolute(path: Path | None) -> str | None:
    """A path of the operator's directory for Ansible, which runs in the repository."""
    return None if path is None else str(path.expanduser().absolute())


def fail(error: Exception, code: int = EXIT_ERROR) -> NoReturn:
    """End the command with a message."""
    typer.echo(f"clawfactory: {error}", err=True)
    raise typer.Exit(code)
