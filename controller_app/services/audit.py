"""What the controller refused, in full in its log and as a code in the machine's.

The engine keeps the log, one JSON line each; the bot reaches neither. What is done is in the machine's own audit log:
see :mod:`.decisions` for what the machine does not do itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Mapping

from clawfactory_core.jobs.protocol import Refusal

from .jobs import JobsClient

_LONGEST = 200
_MOST = 999_999
_PAUSE_SECONDS = 1.0
_RETRY_SECONDS = 60.0
_logger = logging.getLogger("controller_app.audit")


class Refusals:
    """Writes refusals down.

    :param jobs: tells the machine; what is the same is told once, with its number, so that a flood is a few questions.
    """

    def __init__(self, jobs: JobsClient) -> None:
        self._jobs = jobs
        self._waiting: Counter[tuple[str, str]] = Counter()
        self._wanted = asyncio.Event()

    def record(self, event: str, code: str, reason: str, fields: Mapping[str, object] | None = None) -> None:
        """Write one line, and have the machine told soon.

        :param event: what was refused, for example ``webhook``.
        :param code: why, as :data:`clawfactory_core.jobs.protocol.REFUSALS` has it.
        :param reason: why, for the operator.
        :param fields: what was asked for, of any content; no secrets. Long values are cut.
        """
        _write(logging.WARNING, f"{event}.refused", {"reason": reason[:_LONGEST], **_shown(fields)})
        self._waiting[event, code] += 1
        self._wanted.set()

    async def run(self) -> None:
        """Tell the machine what is refused, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            pause = _PAUSE_SECONDS if await self.tell() else _RETRY_SECONDS
            await asyncio.sleep(pause)

    async def tell(self) -> bool:
        """Tell what waits.

        :returns: whether the machine took all of it; what it did not take waits on.
        """
        for what, code in list(self._waiting):
            count = min(self._waiting.pop((what, code)), _MOST)
            try:
                await self._jobs.ask("refused", what=what, code=code, count=str(count))
            except Refusal as refusal:
                self._waiting[what, code] += count
                self._wanted.set()
                _logger.error("the machine was not told of %d refusals: %s", count, refusal)
                return False
        return True


def _shown(fields: Mapping[str, object] | None) -> dict[str, str]:
    return {name: str(value)[:_LONGEST] for name, value in (fields or {}).items()}


def _write(level: int, event: str, fields: Mapping[str, str]) -> None:
    # ensure_ascii: no value can end the line or colour a terminal.
    _logger.log(level, "%s", json.dumps({"event": event, **fields}))
