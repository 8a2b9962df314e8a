"""Carries a promotion out, so that whatever happens the old tree or the new one runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..adapters.gateway_container import GatewayContainer
from ..errors import Conflict, CoreError
from ..snapshots.progress import Progress
from . import repository
from .gateway import GatewayControl
from .journal import Journal, read_journal
from .plan import PromotionPlan, check_approved, compare, refuse_locked
from .state import BotPromotion, load, now, promotion_lock
from .steps import Report, Steps

__all__ = ["PromotionResult", "apply_promotion", "gateway_of", "resume"]


@dataclass(frozen=True)
class PromotionResult:
    """How it ended.

    :param result: ``promoted``; or ``restored``: the gateway did not get ready, ``from_commit`` is live again; or
        ``unchanged``.
    :param reason: why it was restored.
    :param snapshot: id of the one made first, empty without.
    :param recreated: whether the gateway was made anew.
    :param seconds: how long it took.
    """

    result: str
    from_commit: str
    to_commit: str
    reason: str = ""
    snapshot: str = ""
    recreated: bool = False
    seconds: float = 0.0


def gateway_of(bot: BotPromotion) -> GatewayContainer:
    """The bot's gateway on this machine's engine."""
    return GatewayContainer(
        bot.bot,
        definition=bot.directory / "gateway.json",
        approved=bot.approved,
        lockfile=bot.lockfile,
        port=bot.gateway_port,
        stop_seconds=bot.settings.stop_seconds,
    )


def apply_promotion(
    plan: PromotionPlan,
    progress: Callable[[Progress], None] | None = None,
    gateway: GatewayControl | None = None,
) -> PromotionResult:
    """Carry out a plan, which is checked again under the lock: it may be old.

    :param progress: gets phases, and bytes while a snapshot is made.
    :param gateway: ``None`` for the bot's container on this machine's engine.
    :raises InvalidInput, Conflict, CoreError: as :func:`.plan.plan_promotion`, or what went wrong before the exchange:
        the old tree is live. After it: the old tree is in place again, and :func:`resume` starts the gateway with it.
    """
    began = time.monotonic()
    request, bot = plan.request, plan.bot
    control = gateway or gateway_of(bot)
    what = f"a {'rollback' if request.rollback else 'promotion'} by {request.actor}"
    with promotion_lock(bot, what, request.wait_seconds):
        _recover(bot, control, progress)
        fresh = _again(plan)
        if not fresh.changed:
            return PromotionResult("unchanged", fresh.current, fresh.target, seconds=_since(began))
        journal = Journal(
            id=os.urandom(12).hex(),
            phase="preparing",
            from_commit=fresh.current,
            to_commit=fresh.target,
            actor=request.actor,
            source=request.source,
            started=now(),
            running=control.running(),
            recreate=fresh.recreate,
            rollback=request.rollback,
            delivery=request.delivery,
        )
        done = _carry_out(Steps(bot, control, journal, progress), list(fresh.entries))
    return PromotionResult(
        "restored" if done.phase == "restoring" else "promoted",
        done.from_commit,
        done.to_commit,
        reason=done.reason,
        snapshot=done.snapshot,
        recreated=done.recreate,
        seconds=_since(began),
    )


def resume(root: Path, bot: str, gateway: GatewayControl | None = None, *, wait_seconds: float = 0.0) -> str:
    """Finish or undo what a crash left.

    :param wait_seconds: for a promotion that goes on.
    :returns: ``nothing``, ``finished`` or ``undone``.
    :raises Conflict: a promotion goes on, or the journal is damaged.
    :raises CoreError: the gateway could not be started; call again.
    """
    found = load(root, bot)
    with promotion_lock(found, "the end of an interrupted promotion", wait_seconds):
        return _recover(found, gateway or gateway_of(found), None)


def _carry_out(steps: Steps, entries: list[dict[str, str]]) -> Journal:
    try:
        steps.prepare(entries)
    except (CoreError, OSError) as error:
        steps.abandon(str(error))
        if isinstance(error, CoreError):
            raise
        raise CoreError(
            f"{steps.bot.bot}: the promotion could not be prepared: {error}; nothing has changed"
        ) from error
    steps.switch()
    return _start(steps)


def _start(steps: Steps) -> Journal:
    """From the exchange on: the gateway gets ready with the new tree, or gets the old one back."""
    try:
        steps.start()
    except (CoreError, OSError) as error:
        steps.restore(str(error))
    else:
        steps.keep()
    return steps.journal


def _recover(bot: BotPromotion, control: GatewayControl, report: Report | None) -> str:
    journal = read_journal(bot)
    if journal is None:
        return "nothing"
    steps = Steps(bot, control, journal, report)
    stands = steps.settle()
    if journal.phase in ("preparing", "switching") and stands == journal.from_commit:
        steps.abandon("it was interrupted")
        return "undone"
    if journal.phase == "keeping":
        steps.keep()
        return "finished"
    if journal.phase == "restoring" or stands == journal.from_commit:
        steps.restore(journal.reason or "it was interrupted")
        return "undone"
    return "finished" if _start(steps).phase == "keeping" else "undone"


def _again(plan: PromotionPlan) -> PromotionPlan:
    """The plan as things are now, with the proposal merged."""
    request, bot = plan.request, plan.bot
    refuse_locked(bot)
    current = plan.current if request.rollback else check_approved(bot)
    if request.proposal:
        target = repository.merge(bot.origin, bot.uid, request.proposal, plan.proposal_commit, request.actor)
    else:
        target = plan.target
    if current != plan.current:
        raise Conflict(f"{bot.bot}: {current} was approved in the meantime, not {plan.current}; look at it again")
    return compare(replace(request), bot, current, target, plan.proposal_commit)


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)
