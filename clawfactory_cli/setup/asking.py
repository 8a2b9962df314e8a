"""Questions at a terminal; each is asked again until its answer can be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import typer

from clawfactory_core.errors import InvalidInput

T = TypeVar("T")


def ask(question: str, default: str = "", check: Callable[[str], T] | None = None) -> T | str:
    """A line of text; Enter takes the default.

    :param check: returns what is meant, or raises :class:`InvalidInput` with the reason why not.
    """
    while True:
        answer = typer.prompt(question, default=default, show_default=bool(default)).strip()
        if check is None:
            return str(answer)
        try:
            return check(answer)
        except InvalidInput as error:
            typer.echo(f"  {error}", err=True)


def ask_text(question: str, default: str = "", check: Callable[[str], str] | None = None) -> str:
    """As :func:`ask`, of text."""
    return str(ask(question, default, check))


def ask_secret(question: str, *, is_kept: bool = False) -> str:
    """A secret, typed unseen; empty keeps what is saved, or leaves it out."""
    hint = "Enter keeps the saved one" if is_kept else "Enter leaves it out"
    return str(typer.prompt(f"{question} ({hint})", default="", show_default=False, hide_input=True)).strip()


def ask_numbers(title: str, choices: Sequence[str], chosen: Sequence[int]) -> list[int]:
    """Several of a list, by their numbers, in the order they were typed.

    :param chosen: indices that are taken by Enter.
    :returns: indices.
    """
    typer.echo(f"\n{title}:")
    for number, choice in enumerate(choices, start=1):
        typer.echo(f"  {number}  {choice}")
    default = ",".join(str(index + 1) for index in chosen) or "0"

    def check(answer: str) -> list[int]:
        words = answer.replace(",", " ").split()
        if words == ["0"]:
            return []
        wrong = [word for word in words if not word.isdecimal() or not 1 <= int(word) <= len(choices)]
        if wrong or not words:
            raise InvalidInput(
                f"{wrong[0] if wrong else 'nothing'!r} is none of 1 to {len(choices)}; 0 is none of them"
            )
        return list(dict.fromkeys(int(word) - 1 for word in words))

    found = ask("Numbers, the first counts most; 0 for none", default, check)
    return found if isinstance(found, list) else []


def ask_one(title: str, choices: Sequence[str], chosen: int = 0) -> int:
    """One of a list, by its number: its index."""
    typer.echo(f"\n{title}:")
    for number, choice in enumerate(choices, start=1):
        typer.echo(f"  {number}  {choice}")

    def check(answer: str) -> str:
        if not answer.isdecimal() or not 1 <= int(answer) <= len(choices):
            raise InvalidInput(f"{answer!r} is none of 1 to {len(choices)}")
        return answer

    return int(ask_text("Number", str(chosen + 1), check)) - 1
