"""Names that hold everywhere: of bots, containers, networks, bridges, environment variables."""

from __future__ import annotations

import hashlib
import re

from .errors import InvalidInput

#: As in ``openclaw fleet`` (docs/cli/fleet.md of the npm package openclaw).
BOT_NAME = re.compile(r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$")
# Of a bot "a-sbx-b" every container would carry the prefix of the sandboxes of the bot "a".
_LIKE_A_SANDBOX = re.compile(r"-sbx(-|$)")
NETWORKS = ("inside", "edge", "control")
_BRIDGE_PREFIX = {"inside": "cfi-", "edge": "cfe-", "control": "cfc-", "sandbox": "cfs-"}


def check_bot_name(bot: str) -> str:
    """:raises InvalidInput: ``bot`` is not a valid name."""
    if not BOT_NAME.fullmatch(bot):
        raise InvalidInput(
            f"bot name {bot!r} is not valid; use 1 to 40 lower-case letters, digits and inner dashes, as in 'bot1'"
        )
    if _LIKE_A_SANDBOX.search(bot):
        raise InvalidInput(
            f"bot name {bot!r} is not valid: with '-sbx' in it, its containers look like sandboxes of another"
        )
    return bot


def bridge(bot: str, network: str) -> str:
    """Interface name of a bot's bridge: 12 characters, below the kernel's limit of 15."""
    return _BRIDGE_PREFIX[network] + hashlib.sha256(bot.encode()).hexdigest()[:8]


def container(bot: str, service: str) -> str:
    """Name of a bot's container."""
    return f"clawfactory-{bot}-{service}"


def network(bot: str, kind: str) -> str:
    """Name of a bot's network."""
    return f"clawfactory-{bot}-{kind}"


def env_prefix(bot: str) -> str:
    """Prefix of a bot's lines in the token registry, ``my-bot`` gives ``MY_BOT_``."""
    return bot.upper().replace("-", "_") + "_"
