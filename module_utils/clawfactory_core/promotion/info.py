"""What there is to know about a bot's promotions; reads only, apart from fetching what the bot has proposed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..checkout import commit as commit_of
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


def table(info: Mapping[str, Any]) -> list[str]:
    """What :func:`promotion_info` found, as lines. Names and subjects are the bot's own words."""
    place = f"{info['behind']} behind, {info['ahead']} ahead of" if info["on_main"] else "not on"
    lines = [f"{info['bot']}: approved {info['approved'] or 'nothing'}, {place} {info['branch']} ({info['main']})"]
    if info["locked"]:
        lines.append("locked")
    if info["running"]:
        lines.append(f"a promotion goes on or was interrupted: {info['running']}")
    lines += [f"not as it was promoted: {path}" for path in info["drift"]]
    for proposal in info["proposals"]:
        lines.append(
            f"{proposal['state']:<7} proposal/{proposal['name']}  {proposal['commit'][:12]}  {proposal['time']}  "
            f"{proposal['author']}  {proposal['files']} files, +{proposal['added']} -{proposal['removed']}, "
            f"{proposal['bytes']} bytes  {proposal['subject']}"
            + (f"  ({proposal['reason']})" if proposal["reason"] else "")
        )
    for entry in info["history"]:
        what = "rollback" if entry["rollback"] else "promotion"
        why = f": {entry['reason'].splitlines()[0]}" if entry["reason"] else ""
        lines.append(
            f"{entry['time']}  {what} by {entry['actor']} ({entry['source']})  "
            f"{entry['from_commit'][:12]} -> {entry['to_commit'][:12]}  {entry['result']}{why}"
        )
    return lines
