"""What the controller refused, and what it told the gateway, as one JSON line each in its log, which the engine keeps
and the bot cannot reach.

What is done is in the machine's own audit log: the machine does it, and writes it down.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

_LONGEST = 200
_logger = logging.getLogger("controller_app.audit")


def record_refusal(event: str, reason: str, fields: Mapping[str, object] | None = None) -> None:
    """Write one line.

    :param event: what was refused, for example ``webhook``.
    :param reason: why; for the operator.
    :param fields: what was asked for, of any content; no secrets. Long values are cut.
    """
    _write(logging.WARNING, f"{event}.refused", {"reason": reason[:_LONGEST], **_shown(fields)})


def record_decision(event: str, fields: Mapping[str, object] | None = None) -> None:
    """Write one line about what the operator decided and the gateway keeps.

    :param event: what was done, for example ``device.approved``.
    :param fields: about what.
    """
    _write(logging.INFO, event, {"actor": "operator", **_shown(fields)})


def _shown(fields: Mapping[str, object] | None) -> dict[str, str]:
    return {name: str(value)[:_LONGEST] for name, value in (fields or {}).items()}


def _write(level: int, event: str, fields: Mapping[str, str]) -> None:
    # ensure_ascii: no value can end the line or colour a terminal.
    _logger.log(level, "%s", json.dumps({"event": event, **fields}))
