"""What a bot's controller refused, in the log of decisions: so few lines that no flood drives decisions out."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from .. import audit

#: Seconds between two lines of a bot that give the same reason. So a flood of one hides no other, and a year of floods
#: of every kind is less than the log holds before it is rotated.
INTERVAL = 3600.0


class RefusalLog:
    """Of one bot.

    :param clock: monotonic seconds.
    """

    def __init__(self, root: Path, bot: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = root / "audit" / f"{bot}.jsonl"
        self._bot = bot
        self._clock = clock
        self._lock = threading.Lock()
        self._written: dict[tuple[str, str], float] = {}
        self._left_out: Counter[tuple[str, str]] = Counter()

    def add(self, what: str, code: str, count: int) -> bool:
        """Write a line, unless there was one.

        :param count: how often it was refused.
        :returns: whether it is on the disk.
        :raises OSError: it cannot be written.
        """
        with self._lock:
            now, kind = self._clock(), (what, code)
            if kind in self._written and self._written[kind] + INTERVAL > now:
                self._left_out[kind] += count
                return False
            fields = {"code": code, "count": count, "left_out": self._left_out[kind]}
            audit.append(self._path, f"{what}.refused", self._bot, fields, max_bytes=audit.DECISION_BYTES)
            self._written[kind] = now
            self._left_out[kind] = 0
            return True
