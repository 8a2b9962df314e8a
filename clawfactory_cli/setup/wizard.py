"""The command ``init``: the questions in order, and what is written when they are answered."""

from __future__ import annotations

import json
import os
import secrets as randomness
import shlex
from pathlib import Path
from typing import Any

import typer
from ansible.parsing.vault import VaultLib

from clawfactory_core.errors import InvalidInput
from clawfactory_core.names import check_bot_name

from .. import settings
from ..ansible import EXIT_ERROR, EXIT_OK, AnsibleOptions, list_bots
from .asking import ask_text
from .choices import ask_keys, ask_machine, ask_providers
from .documents import Document, password_in, vault_of
from .embeddings import ask_embeddings, overrides_elsewhere
from .remote import ask_remote, make
from .secrets import SavedSecrets


def run(inventory: Path, bot: str | None, options: AnsibleOptions, api: str | None) -> int:
    """Ask everything, write inventory and vault, and make at GitHub what is wanted there.

    :param inventory: directory of the inventory, or its file of hosts.
    :param api: address of GitHub's API; None: the one that the bot has.
    :returns: exit code.
    :raises CoreError: something that is there already cannot be used; nothing was written.
    """
    hosts = inventory if inventory.suffix in (".yml", ".yaml") else inventory / "hosts.yml"
    known = list_bots(options) if inventory.exists() else []
    name = check_bot_name(bot) if bot else ask_text("Name of the bot", _suggested(known), check_bot_name)
    directory = hosts.parent / "host_vars" / name
    inventory_file = Document(hosts)
    if name in known:
        typer.echo(f"{name} is in the inventory already; its machine stays")
    else:
        _add_host(inventory_file.data, name, ask_machine())
    main = Document(directory / "main.yml")
    vault, new_password = _open_vault(directory / "vault.yml", options)
    closed = Document(directory / "vault.yml", vault)
    saved = SavedSecrets(name, main.data, closed.data)
    plan = ask_providers(name, main.data)
    ask_embeddings(plan, main.data, overrides_elsewhere(hosts, name))
    ask_keys(plan, saved)
    api = api or str(main.data.get("controller_github_api_url") or settings.GITHUB_API)
    wanted = ask_remote(name, main.data, saved, api)
    if new_password:
        settings.write_private(settings.vault_password_file(), f"{new_password}\n")
    _save(closed, main, inventory_file)
    settings.remember_bot(name)
    problems = make(name, wanted, main.data, saved, _pinned_version()) if wanted else []
    _save(main)
    for problem in problems:
        typer.echo(f"clawfactory: {problem}", err=True)
    elsewhere = "" if inventory == settings.REPOSITORY / "inventory" else f" --inventory {shlex.quote(str(inventory))}"
    typer.echo(f"{name} is the default now; bring it up: ./clawfactory up {name}{elsewhere}")
    return EXIT_ERROR if problems else EXIT_OK


def _suggested(known: list[str]) -> str:
    chosen = settings.default_bot()
    return chosen if chosen in known else known[0] if known else "bot1"


def _add_host(data: Any, bot: str, variables: dict[str, Any]) -> None:
    for name in ("bots", "hosts"):
        if data.get(name) is None:
            data[name] = {}
        data = data[name]
        if not isinstance(data, dict):
            raise InvalidInput(f"'{name}' of the inventory's group 'bots' is no mapping; correct it first")
    data[bot] = variables


def _open_vault(path: Path, options: AnsibleOptions) -> tuple[VaultLib, str]:
    """What opens the bot's vault, and the password to keep if a new one is made."""
    file = options.password_file() or os.environ.get("ANSIBLE_VAULT_PASSWORD_FILE")
    if file:
        return vault_of(password_in(file)), ""
    if path.exists():
        typed = typer.prompt("Password of the vault", hide_input=True)
        return vault_of(str(typed).encode()), ""
    kept = settings.vault_password_file()
    typed = typer.prompt(
        f"New password of the vault (Enter makes one and keeps it in {kept})",
        default="",
        show_default=False,
        hide_input=True,
    )
    if not typed:
        made = randomness.token_hex(32)
        return vault_of(made.encode()), made
    if typer.prompt("The same again", hide_input=True) != typed:
        raise InvalidInput("the passwords of the vault differ; nothing was written")
    return vault_of(str(typed).encode()), ""


def _save(*documents: Document) -> None:
    for document in documents:
        if document.save():
            typer.echo(f"wrote {document.path}")


def _pinned_version() -> str:
    package = settings.REPOSITORY / "roles/gateway/files/image/package.json"
    return str(json.loads(package.read_text(encoding="utf-8"))["dependencies"]["openclaw"])
