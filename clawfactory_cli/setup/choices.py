"""What the wizard asks about providers, channels, keys and the machine; the catalog says what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import typer

from clawfactory_core.bot_plan import BotPlan
from clawfactory_core.catalog import CHANNELS, PROVIDERS, PROVIDERS_BY_NAME, Provider
from clawfactory_core.configuration import parse_bot
from clawfactory_core.errors import InvalidInput

from .asking import ask_numbers, ask_secret, ask_text
from .secrets import SavedSecrets

_MACHINE = re.compile(r"(?:(?P<user>[A-Za-z_][\w.-]*)@)?(?P<host>[A-Za-z0-9][\w.:-]*)")


def ask_machine() -> dict[str, Any]:
    """Where a new bot runs, as variables of its host."""

    def check(answer: str) -> str:
        if answer and not _MACHINE.fullmatch(answer):
            raise InvalidInput(f"{answer!r} is no machine; write user@host, or nothing for this one")
        return answer

    found = _MACHINE.fullmatch(ask_text("Machine, as user@host over SSH; Enter for this one", "", check))
    if found is None:
        return {"ansible_connection": "local"}
    user = {"ansible_user": found["user"]} if found["user"] else {}
    return {"ansible_connection": "ssh", "ansible_host": found["host"], **user}


def ask_providers(bot: str, variables: Mapping[str, Any]) -> BotPlan:
    """Ask for providers and channels until they fit, and put them into ``variables``.

    :param variables: of the bot, changed; what it says of a provider that stays is kept.
    """
    while True:
        providers = _ask_entries(bot, "Model providers", PROVIDERS, variables.get("bot_providers"))
        channels = _ask_channels(variables.get("bot_channels"))
        chosen = {"bot_providers": providers, "bot_channels": channels}
        try:
            plan = parse_bot(bot, {**_plain(variables), **chosen})
        except InvalidInput as error:
            typer.echo(f"  {error}", err=True)
            continue
        for name, value in chosen.items():
            if value or name in variables:
                _replace(variables, name, value)
        return plan


def _replace(variables: Any, name: str, value: list[Any]) -> None:
    """Leave a list alone that is as wanted, with its comments."""
    if _plain(variables.get(name)) != value:
        variables[name] = value


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _named(entries: Any) -> list[tuple[str, Any]]:
    """Entries of a list of names or mappings, each with its name."""
    if not isinstance(entries, list):
        return []
    plain = _plain(entries)
    return [(str(entry.get("name", "")) if isinstance(entry, dict) else str(entry), entry) for entry in plain]


def _ask_entries(bot: str, title: str, rows: tuple[Provider, ...], saved: Any) -> list[Any]:
    known = [(PROVIDERS_BY_NAME[name].name, entry) for name, entry in _named(saved) if name in PROVIDERS_BY_NAME]
    names = [row.name for row in rows]
    chosen = list(dict.fromkeys(names.index(name) for name, _ in known))
    found: list[Any] = []
    for index in ask_numbers(title, [row.title for row in rows], chosen):
        kept = [entry for name, entry in known if name == rows[index].name]
        found += kept or [_ask_provider(rows[index])]
    return found


def _ask_provider(row: Provider) -> Any:
    entry: dict[str, str] = {}
    if not row.hosts:
        address = ask_text(f"Address of {row.title}", row.base_url)
        entry |= {"base_url": address} if address != row.base_url else {}
    model = ask_text(f"Model of {row.title}", row.default_model)
    entry |= {"model": model} if model != row.default_model else {}
    if row.repeatable:
        variable = ask_text("Name of the variable with its key, in capitals; Enter if it needs none")
        entry |= {"api_key_env": variable} if variable else {}
    return {"name": row.name, **entry} if entry else row.name


def _ask_channels(saved: Any) -> list[Any]:
    names = [row.name for row in CHANNELS]
    known = dict(_named(saved))
    chosen = [names.index(name) for name in known if name in names]
    titles = [row.title for row in CHANNELS]
    return [known.get(names[index], names[index]) for index in ask_numbers("Chat channels", titles, chosen)]


def ask_keys(plan: BotPlan, secrets: SavedSecrets) -> None:
    """Ask for each key that the bot's providers and channels need."""
    for key in plan.keys:
        source = f", from {key.key_url}" if key.key_url else ""
        value = ask_secret(f"{key.env}: {key.title} for {key.wanted_by}{source}", is_kept=key.env in secrets)
        if value:
            secrets.put(key.env, value)
        elif key.required and key.env not in secrets:
            typer.echo(f"  without {key.env} the bot is not brought up; run init again, or put it into the vault")
