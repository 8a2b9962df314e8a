"""What was decided about a bot: the history of promotions, and the proposals that are denied."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import Conflict, InvalidInput
from ..files import write_atomic
from .state import BotPromotion

SOURCES = ("webhook", "dashboard", "playbook", "polling")
RESULTS = ("promoted", "failed", "restored")
MAX_REASON = 2000
_MAX_HISTORY = 64 << 20


@dataclass(frozen=True)
class HistoryEntry:
    """One promotion or rollback that ended.

    :param id: of the promotion, random.
    :param time: ISO 8601, UTC.
    :param actor: who decided.
    :param source: one of :data:`SOURCES`.
    :param from_commit: approved before, ``to_commit`` what it was to become.
    :param result: one of :data:`RESULTS`.
    :param reason: why it failed or was restored, else empty.
    :param snapshot: id of the one made first, empty without.
    :param delivery: the webhook's own number for what it said, empty otherwise.
    :param rollback: whether this went back.
    """

    id: str
    time: str
    actor: str
    source: str
    from_commit: str
    to_commit: str
    result: str
    reason: str = ""
    snapshot: str = ""
    delivery: str = ""
    rollback: bool = False


@dataclass(frozen=True)
class Denial:
    """Why a proposal is closed.

    :param commit: that it was at; a later push is denied as well until it is reopened.
    """

    name: str
    commit: str
    reason: str
    actor: str
    time: str


def read_history(bot: BotPromotion) -> list[HistoryEntry]:
    """Every entry that is kept, newest first. A line that power cut short is left out.

    :raises Conflict: the file is too large to be a history.
    """
    path = bot.directory / "history.jsonl"
    try:
        if path.stat().st_size > _MAX_HISTORY:
            raise Conflict(f"{path} has more than {_MAX_HISTORY} bytes; move it away")
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    entries = (_parse(HistoryEntry, line) for line in reversed(lines))
    return [entry for entry in entries if isinstance(entry, HistoryEntry)]


def append_history(bot: BotPromotion, entry: HistoryEntry) -> None:
    """Add an entry and let go of those beyond ``keep_history``; the caller holds :func:`.state.promotion_lock`.

    :raises InvalidInput: source or result is unknown.
    """
    if entry.source not in SOURCES or entry.result not in RESULTS:
        raise InvalidInput(f"source {entry.source!r} and result {entry.result!r}: known are {SOURCES} and {RESULTS}")
    kept = [entry, *read_history(bot)][: max(bot.settings.keep_history, 1)]
    text = "".join(json.dumps(asdict(one), ensure_ascii=True) + "\n" for one in reversed(kept))
    write_shown(bot, bot.directory / "history.jsonl", text)


def was_approved(bot: BotPromotion, commit: str) -> bool:
    """Whether a commit has been live before."""
    return any(
        commit in (entry.from_commit, entry.to_commit if entry.result == "promoted" else "")
        for entry in read_history(bot)
    )


def read_denials(bot: BotPromotion) -> dict[str, Denial]:
    """Denied proposals by name."""
    found = {}
    for path in sorted((bot.directory / "denied").glob("*.json")):
        denial = _parse(Denial, path.read_text(encoding="utf-8", errors="replace"))
        if isinstance(denial, Denial) and denial.name == path.stem:
            found[denial.name] = denial
    return found


def write_denial(bot: BotPromotion, denial: Denial) -> None:
    """Record a denial; the caller holds :func:`.state.promotion_lock` and has checked the name."""
    text = json.dumps(asdict(denial), indent=2) + "\n"
    directory = bot.directory / "denied"
    directory.mkdir(mode=0o750, exist_ok=True)
    write_shown(bot, directory / f"{denial.name}.json", text)


def remove_denial(bot: BotPromotion, name: str) -> bool:
    """Take a denial back; the caller holds :func:`.state.promotion_lock` and has checked the name.

    :returns: whether there was one.
    """
    try:
        (bot.directory / "denied" / f"{name}.json").unlink()
    except FileNotFoundError:
        return False
    return True


def write_shown(bot: BotPromotion, path: Path, text: str) -> None:
    """Write a file that the controller may read; it is on disk when this returns."""
    group = bot.uid if os.geteuid() == 0 else None
    write_atomic(path, text.encode(), mode=0o640, owner=os.geteuid(), group=group)


def _parse(kind: type[Any], text: str) -> Any:
    try:
        found = json.loads(text)
        return kind(**{item.name: found[item.name] for item in fields(kind) if item.name in found})
    except (TypeError, ValueError):
        return None
