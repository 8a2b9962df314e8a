"""What the wizard asks about the bot's memory: who makes the embeddings by which OpenClaw searches it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from clawfactory_core.bot_plan import BotPlan
from clawfactory_core.errors import InvalidInput

from .asking import ask_one

#: OpenClaw's word for a search by words alone, and what it takes where nothing is said.
_NONE, _DEFAULT = "none", "openai"
_PATH = ("gateway_config", "memory", "search")
_OVERRIDES = re.compile(r"""^\s*["']?gateway_config["']?\s*:""", re.MULTILINE)


def ask_embeddings(plan: BotPlan, variables: Any, elsewhere: Path | None) -> None:
    """Ask for one of the bot's providers that make embeddings, and put it into ``gateway_config`` of ``variables``.

    Nothing is written where the answer is what holds already.

    :param elsewhere: another file of the inventory with a ``gateway_config`` that may be this bot's; None: no such.
    :raises InvalidInput: ``gateway_config`` has no mapping where these settings belong.
    """
    search = _search(variables)
    saved = str(search.get("provider") or "")
    makers = {each.row.embeddings: each.row.title for each in plan.providers if each.row.embeddings}
    held = saved or (_DEFAULT if _DEFAULT in makers else _NONE)
    if held not in (_NONE, *makers):
        makers[held] = f"{held}, as gateway_config says"
    if not makers or search.get("enabled") is False:
        return
    if elsewhere is not None and _PATH[0] not in variables:
        # One beside the machine's other variables would take the place of that one as a whole.
        typer.echo(f"\n{elsewhere} has a gateway_config: choose embeddings there, with memory.search.provider")
        return
    answers = [_NONE, *makers]
    titles = ["none, it finds words only", *makers.values()]
    answer = answers[ask_one("Embeddings for the search in its memory", titles, answers.index(held))]
    if answer != held:
        _put(variables, answer)


def overrides_elsewhere(hosts: Path, bot: str) -> Path | None:
    """A file of the inventory, besides the bot's ``main.yml``, that sets ``gateway_config``; vaults are not opened.

    :param hosts: the inventory's file of hosts; groups and hosts have their variables beside it.
    """
    own = hosts.parent / "host_vars" / bot
    files = [hosts, *(hosts.parent / "group_vars").rglob("*"), *own.parent.glob(f"{bot}.*"), *own.rglob("*")]
    for file in sorted(files):
        if file != own / "main.yml" and file.is_file() and _OVERRIDES.search(file.read_text(errors="replace")):
            return file
    return None


def _search(variables: Any) -> Mapping[str, Any]:
    found = variables
    for name in _PATH:
        found = found.get(name)
        if found is None:
            return {}
        if not isinstance(found, Mapping):
            raise InvalidInput(f"'{name}' of gateway_config is no mapping; correct it first")
    return dict(found)


def _put(variables: Any, provider: str) -> None:
    search = variables
    for name in _PATH:
        if search.get(name) is None:
            search[name] = {}
        search = search[name]
    search["provider"] = provider
    # It is one of the provider before.
    search.pop("model", None)
    if "remote" in search:
        typer.echo("  memory.search.remote of gateway_config stays; see whether it fits the new provider")
