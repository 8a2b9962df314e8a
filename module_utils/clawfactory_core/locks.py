"""The file of a locked bot: as long as it is there, nothing of the bot's is changed, read in the clear or deleted."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import Conflict


def check_unlocked(root: Path, bot: str) -> None:
    """:raises Conflict: ``<root>/locks/<bot>`` is there, whatever it is."""
    path = root / "locks" / bot
    if os.path.lexists(path):
        raise Conflict(f"{bot} is locked, {path} says why; unlock it first")
