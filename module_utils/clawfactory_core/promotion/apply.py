"""Carries a promotion out, so that whatever happens the old tree or the new one runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..snapshots.progress import Progress
from .gateway import GatewayControl
from .plan import PromotionPlan


@dataclass(frozen=True)
class PromotionResult:
    """How it ended.

    :param result: ``promoted``; or ``restored``: the gateway did not get ready, ``from_commit`` is live again; or
        ``unchanged``.
    :param reason: why it was restored.
    :param snapshot: id of the one made first, empty without.
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
    """Carry out a plan, which is made again under the lock: it may be old.

    :param gateway: ``None`` for the bot's container on this machine's engine.
    :raises InvalidInput, Conflict, CoreError: as :func:`.plan.plan_promotion`, or what went wrong before the exchange;
        the old tree is live.
    """
    raise NotImplementedError


def resume(root: Path, bot: str, gateway: GatewayControl | None = None) -> str:
    """Finish or undo what a crash left.

    :returns: ``nothing``, ``finished`` or ``undone``.
    :raises Conflict: a promotion is going on.
    """
    raise NotImplementedError
