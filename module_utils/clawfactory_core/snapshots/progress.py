"""How far a long operation is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

_INTERVAL = 0.2
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Progress:
    """One report.

    :param phase: what is being done, a word or a few.
    :param done: bytes.
    :param total: bytes, 0 if unknown.
    :param rate: bytes a second since the phase began.
    :param remaining: seconds, 0 if unknown.
    """

    phase: str
    done: int = 0
    total: int = 0
    rate: float = 0.0
    remaining: float = 0.0

    def text(self) -> str:
        """On one line: phase, percent, bytes, rate and time left, as far as they are known."""
        if not self.total:
            return self.phase
        parts = [f"{self.phase}: {100 * self.done // self.total} % of {_bytes(self.total)}"]
        if self.rate:
            parts.append(f"{self.rate / 1e6:.1f} MB/s")
        if self.remaining:
            parts.append(f"{_duration(self.remaining)} left")
        return ", ".join(parts)


class Meter:
    """Turns counts of bytes into reports, at most five a second.

    :param report: gets them; ``None`` for nobody.
    :param total: bytes, 0 if unknown.
    """

    def __init__(self, report: Callable[[Progress], None] | None, phase: str, total: int = 0) -> None:
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


def _bytes(count: int) -> str:
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{count} bytes"


def _duration(seconds: float) -> str:
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
