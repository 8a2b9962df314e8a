"""Slows down guessing. Per process and in bounded memory: forgetting at a restart costs a guesser nothing useful."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable

FAILURES_ALLOWED = 5
WINDOW_SECONDS = 60.0
CLIENTS_REMEMBERED = 1024


class LoginThrottle:
    """Counts failures per key in a sliding window.

    :param limit: failures after which a key has to wait.
    :param window: seconds until a failure no longer counts.
    :param capacity: keys remembered; the one that failed longest ago is forgotten first.
    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        limit: int = FAILURES_ALLOWED,
        window: float = WINDOW_SECONDS,
        capacity: int = CLIENTS_REMEMBERED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._window = window
        self._capacity = capacity
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def retry_after(self, key: str) -> int:
        """Whole seconds until ``key`` may try again; 0 when it may now."""
        failures = self._failures.get(key)
        if failures is None or len(failures) < self._limit:
            return 0
        return max(0, math.ceil(failures[0] + self._window - self._clock()))

    def record_failure(self, key: str) -> None:
        """Remember that ``key`` failed now."""
        failures = self._failures.pop(key, None) or deque(maxlen=self._limit)
        failures.append(self._clock())
        self._failures[key] = failures
        while len(self._failures) > self._capacity:
            self._failures.popitem(last=False)

    def forget(self, key: str) -> None:
        """Drop the failures of ``key``, because it has just proved who it is."""
        self._failures.pop(key, None)
