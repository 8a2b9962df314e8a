"""What is written down about decisions, and what a gateway said, without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from .. import audit as audit_log
from ..errors import CoreError
from .gateway import GatewayControl
from .records import HistoryEntry
from .secret_rules import Fingerprints, find_secrets
from .state import BotPromotion

_MAX_WORDS = 1200
#: So much of the log's end is looked through; a bot writes as much as it likes.
_MAX_LOOKED_AT = 64 << 10


def audit(bot: BotPromotion, event: str, fields: HistoryEntry | Mapping[str, Any]) -> None:
    """Add a line to the log of decisions; it is on disk when this returns."""
    said = asdict(fields) if isinstance(fields, HistoryEntry) else dict(fields)
    said.pop("time", None)  # the line has its own
    audit_log.append(bot.audit, event, bot.bot, said, max_bytes=audit_log.DECISION_BYTES)


def last_words(bot: BotPromotion, gateway: GatewayControl) -> str:
    """The end of the gateway's log; lines with a secret are left out, and all of it if secrets cannot be told."""
    try:
        fingerprints = Fingerprints.load(bot.fingerprints)
    except CoreError:
        return ""
    lines = []
    said = gateway.last_words()
    if len(said) > _MAX_LOOKED_AT:
        # Without the line that is cut: what is left of a secret there would not be recognised.
        said = said[-_MAX_LOOKED_AT:].partition("\n")[2]
    for line in said.splitlines():
        printable = "".join(character for character in line if character.isprintable())
        hidden = find_secrets(printable.encode(), "", fingerprints)
        lines.append("(a line with a secret)" if hidden else printable)
    return "\n".join(lines)[-_MAX_WORDS:]
