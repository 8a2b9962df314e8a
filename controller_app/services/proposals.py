"""What the bot has proposed, as the controller's repositories say. The machine decides by a look of its own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from clawfactory_core.errors import CoreError, InvalidInput
from clawfactory_core.promotion.names import PREFIX, check_proposal_name
from clawfactory_core.promotion.proposals import Proposal, diff, list_proposals
from clawfactory_core.promotion.repository import MAIN

from .approved import read_ref
from .denied import read_denied
from .git_remote import GitRemote


class UnknownProposal(InvalidInput):
    """There is no proposal of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no proposal {name!r}; GET /branches lists them")


class ProposalService:
    """Reads proposals, their state, and what they change.

    :param origin: repository that is the authority.
    :param proposals: repository that the bot pushes to.
    :param promotion: directory of what was promoted and denied.
    :param remote: where the approved branch is, if that is elsewhere and can be asked.
    :param branch: its name there.
    """

    def __init__(
        self, *, origin: Path, proposals: Path, promotion: Path, remote: GitRemote | None = None, branch: str = "main"
    ) -> None:
        self._origin = origin
        self._proposals = proposals
        self._promotion = promotion
        self._remote = remote
        self._branch = branch

    async def list_all(self) -> list[Proposal]:
        """Return all proposals, the newest first.

        :raises CoreError: the repository cannot be read.
        """
        return await asyncio.to_thread(self._list)

    async def find(self, name: str) -> Proposal:
        """Return one proposal.

        :param name: without ``proposal/``, or with it.
        :raises InvalidInput: it is no name.
        :raises UnknownProposal: there is none.
        """
        short = check_proposal_name(name)
        found = next((proposal for proposal in await self.list_all() if proposal.name == short), None)
        if found is None:
            raise UnknownProposal(short)
        return found

    async def diff(self, name: str) -> str:
        """Return what a proposal would change, as ``git diff`` shows it, cut when it is very long.

        :raises UnknownProposal: there is none.
        """
        proposal = await self.find(name)
        main = self._main()
        return await asyncio.to_thread(diff, self._proposals, os.geteuid(), main, proposal.commit, from_fork=True)

    async def read_main(self) -> str:
        """Return the newest commit of the approved branch: the remote's, else that of ``main`` here.

        :raises CoreError: there is none, or the remote does not answer.
        """
        if self._remote is None:
            return await asyncio.to_thread(self._main)
        commit = await self._remote.read_branch(self._branch)
        if commit is None:
            raise InvalidInput(f"the remote has no branch {self._branch}; correct promotion_branch")
        return commit

    def _list(self) -> list[Proposal]:
        denied = read_denied(self._promotion)
        return list_proposals(self._proposals, os.geteuid(), self._main(), prefix=PREFIX, denied=denied)

    def _main(self) -> str:
        main = read_ref(self._origin, MAIN)
        if main is None:
            raise CoreError(f"{self._origin} has no {MAIN}; run site.yml, which makes it")
        return main
