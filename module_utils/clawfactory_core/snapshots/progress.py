"""How far a long operation is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

_INTERVAL = 0.2


@dataclass(frozen=True)
class Progress:
    """One report.

    :param phase: what is being done, a word or two.
    :param done: bytes.
    :param total: bytes, 0 if unknown.
    :param rate: bytes a second since the phase began.
    :param remaining: seconds, 0 if unknown.
    """

    phase: str
    done: int
    total: int
    rate: float
    remaining: float


class Meter:
    """Turns counts of bytes into reports, at most five a second.

    :param report: gets them; ``None`` for nobody.
    :param total: bytes, 0 if unknown.
    """

    def __init__(self, report: Callable[[Progress], None] | None, phase: str, total: int) -> None:
        self._report = report
        self._phase = phase
        self._total = total
        self._began = time.monotonic()
        self._last = -_INTERVAL

    def count(self, done: int, *, last: bool = False) -> None:
        """``done`` bytes are behind us; the ``last`` report is always made."""
        now = time.monotonic()
        if self._report is None or (now - self._last < _INTERVAL and not last):
            return
        self._last = now
        rate = done / max(now - self._began, 0.001)
        remaining = (self._total - done) / rate if rate and self._total > done else 0.0
        self._report(Progress(self._phase, done, self._total, rate, remaining))
