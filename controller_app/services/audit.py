"""What the controller refused, as one JSON line each in its log, which the engine keeps and the bot cannot reach.

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
    shown = {name: str(value)[:_LONGEST] for name, value in (fields or {}).items()}
    # ensure_ascii: no value can end the line or colour a terminal.
    _logger.warning("%s", json.dumps({"event": f"{event}.refused", "reason": reason[:_LONGEST], **shown}))
