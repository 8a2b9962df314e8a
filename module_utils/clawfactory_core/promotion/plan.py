"""What a promotion would do; reads only, apart from what it fetches into the bot's own repository."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .state import BotPromotion


@dataclass(frozen=True)
class PromotionRequest:
    """What somebody decided.

    :param root: clawfactory_root.
    :param actor: who, for history and audit.
    :param source: one of :data:`.records.SOURCES`.
    :param sha: commit to promote; empty for the newest of the branch. For a rollback: empty for the one before.
    :param proposal: name of a proposal (without ``proposal/``) to merge first.
    :param expected: commit that the proposal must be at; empty for whatever it is at.
    :param delivery: number of the webhook's delivery; one that was seen before is refused.
    :param rollback: go back to a commit that was approved before.
    :param wait_seconds: for another promotion of the bot to end.
    """

    root: Path
    bot: str
    actor: str
    source: str
    sha: str = ""
    proposal: str = ""
    expected: str = ""
    delivery: str = ""
    rollback: bool = False
    wait_seconds: float = 30.0


@dataclass(frozen=True)
class PromotionPlan:
    """What would be done.

    :param current: commit that is approved, ``target`` what it is to become (for a proposal the commit it is at).
    :param entries: ``{name, kind}`` of the new tree's top-level workspace entries.
    :param added: names of entries that come, ``removed`` of those that go.
    :param recreate: the set of entries changes, so the gateway has to be made anew.
    :param statistics: ``{files, added, removed}``, numbers of files and lines.
    :param diff: the change as git shows it, cut at a bound.
    """

    request: PromotionRequest
    bot: BotPromotion
    current: str
    target: str
    entries: tuple[dict[str, str], ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    recreate: bool
    statistics: dict[str, int] = field(default_factory=dict)
    diff: str = ""

    @property
    def changed(self) -> bool:
        """Whether anything would be done."""
        return self.current != self.target or bool(self.request.proposal)

    def to_dict(self) -> dict[str, Any]:
        """For an answer: plain data, without the diff."""
        return {
            "current": self.current,
            "target": self.target,
            "changed": self.changed,
            "added": list(self.added),
            "removed": list(self.removed),
            "recreate": self.recreate,
            "statistics": dict(self.statistics),
        }


def plan_promotion(request: PromotionRequest) -> PromotionPlan:
    """What a promotion, or a rollback, would do.

    :raises InvalidInput: a value is refused, or the commit is not in the repository or not on its branch.
    :raises Conflict: the bot is locked, approved is not as it was promoted, the proposal is denied, is at another commit
        than expected or conflicts, or the delivery was seen before.
    :raises CoreError: the repository or the remote cannot be read.
    """
    raise NotImplementedError
