"""What a process of its own is told to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..snapshots.progress import Progress

Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Work:
    """What a process of its own has to do.

    :param kind: a key of :data:`.kinds.WORK`.
    :param actor: who asked.
    :param source: ``dashboard``, ``webhook``, ``polling`` or ``agent``.
    :param options: the other fields of the request.
    """

    root: Path
    bot: str
    kind: str
    actor: str = ""
    source: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
