"""Has the machine write down what the operator decides and the gateway keeps.

First that it is asked for, then what came of it. What cannot be written down is not done.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from clawfactory_core.jobs.protocol import Refusal

from .gateway_link import GatewayRefused
from .jobs import JobsClient

_ACTOR = "operator"
_LONGEST = 200
#: Answers that say that nothing was done.
_FAILED = (404, 409, 429)
_logger = logging.getLogger("controller_app.audit")


class Decisions:
    """Writes them.

    :param jobs: tells the machine.
    """

    def __init__(self, jobs: JobsClient) -> None:
        self._jobs = jobs

    @asynccontextmanager
    async def written(self, decision: str, **what: str) -> AsyncIterator[None]:
        """Write down a decision, have it done, and write down what came of it.

        :param decision: one of :data:`clawfactory_core.jobs.protocol.DECISIONS`.
        :param what: about what, as the protocol has it; ``subject`` and ``account`` may be of any content.
        :raises Refusal: it cannot be written down; nothing was done.
        """
        said = {name: _ascii(value) if name in ("subject", "account") else value for name, value in what.items()}
        fields = {"actor": _ACTOR, "decision": decision, **{name: value for name, value in said.items() if value}}
        try:
            await self._jobs.ask("decided", outcome="asked", **fields)
        except Refusal as refusal:
            text = f"nothing was done, because it cannot be written down ({refusal.detail})"
            raise Refusal(refusal.status, refusal.title, text) from refusal
        outcome = "unknown"
        try:
            yield
            outcome = "done"
        except Refusal as refusal:
            if refusal.status in _FAILED or isinstance(refusal, GatewayRefused):
                outcome = "failed"
            raise
        finally:
            await self._tell(outcome, fields)

    async def _tell(self, outcome: str, fields: dict[str, str]) -> None:
        try:
            await self._jobs.ask("decided", outcome=outcome, **fields)
        except Refusal as refusal:
            # That it was asked for is on the disk; whoever decided gets to know what came of it.
            _logger.error("the machine was not told that %s is %s: %s", fields["decision"], outcome, refusal)


def _ascii(value: str) -> str:
    """Text of any content as the log of decisions takes it."""
    text = value.encode("ascii", "backslashreplace").decode()
    return "".join(character if character.isprintable() else "?" for character in text)[:_LONGEST]
