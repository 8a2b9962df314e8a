"""What there is to know about a bot's promotions; reads only, apart from fetching what the bot has proposed."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..machine import commit as commit_of
from . import repository
from .journal import read_journal
from .plan import drift
from .records import read_denials, read_history
from .state import load

_SHOWN_HISTORY = 50


def promotion_info(root: Path, bot: str, *, history: int = _SHOWN_HISTORY) -> dict[str, Any]:
    """Plain data without paths of the machine.

    ``approved`` and ``main`` are commits; approved is ``ahead`` and ``behind`` of main by so many; ``proposals`` and
    ``history`` have the newest first; ``drift`` has the paths of the approved tree that are not as promoted;
    ``running`` is the phase of a promotion that goes on or was cut short, else empty.

    :raises InvalidInput: the bot is not deployed here.
    :raises CoreError: the repository cannot be read.
    """
    found = load(root, bot)
    main = repository.main_commit(found.origin, found.uid)
    approved = commit_of(found.approved)
    known = bool(approved) and repository.contains(found.origin, found.uid, approved)
    distance = repository.ahead_behind(found.origin, found.uid, approved) if known else None
    repository.fetch_proposals(found.origin, found.proposals, found.uid)
    denied = {name: denial.reason for name, denial in read_denials(found).items()}
    proposals = repository.list_proposals(found.origin, found.uid, main, denied=denied)
    journal = read_journal(found)
    return {
        "bot": bot,
        "approved": approved,
        "main": main,
        "ahead": distance.ahead if distance else None,
        "behind": distance.behind if distance else None,
        "on_main": known,
        "remote": bool(found.settings.remote.url),
        "branch": found.settings.remote.branch if found.settings.remote.url else "main",
        "locked": os.path.lexists(found.lockfile),
        "running": journal.phase if journal else "",
        "drift": drift(found) if approved else [],
        "proposals": [asdict(proposal) for proposal in proposals],
        "history": [asdict(entry) for entry in read_history(found)[:history]],
    }
