"""Closes proposals with a reason that the bot can read, and opens them again."""

from __future__ import annotations

from pathlib import Path

from ..errors import Conflict, InvalidInput
from . import repository
from .events import audit
from .names import check_proposal_name
from .records import MAX_REASON, Denial, read_denials, remove_denial, write_denial
from .state import BotPromotion, load, now, promotion_lock


def plan_denial(root: Path, bot: str, proposal: str, reason: str, *, actor: str) -> tuple[Denial, Denial | None]:
    """The denial that would be written, and the one there is.

    :raises InvalidInput, Conflict: as :func:`deny`.
    """
    return _plan(load(root, bot), proposal, reason, actor)


def deny(root: Path, bot: str, proposal: str, reason: str, *, actor: str, source: str) -> Denial:
    """Close a proposal; one that is denied already gets the new reason.

    :param proposal: its name, with or without ``proposal/``.
    :raises InvalidInput: no such proposal, or the reason is empty or too long.
    :raises Conflict: it is merged already.
    """
    found = load(root, bot)
    with promotion_lock(found, f"a denial by {actor}"):
        denial, before = _plan(found, proposal, reason, actor)
        if before is not None and (before.commit, before.reason) == (denial.commit, denial.reason):
            return before
        said = {"proposal": denial.name, "commit": denial.commit, "reason": reason, "actor": actor, "source": source}
        audit(found, "proposal.denied", said)
        write_denial(found, denial)
    return denial


def undeny(root: Path, bot: str, proposal: str, *, actor: str, source: str) -> bool:
    """Open a denied proposal again.

    :returns: whether it was denied.
    :raises InvalidInput: the name is not one of a proposal.
    """
    found = load(root, bot)
    name = check_proposal_name(proposal)
    with promotion_lock(found, f"a reopening by {actor}"):
        if name not in read_denials(found):
            return False
        audit(found, "proposal.reopened", {"proposal": name, "actor": actor, "source": source})
        return remove_denial(found, name)


def plan_reopening(root: Path, bot: str, proposal: str) -> Denial | None:
    """The denial that would be taken back, ``None`` if there is none.

    :raises InvalidInput: the name is not one of a proposal.
    """
    return read_denials(load(root, bot)).get(check_proposal_name(proposal))


def _plan(bot: BotPromotion, proposal: str, reason: str, actor: str) -> tuple[Denial, Denial | None]:
    name = check_proposal_name(proposal)
    if not reason.strip() or len(reason) > MAX_REASON or not all(c.isprintable() or c == "\n" for c in reason):
        raise InvalidInput(f"the reason has to be 1 to {MAX_REASON} printable characters, for the bot to read")
    fetched = repository.fetch_proposals(bot.origin, bot.proposals, bot.uid)
    if name not in fetched:
        raise InvalidInput(f"{bot.bot} has no proposal/{name}; it has {', '.join(sorted(fetched)) or 'none'}")
    if repository.contains(bot.origin, bot.uid, fetched[name]):
        raise Conflict(f"proposal/{name} is merged already; undo it with a commit, or with playbooks/rollback.yml")
    return Denial(name, fetched[name], reason, actor, now()), read_denials(bot).get(name)
