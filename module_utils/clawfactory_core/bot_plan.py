"""What a bot's inventory variables amount to, and how a wrong one is refused."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .catalog import Provider
from .endpoints import Endpoint
from .errors import InvalidInput


@dataclass(frozen=True)
class NeededKey:
    """An environment variable a bot's configuration refers to.

    :param wanted_by: what needs it, for example ``provider anthropic``.
    :param title: what it is.
    :param key_url: where it comes from; empty if only the operator knows.
    """

    env: str
    wanted_by: str
    title: str
    key_url: str = ""
    required: bool = True


@dataclass(frozen=True)
class ProviderPlan:
    """A model provider of a bot.

    :param id: id in OpenClaw's configuration, the part before the slash of a model reference.
    :param model: full reference of the model to use by default, empty if there is none.
    :param settings: entry for ``models.providers``; empty for a provider that OpenClaw needs no entry for.
    """

    id: str
    row: Provider
    model: str
    settings: Mapping[str, Any]
    key: NeededKey | None
    endpoint: Endpoint | None
    hosts: tuple[str, ...]


@dataclass(frozen=True)
class BotPlan:
    """Everything that follows from a bot's variables; see :func:`parse_bot`.

    :param egress_hosts: allow-list for ports 80 and 443, a leading dot takes in subdomains; no entry covers another.
    :param endpoints: further hosts with their ports, each an explicit exception.
    :param channels: channel name to its OpenClaw settings, without keys and proxy.
    :param overrides: the operator's free settings, checked.
    """

    bot: str
    providers: tuple[ProviderPlan, ...]
    channels: Mapping[str, Mapping[str, Any]]
    egress_mode: str
    egress_hosts: tuple[str, ...]
    endpoints: tuple[Endpoint, ...]
    keys: tuple[NeededKey, ...]
    default_model: str
    overrides: Mapping[str, Any]

    @property
    def host_ports(self) -> tuple[int, ...]:
        """TCP ports of the machine itself that the bot's egress has to reach."""
        return tuple(sorted({endpoint.port for endpoint in self.endpoints if endpoint.kind == "machine"}))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for playbooks; holds names and addresses, never a secret."""
        required = {key.env: key.wanted_by for key in self.keys if key.required}
        return {
            "bot": self.bot,
            "providers": [plan.id for plan in self.providers],
            "channels": sorted(self.channels),
            "default_model": self.default_model,
            "egress_mode": self.egress_mode,
            "egress_hosts": list(self.egress_hosts),
            "endpoints": [asdict(endpoint) for endpoint in self.endpoints],
            "egress_endpoints": [
                {"host": endpoint.host, "port": endpoint.port, "private": endpoint.kind != "public"}
                for endpoint in self.endpoints
            ],
            "host_ports": list(self.host_ports),
            "required_env": required,
            "optional_env": {key.env: key.wanted_by for key in self.keys if not key.required},
            "used_env": [key.env for key in self.keys],
        }


@dataclass(frozen=True)
class Reader:
    """One variable of one bot, so that every refusal names both."""

    bot: str
    variable: str
    known: tuple[str, ...] = field(default=())

    def refuse(self, value: object, why: str) -> InvalidInput:
        """Error that names bot, variable, value, and why; never pass a value that may be a secret."""
        shown = value if isinstance(value, str) else json.dumps(value, default=str, sort_keys=True)
        return InvalidInput(f"bot '{self.bot}': {self.variable}: {str(shown)[:120]!r}: {why}")

    def unknown(self, value: object) -> InvalidInput:
        """Error for a name that is not one of the known ones; lists them."""
        near = difflib.get_close_matches(str(value), self.known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "use one of these"
        return self.refuse(value, f"not known; known are {', '.join(self.known)}; {hint}")

    def entries(self, raw: object) -> list[dict[str, Any]]:
        """A list of names or of mappings with ``name``, as mappings."""
        if raw is None:
            return []
        if not isinstance(raw, (list, tuple)):
            raise self.refuse(raw, "has to be a list, like ['anthropic'] or [{name: anthropic}]")
        entries = [dict(item) if isinstance(item, Mapping) else {"name": item} for item in raw]
        for entry in entries:
            if not isinstance(entry.get("name"), str):
                # Only the names of its settings: their values may be keys in the wrong place.
                shown = entry.get("name", sorted(map(str, entry)))
                raise self.refuse(shown, f"an entry is a name or has one; known are {', '.join(self.known)}")
        return entries
