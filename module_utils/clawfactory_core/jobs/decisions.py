"""What an operator decides that the gateway keeps, in the log of decisions: before it is done, and what came of it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from .. import audit
from .protocol import Refusal

#: Of one bot in an hour, and as many outcomes: whoever takes a controller over must not drive older lines out.
MOST = 60
_HOUR = 3600.0


class DecisionLog:
    """Of one bot.

    :param clock: monotonic seconds.
    """

    def __init__(self, root: Path, bot: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = root / "audit" / f"{bot}.jsonl"
        self._bot = bot
        self._clock = clock
        self._lock = threading.Lock()
        #: When those that are asked for were written, and the outcomes of such.
        self._written: dict[bool, deque[float]] = {True: deque(), False: deque()}

    def add(self, fields: Mapping[str, str]) -> None:
        """Write a line; it is on the disk when this returns.

        :param fields: of the request, as :mod:`.protocol` has them.
        :raises Refusal: 429, too many.
        :raises OSError: it cannot be written.
        """
        with self._lock:
            now, written = self._clock(), self._written[fields["outcome"] == "asked"]
            while written and written[0] + _HOUR <= now:
                written.popleft()
            if len(written) >= MOST:
                minutes = max(1, round((written[0] + _HOUR - now) / 60))
                text = (
                    f"{MOST} decisions about {self._bot} were written down within an hour; decide in {minutes} minutes"
                )
                raise Refusal(429, "Too many", text)
            said = {name: value for name, value in fields.items() if name != "decision"}
            audit.append(self._path, fields["decision"], self._bot, said, max_bytes=audit.DECISION_BYTES)
            written.append(now)
