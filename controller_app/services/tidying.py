"""Makes room in ``proposals.git`` when it is full: what was decided goes, what is left is packed."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path

from clawfactory_core.errors import CoreError
from clawfactory_core.promotion.names import PREFIX
from clawfactory_core.promotion.proposals import Proposal, list_proposals
from clawfactory_core.promotion.repository import MAIN

from .approved import read_ref
from .denied import read_denied
from .git_process import GitCommand, run_git

_PAUSE_SECONDS = 600.0

_logger = logging.getLogger(__name__)


class Tidier:
    """Tidies at most every ten minutes, because it costs processor time, and a bot that fills its room asks for it.

    :param origin: repository that is the authority; it has what was merged.
    :param proposals: repository that the bot pushes to; nobody may push meanwhile.
    :param promotion: directory of what was promoted and denied.
    :param seconds: that one command may take.
    """

    def __init__(self, origin: Path, proposals: Path, promotion: Path, *, seconds: float) -> None:
        self._origin = origin
        self._proposals = proposals
        self._promotion = promotion
        self._seconds = seconds
        self._next = 0.0

    async def tidy(self) -> bool:
        """Remove the branches of merged and denied proposals, and every object that nothing needs any more.

        :returns: whether that was done now; a failure is logged, and the repository is as good as it was.
        """
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + _PAUSE_SECONDS
        try:
            decided = await asyncio.to_thread(self._decided)
            orders = "".join(f"delete {PREFIX}{name} {commit}\n" for name, commit in decided.items())
            await self._run("update-ref", "--no-deref", "--stdin", data=orders.encode())
            # -l leaves out what origin.git has: of a merged proposal nothing is left here.
            await self._run("repack", "-a", "-d", "-l", "-q")
            await self._run("prune", "--expire=now")
        except CoreError as error:
            _logger.error("cannot make room for proposals: %s", error)
            return False
        _logger.info("made room for proposals; %d that were decided are gone", len(decided))
        return True

    async def count_open(self) -> int:
        """How many proposals wait for a decision."""
        return sum(proposal.state == "open" for proposal in await asyncio.to_thread(self._list))

    def _decided(self) -> dict[str, str]:
        return {proposal.name: proposal.commit for proposal in self._list() if proposal.state != "open"}

    def _list(self) -> list[Proposal]:
        main = read_ref(self._origin, MAIN)
        if main is None:
            raise CoreError(f"{self._origin} has no {MAIN}")
        denied = read_denied(self._promotion)
        return list_proposals(self._proposals, os.geteuid(), main, prefix=PREFIX, denied=denied)

    async def _run(self, *arguments: str, data: bytes = b"") -> None:
        await run_git(GitCommand(arguments, self._proposals), data=data, seconds=self._seconds)
