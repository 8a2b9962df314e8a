"""Reads the machine's history of promotions, from its file that is read-only here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from clawfactory_core.errors import CoreError

from .approved import ApprovedCommit, read_approved_commit

_LONGEST = 4 << 20  # bytes of its end


@dataclass(frozen=True)
class PastPromotion:
    """One promotion or rollback that ended.

    :param before: commit that was approved until then.
    :param wanted: commit that was to be.
    :param promoted: whether it is since then.
    """

    before: str
    wanted: str
    promoted: bool


def read_history(promotion: Path) -> list[PastPromotion]:
    """Return the promotions of a bot, the newest last; none if there was none yet.

    :param promotion: directory of what was promoted and denied.
    :raises CoreError: the file cannot be read.
    """
    path = promotion / "history.jsonl"
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _LONGEST))
            lines = file.read(_LONGEST).splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CoreError(f"cannot read {path}: {error.strerror}") from error
    return [entry for entry in map(_parse, lines) if entry is not None]


def read_live_commit(approved: Path, promotion: Path) -> ApprovedCommit:
    """Read what the gateway runs.

    A promotion puts another directory in the place of ``approved``, and a container sees the one that was there when it
    started: what was promoted since is in the history alone.

    :param approved: the promoted tree of when this container started.
    :param promotion: directory of what was promoted and denied.
    """
    try:
        history = read_history(promotion)
    except CoreError as error:
        return ApprovedCommit(None, None, str(error))
    if not history:
        return read_approved_commit(approved)
    last = history[-1]
    return ApprovedCommit(last.wanted if last.promoted else last.before, None, None)


def _parse(line: bytes) -> PastPromotion | None:
    try:
        entry = json.loads(line)
        return PastPromotion(str(entry["from_commit"]), str(entry["to_commit"]), entry["result"] == "promoted")
    except (ValueError, TypeError, KeyError):  # the first line may have lost its beginning
        return None
