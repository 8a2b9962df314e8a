"""The secrets of a bot in its inventory, in the two ways that people write them."""

from __future__ import annotations

from typing import Any

from clawfactory_core.names import env_prefix


class SavedSecrets:
    """``secrets_env`` of a bot.

    :param main: its plain variables; a ``secrets_env`` there refers to variables of the vault.
    :param vault: its encrypted variables, where ``secrets_env`` is otherwise.
    """

    def __init__(self, bot: str, main: Any, vault: Any) -> None:
        self._prefix = f"vault_{env_prefix(bot).lower()}"
        self._main = main
        self._vault = vault

    def __contains__(self, name: str) -> bool:
        return name in (self._main.get("secrets_env") or {}) or name in (self._vault.get("secrets_env") or {})

    def put(self, name: str, value: str) -> None:
        """Set a secret; with a ``secrets_env`` of the plain variables it would be lost in the vault's."""
        if "secrets_env" not in self._main:
            self._vault.setdefault("secrets_env", {})[name] = value
            return
        variable = f"{self._prefix}{name.lower()}"
        self._main["secrets_env"] = {**(self._main["secrets_env"] or {}), name: "{{ " + variable + " }}"}
        self._vault[variable] = value

    def get(self, name: str) -> str:
        """A secret that lies in the vault; empty where it does not."""
        referred = f"{self._prefix}{name.lower()}"
        return str((self._vault.get("secrets_env") or {}).get(name) or self._vault.get(referred) or "")
