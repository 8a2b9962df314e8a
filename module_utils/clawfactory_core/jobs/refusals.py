"""What a bot's controller refused, in the log of decisions: so few lines that no flood drives decisions out of it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from .. import audit

#: Lines of a bot in an hour. A year of them is a quarter of what the log holds before it is rotated.
LINES_PER_HOUR = 20
_HOUR = 3600.0


class RefusalLog:
    """Of one bot.

    :param clock: monotonic seconds.
    """

    def __init__(self, root: Path, bot: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = root / "audit" / f"{bot}.jsonl"
        self._bot = bot
        self._clock = clock
        self._lock = threading.Lock()
        self._written: deque[float] = deque(maxlen=LINES_PER_HOUR)
        self._left_out = 0

    def add(self, what: str, code: str, count: int) -> bool:
        """Write a line, unless there were too many.

        :param count: how often it was refused.
        :returns: whether it is on the disk.
        :raises OSError: it cannot be written.
        """
        with self._lock:
            now = self._clock()
            if len(self._written) == LINES_PER_HOUR and self._written[0] + _HOUR > now:
                self._left_out += count
                return False
            fields = {"code": code, "count": count, "left_out": self._left_out}
            audit.append(self._path, f"{what}.refused", self._bot, fields, max_bytes=audit.DECISION_BYTES)
            self._written.append(now)
            self._left_out = 0
            return True
