"""Shows the remote what the bot has proposed: branches, and pull requests where there are some.

Nothing is remembered over a restart: everything is asked for again, and what is done already is left as it is.
"""

from __future__ import annotations

import asyncio
import logging

from clawfactory_core.errors import CoreError
from clawfactory_core.promotion.proposals import Proposal

from .git_remote import GitRemote
from .github import GitHub
from .proposals import ProposalService

_RETRY_SECONDS = (30.0, 60.0, 300.0, 900.0)
#: Also without a push something may have changed: a denial, or what somebody did at the remote.
_REGULAR_SECONDS = 900.0

_logger = logging.getLogger(__name__)


class RemoteMirror:
    """Mirrors proposals.

    :param bot: name of the bot.
    :param proposals: reads them.
    :param remote: where they are pushed to.
    :param github: opens pull requests; ``None`` where there are none.
    """

    def __init__(self, *, bot: str, proposals: ProposalService, remote: GitRemote, github: GitHub | None) -> None:
        self._bot = bot
        self._proposals = proposals
        self._remote = remote
        self._github = github
        self._wanted = asyncio.Event()
        self._done: dict[str, tuple[str, str]] = {}

    def wake(self) -> None:
        """Say that something was pushed."""
        self._wanted.set()

    async def run(self) -> None:
        """Mirror now, after each push, and now and then; until cancelled."""
        failures = 0
        while True:
            self._wanted.clear()
            failures = 0 if await self.mirror() else failures + 1
            pause = _RETRY_SECONDS[min(failures, len(_RETRY_SECONDS)) - 1] if failures else _REGULAR_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def mirror(self) -> bool:
        """Bring the remote up to what the bot has proposed.

        :returns: whether all of it is there; what is not is in the log.
        """
        try:
            proposals = await self._proposals.list_all()
        except CoreError as error:
            _logger.error("cannot read the proposals to mirror them: %s", error)
            return False
        complete = True
        for proposal in proposals:
            if self._done.get(proposal.name) == (proposal.commit, proposal.state):
                continue
            try:
                await self._show(proposal)
            except CoreError as error:
                _logger.error("proposal/%s is not at the remote yet: %s", proposal.name, error)
                complete = False
            else:
                self._done[proposal.name] = (proposal.commit, proposal.state)
        return complete

    async def _show(self, proposal: Proposal) -> None:
        if proposal.state == "open":
            await self._remote.push(proposal.commit, f"proposal/{proposal.name}")
            if self._github is not None:
                await self._github.offer(proposal, self._bot)
        elif proposal.state == "denied" and self._github is not None:
            await self._github.close(proposal.name, proposal.reason)
