#!/usr/bin/env python3
"""Writes docs/commands.md, docs/variables.md and the list of pages in docs/README.md from what they describe.

Usage: .venv/bin/python docs/generate.py
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "module_utils")]

from typer.main import get_command  # noqa: E402 - found by the path above

from clawfactory_cli.app import EXIT_CODES, app  # noqa: E402 - found by the path above
from clawfactory_cli.parameters import SHARED  # noqa: E402 - found by the path above

MADE = "<!-- Made by docs/generate.py; change what it reads, and run it again. -->"
COMMANDS_INTRO = f"""\
# Commands

{MADE}

What `./clawfactory` can do. On its first run it makes its Python environment, and then hands over to the command line.
Nearly every command runs a playbook, which works with `ansible-playbook` alone just as well.

A bot is named as BOT or with `-i BOT`, before or after the command. Where none is named, the default one is meant
(`./clawfactory use BOT`, `./clawfactory init`), else the only one.

On a terminal there are tables with colours, elsewhere plain columns (with `NO_COLOR` everywhere), and with `--json` one
document.
`./clawfactory --install-completion` has your shell complete commands, options and the bots of the inventory.
"""
JSON = """\
With `--json`, a command that runs a playbook prints for each bot `state` (`ok`, `failed`, `unreachable`), `changed`,
`message`, and where there is one its `result`.
"""
VARIABLES_INTRO = f"""\
# Variables

{MADE}

What can be set in the inventory, for a bot, a machine or a group. Variables of a role begin with its name, those of a
bot as a whole with `bot_`, those of a machine with `clawfactory_`. Secrets belong into a vault.
"""
PAGES_BEGIN, PAGES_END = "<!-- pages: made by docs/generate.py -->", "<!-- end of pages -->"


def commands() -> str:
    """``docs/commands.md``: every command with its own options, and once those that most of them have."""
    group: Any = get_command(app)
    shared = {parameter.name: parameter for parameter in group.commands["status"].params if parameter.name in SHARED}
    before = [parameter for parameter in group.params if parameter.name != "help"]
    lines = [
        *COMMANDS_INTRO.splitlines(),
        *("", "## Exit codes", "", *exit_codes()),
        *("", "## Before the command", "", *table(before)),
        *("", "## Shared options", "", *table(shared.values()), "", *JSON.splitlines()),
    ]
    for name, command in sorted(walk(group)):
        takes_shared = any(each.name == "instances" for each in command.params)
        elsewhere = {"help", "bots", *(SHARED if takes_shared else ())}
        own = [each for each in command.params if each.name not in elsewhere]
        bots = " [BOT]…" if any(each.name == "bots" for each in command.params) else ""
        arguments = "".join(f" {argument(each)}" for each in own if each.param_type_name == "argument")
        lines += [
            "",
            f"## {name}",
            "",
            f"`./clawfactory {name}{arguments}{bots}`",
            "",
            inspect.cleandoc(command.help or ""),
        ]
        if own:
            lines += ["", *table(own)]
        if takes_shared:
            but = "" if any(each.name == "as_json" for each in command.params) else ", but `--json`"
            lines += ["", f"Also: the [shared options](#shared-options){but}."]
    return "\n".join(lines) + "\n"


def exit_codes() -> list[str]:
    """The table of exit codes, from the text that ``--help`` shows."""
    codes = re.findall(r"(\d+) ([^;.]+(?:\([^)]*\))?)[;.]", EXIT_CODES.replace("\n", " "))
    return ["| code | meaning |", "|---|---|", *(f"| {code} | {meaning.strip()} |" for code, meaning in codes)]


def walk(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every command below ``group`` with its full name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from walk(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def argument(parameter: Any) -> str:
    """An argument as it stands in a usage line."""
    shown = parameter.metavar or parameter.name.upper()
    return f"{shown}" if parameter.required else f"[{shown}]"


def table(parameters: Any) -> list[str]:
    """Rows of arguments and options."""
    rows = ["| | |", "|---|---|"]
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            names = f"`{parameter.metavar or parameter.name.upper()}`"
        else:
            names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
            if not (parameter.is_flag or parameter.count):
                names += f" `{parameter.metavar or 'VALUE'}`"
        rows.append(f"| {cell(names)} | {cell(parameter.help or '')} |")
    return rows


def variables() -> str:
    """``docs/variables.md``: every variable of every role, and what playbooks take with ``-e``."""
    lines = VARIABLES_INTRO.splitlines()
    for role in sorted(path.parent.parent for path in ROOT.glob("roles/*/meta/argument_specs.yml")):
        specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
        defaults = yaml.safe_load((role / "defaults/main.yml").read_text(encoding="utf-8"))
        lines += [
            "",
            f"## Role {role.name}",
            "",
            f"{one_line(specs['main']['short_description'])}. [README](../roles/{role.name}/README.md)",
        ]
        options = {name: option for spec in specs.values() for name, option in spec.get("options", {}).items()}
        lines += ["", "| variable | type | default | meaning |", "|---|---|---|---|"]
        lines += [row(name, option, defaults) for name, option in options.items()]
    lines += ["", "## Variables of playbooks", "", "Given for one run, with `-e NAME=VALUE` or `-e '{…}'`."]
    for playbook in sorted(ROOT.glob("playbooks/*.yml")):
        told = [line.removeprefix("#").strip() for line in head(playbook) if " -e " in line]
        if told:
            lines += ["", f"### {playbook.stem}", "", "```text", *told, "```"]
    return "\n".join(lines) + "\n"


def head(playbook: Path) -> list[str]:
    """The comment that a playbook begins with."""
    lines = playbook.read_text(encoding="utf-8").splitlines()[1:]
    return lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))]


def row(name: str, option: dict[str, Any], defaults: dict[str, Any]) -> str:
    """A variable's row; what entries of a list may have is told with its meaning."""
    kind = option.get("type", "str") + (f" of {option['elements']}" if "elements" in option else "")
    meaning = one_line(option.get("description", ""))
    if "choices" in option:
        meaning += f" One of {', '.join(f'`{choice}`' for choice in option['choices'])}."
    for inner, each in (option.get("options") or {}).items():
        meaning += f" `{inner}`: {one_line(each.get('description', ''))}"
    default = defaults.get(name, option.get("default"))
    shown = (
        ""
        if default is None
        else f"`{default if isinstance(default, str) else flow(default)}`"
        if default != ""
        else "empty"
    )
    return f"| `{name}` | {kind} | {cell(shown)} | {cell(meaning)} |"


