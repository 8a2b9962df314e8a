"""How much the bot may push."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

HOUR = 3600.0  # seconds


class PushRate:
    """Pushes in a sliding hour. Per process: what a restart forgets is bounded by the size of all proposals.

    :param limit: pushes in an hour.
    :param clock: monotonic seconds.
    """

    def __init__(self, limit: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._pushes: deque[float] = deque(maxlen=limit)

    def take(self) -> int:
        """Count one push.

        :returns: 0, or whole seconds until the next one may come, which was not counted.
        """
        now = self._clock()
        if len(self._pushes) == self._limit and self._pushes[0] + HOUR > now:
            return math.ceil(self._pushes[0] + HOUR - now)
        self._pushes.append(now)
        return 0


def directory_bytes(directory: Path) -> int:
    """Bytes on disk of all files below ``directory``; what vanishes meanwhile counts nothing."""
    total = 0
    for parent, _, files in os.walk(directory):
        for name in files:
            try:
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
            except FileNotFoundError:  # a temporary file of git
                continue
    return total
