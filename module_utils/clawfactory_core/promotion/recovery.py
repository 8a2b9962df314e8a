"""Brings to its end what a crash left of a promotion: what runs is the old tree or the new one, and never between."""

from __future__ import annotations

from pathlib import Path

from ..adapters.gateway_container import GatewayContainer
from ..errors import CoreError
from .gateway import GatewayControl
from .journal import Journal, read_journal
from .state import BotPromotion, load, promotion_lock
from .steps import Report, Steps


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


def resume(root: Path, bot: str, gateway: GatewayControl | None = None, *, wait_seconds: float = 0.0) -> str:
    """Finish or undo what a crash left.

    :param wait_seconds: for a promotion that goes on.
    :returns: ``nothing``, ``finished`` or ``undone``.
    :raises Conflict: a promotion goes on, or the journal is damaged.
    :raises CoreError: the gateway could not be started; call again.
    """
    found = load(root, bot)
    with promotion_lock(found, "the end of an interrupted promotion", wait_seconds):
        return recover(found, gateway or gateway_of(found), None)


def finish(steps: Steps) -> Journal:
    """From the exchange on: the gateway gets ready with the new tree, or gets the old one back."""
    try:
        steps.start()
        steps.record_merge()
    except (CoreError, OSError) as error:
        steps.restore(str(error))
    else:
        steps.keep()
    return steps.journal


def recover(bot: BotPromotion, control: GatewayControl, report: Report | None) -> str:
    """:func:`resume` for a caller that holds the lock."""
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
    return "finished" if finish(steps).phase == "keeping" else "undone"