def flow(value: Any) -> str:
    """A value as it is written in YAML, on one line."""
    return str(yaml.safe_dump(value, default_flow_style=True, width=10**6)).removesuffix("...\n").strip()


def one_line(text: Any) -> str:
    """A description of argument specs as Markdown."""
    joined = " ".join(text) if isinstance(text, list) else str(text)
    return " ".join(re.sub(r"\b[CVOI]\(([^)]*)\)", r"`\1`", joined).split())


def cell(text: str) -> str:
    """Text that cannot end a table's cell."""
    return " ".join(text.split()).replace("|", "\\|")


def pages(readme: str, made: Mapping[Path, str]) -> str:
    """``docs/README.md`` with the list of the pages beside it, each with its first sentence.

    :param made: pages as they are going to be.
    """
    rows = ["| page | what it is about |", "|---|---|"]
    for page in sorted(ROOT.glob("docs/*.md")):
        if page.name == "README.md":
            continue
        text = made.get(page) or page.read_text(encoding="utf-8")
        title = re.search(r"^# (.+)$", text, re.MULTILINE)
        prose = [
            part for part in text.split("\n\n")[1:] if part.strip() and not part.startswith(("#", "<!--", "-", "|"))
        ]
        sentence = re.match(r".*?[.:](?=\s|$)", " ".join(prose[0].split())) if prose else None
        told = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", sentence[0].rstrip(":")) if sentence else ""
        rows.append(f"| [{title[1] if title else page.stem}]({page.name}) | {cell(told)} |")
    begin, _, rest = readme.partition(PAGES_BEGIN)
    _, _, end = rest.partition(PAGES_END)
    return "\n".join([f"{begin}{PAGES_BEGIN}", "", *rows, "", f"{PAGES_END}{end}"])


def generated() -> dict[Path, str]:
    """Every file that is made, with what has to be in it."""
    readme = ROOT / "docs/README.md"
    made = {ROOT / "docs/commands.md": commands(), ROOT / "docs/variables.md": variables()}
    return {**made, readme: pages(readme.read_text(encoding="utf-8"), made)}


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")
