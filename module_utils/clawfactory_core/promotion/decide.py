"""Closes proposals with a reason that the bot can read, and opens them again."""

from __future__ import annotations

from pathlib import Path

from .records import Denial


def deny(root: Path, bot: str, proposal: str, reason: str, *, actor: str, source: str) -> Denial:
    """Close a proposal.

    :param proposal: its name without ``proposal/``.
    :raises InvalidInput: no such proposal, or the reason is empty or too long.
    :raises Conflict: it is merged already.
    """
    raise NotImplementedError


def undeny(root: Path, bot: str, proposal: str, *, actor: str, source: str) -> bool:
    """Open a denied proposal again.

    :returns: whether it was denied.
    :raises InvalidInput: the name is not one of a proposal.
    """
    raise NotImplementedError
