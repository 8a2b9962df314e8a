"""What commands print: tables and colours on a terminal, plain columns elsewhere, JSON where it was asked for."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer

#: Of a bot's state, in the words of ``clawfactory_core.status``.
COLOURS = {
    "healthy": "green", "starting": "yellow", "stopped": "yellow", "absent": "dim", "locked": "bold red", "down": "red",
    "unhealthy": "red", "unknown": "bold red", "failed": "red", "unreachable": "bold red", "ok": "green",
}  # fmt: skip


def is_rich() -> bool:
    """Whether standard output takes colours."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def show_json(value: Any) -> None:
    """Print one JSON document."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def show_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows below the names of their columns; a state has its colour on a terminal."""
    cells = [[_one_line(row.get(column, "")) for column in columns] for row in rows]
    if is_rich():
        from rich.console import Console  # slow to import
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, header_style="bold", box=None, pad_edge=False)
        for line in cells:
            table.add_row(*(Text(cell, style=COLOURS.get(cell, ""), overflow="fold") for cell in line))
        Console().print(table)
        return
    lines = [list(columns), *cells]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def show_facts(facts: Mapping[str, Any]) -> None:
    """Print names and values, one a line."""
    width = max(map(len, facts))
    for name, value in facts.items():
        label = name.ljust(width)
        typer.echo(f"{typer.style(label, bold=True) if is_rich() else label}  {_one_line(value)}".rstrip())


def _one_line(value: Any) -> str:
    """A value as text that cannot move the cursor: what bots write ends up here."""
    return "".join(character if character.isprintable() else "�" for character in str(value))
