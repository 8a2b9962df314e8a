"""Carries a promotion out, so that whatever happens the old tree or the new one runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..adapters.git_repo import run_git
from ..checkout import commit as commit_of
from ..errors import Conflict, CoreError
from ..snapshots.progress import Progress
from . import repository
from .gateway import GatewayControl
from .journal import Journal
from .names import check_proposal_name
from .plan import PromotionPlan, compare
from .recovery import finish, gateway_of, recover, resume
from .state import now, promotion_lock, refuse_locked
from .steps import Steps

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
        recover(bot, control, progress)
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
            main_before=_merged_onto(fresh),
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


def _carry_out(steps: Steps, entries: list[dict[str, str]]) -> Journal:
    try:
        steps.prepare(entries)
        steps.switch()
    except (CoreError, OSError) as error:
        if steps.settle() != steps.journal.from_commit:
            steps.restore(str(error))
            return steps.journal
        steps.abandon(str(error))
        if isinstance(error, CoreError):
            raise
        raise CoreError(f"{steps.bot.bot}: the tree could not be made: {error}; nothing has changed") from error
    return finish(steps)


def _again(plan: PromotionPlan) -> PromotionPlan:
    """The plan as things are now, with the proposal merged."""
    request, bot = plan.request, plan.bot
    refuse_locked(bot)
    current = commit_of(bot.approved)
    if current != plan.current:
        raise Conflict(f"{bot.bot}: {current} was approved in the meantime, not {plan.current}; look at it again")
    if not request.proposal:
        return plan
    name = check_proposal_name(request.proposal)
    target = repository.merge(bot.origin, bot.uid, name, plan.proposal_commit, request.actor)
    if run_git(bot.origin, "rev-parse", f"{target}^{{tree}}", uid=bot.uid) == plan.target:
        return replace(plan, target=target)
    return compare(request, bot, current, target, plan.proposal_commit)


def _merged_onto(plan: PromotionPlan) -> str:
    """Tip of the branch that is to move to the plan's commit; empty where it is on the branch already."""
    bot = plan.bot
    merges = plan.request.proposal or plan.request.bundle
    if not merges or repository.contains(bot.origin, bot.uid, plan.target):
        return ""
    if plan.request.bundle:
        main = repository.main_commit(bot.origin, bot.uid)
        if not repository.is_ancestor(bot.origin, bot.uid, main, plan.target):
            raise Conflict(f"main moved to {main} in the meantime; nothing was changed. Try again")
        return main
    return str(run_git(bot.origin, "rev-parse", f"{plan.target}^1", uid=bot.uid)).strip()


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)
