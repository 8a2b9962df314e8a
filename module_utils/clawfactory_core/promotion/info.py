"""What there is to know about a bot's promotions; reads only."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def promotion_info(root: Path, bot: str) -> dict[str, Any]:
    """Plain data: ``approved``, ``main``, ``ahead``, ``behind``, ``proposals``, ``drift`` (paths of the approved tree that
    are not as promoted), ``history`` (newest first), ``running`` (phase of one that goes on or was cut short, or empty).

    :raises InvalidInput: the bot is not deployed here.
    :raises CoreError: the repository cannot be read.
    """
    raise NotImplementedError
