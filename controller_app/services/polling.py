"""Looks at the remote's branch where webhooks cannot arrive, and asks for the promotion of what is new on it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from clawfactory_core.errors import CoreError

from .git_remote import GitRemote
from .history import read_history, read_live_commit
from .jobs import JobsClient

_logger = logging.getLogger(__name__)


class Poller:
    """Asks for what a webhook would have asked for.

    :param remote: the bot's repository.
    :param branch: the one that is promoted.
    :param approved_dir: the promoted tree.
    :param promotion: directory of what was promoted.
    :param jobs: asks the machine.
    :param seconds: between two looks.
    """

    def __init__(
        self,
        *,
        remote: GitRemote,
        branch: str,
        approved_dir: Path,
        promotion: Path,
        jobs: JobsClient,
        seconds: float,
    ) -> None:
        self._remote = remote
        self._branch = branch
        self._approved_dir = approved_dir
        self._promotion = promotion
        self._jobs = jobs
        self._seconds = seconds
        self._asked = ""

    async def run(self) -> None:
        """Look now and then, until cancelled; failures are logged and tried again."""
        while True:
            try:
                await self.look()
            except CoreError as error:
                _logger.error("looked at the remote for something to promote: %s", error)
            await asyncio.sleep(self._seconds)

    async def look(self) -> str | None:
        """Look once.

        :returns: id of the job that was asked for, ``None`` if nothing is new.
        :raises CoreError: the remote or the machine does not answer, or refuses.
        """
        commit = await self._remote.read_branch(self._branch)
        if commit is None:
            _logger.warning("the remote has no branch %s", self._branch)
            return None
        if commit == self._asked or await asyncio.to_thread(self._is_settled, commit):
            return None
        answer = await self._jobs.ask("promotion", actor="polling", source="polling", sha=commit)
        self._asked = commit
        return str(answer["job"]["id"])

    def _is_settled(self, commit: str) -> bool:
        """Whether the commit is approved or was tried: what failed or was rolled back is not forced upon the bot."""
        if read_live_commit(self._approved_dir, self._promotion).commit == commit:
            return True
        return any(entry.wanted == commit for entry in read_history(self._promotion))
