"""How far a restore is: ``.restore.json`` beside the state, on disk before every rename of :mod:`.swap`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ..files import write_atomic

JOURNAL = ".restore.json"
#: Start of the old state's name while the bot has not shown that it starts with the new one.
BEFORE = ".state-before-"
_PHASES = ("staged", "swapping", "waiting", "keeping", "undoing")
# Nothing happens in them before somebody decides.
_AT_REST = ("staged", "waiting")


@dataclass(frozen=True)
class Journal:
    """How far a restore is.

    :param phase: ``staged`` (the new state is complete, the old one untouched), ``swapping``, ``waiting`` (for the bot
        to start), ``keeping`` or ``undoing``.
    :param id: snapshot that is restored.
    :param had_state: whether there was a state before.
    """

    phase: str
    id: str
    had_state: bool = True


def read_journal(state: Path) -> Journal | None:
    """The journal beside ``state``; ``None`` if there is none, or none that can be read."""
    try:
        raw = json.loads((state.parent / JOURNAL).read_bytes())
        journal = Journal(raw["phase"], raw["id"], raw["had_state"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return journal if journal.phase in _PHASES and "/" not in str(journal.id) else None


def write_journal(state: Path, journal: Journal) -> None:
    """Write the journal; it is on disk when this returns."""
    data = {"phase": journal.phase, "id": journal.id, "had_state": journal.had_state}
    write_atomic(state.parent / JOURNAL, json.dumps(data).encode() + b"\n", mode=0o600)


def is_unsettled(state: Path) -> bool:
    """Whether a restore ended in the middle of its renames, so that nobody may start with what stands there."""
    journal = read_journal(state)
    if journal is not None:
        return journal.phase not in _AT_REST
    return any(state.parent.glob(f"{BEFORE}*"))
