"""How far a promotion is; on disk before each step that a crash must not leave half done."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..errors import Conflict
from ..files import sync_directory
from .names import SHA
from .records import write_shown
from .state import BotPromotion

#: In this order. Up to ``switching`` it is undone after a crash, from ``switched`` on it is finished.
PHASES = ("preparing", "switching", "switched", "keeping", "restoring")


@dataclass(frozen=True)
class Journal:
    """One promotion that goes on.

    :param id: of this promotion, random; history and audit carry it too.
    :param phase: one of :data:`PHASES`.
    :param started: time, ISO 8601.
    :param running: whether the gateway ran before, and so has to after.
    :param recreate: whether the gateway has to be made anew, for one as for the other commit.
    :param main_before: tip of the branch if that is to move to ``to_commit``, which it does once the gateway is ready.
    :param reason: why it is restored.
    """

    id: str
    phase: str
    from_commit: str
    to_commit: str
    actor: str
    source: str
    started: str
    running: bool
    recreate: bool
    rollback: bool = False
    delivery: str = ""
    main_before: str = ""
    snapshot: str = ""
    reason: str = ""


def read_journal(bot: BotPromotion) -> Journal | None:
    """The journal of a bot; ``None`` without one.

    :raises Conflict: it cannot be understood, and so nothing may be touched.
    """
    path = bot.directory / "journal.json"
    try:
        raw: Any = json.loads(path.read_bytes())
        journal = Journal(
            **{"main_before": "", **{item.name: raw[item.name] for item in fields(Journal) if item.name in raw}}
        )
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise Conflict(f"{path} is damaged ({error!r}); see which commit {bot.approved} is at, and remove it") from None
    if journal.phase not in PHASES or not all(
        isinstance(commit, str) and SHA.fullmatch(commit) for commit in (journal.from_commit, journal.to_commit)
    ):
        raise Conflict(f"{path} is damaged; see which commit {bot.approved} is at, and remove it")
    return journal


def write_journal(bot: BotPromotion, journal: Journal) -> None:
    """Write the journal; it is on disk when this returns."""
    text = json.dumps(asdict(journal), indent=2) + "\n"
    write_shown(bot, bot.directory / "journal.json", text)


def remove_journal(bot: BotPromotion) -> None:
    """All is done."""
    (bot.directory / "journal.json").unlink(missing_ok=True)
    sync_directory(bot.directory)
