"""Looks at the remote's branch where webhooks cannot arrive, and asks for the promotion of what is new on it."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

from clawfactory_core.errors import CoreError

from .approved import read_approved_commit
from .git_remote import GitRemote
from .jobs import JobsClient

_LONGEST_HISTORY = 4 << 20  # bytes of its end

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
        if read_approved_commit(self._approved_dir).commit == commit:
            return True
        try:
            with (self._promotion / "history.jsonl").open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - _LONGEST_HISTORY))
                lines = file.read(_LONGEST_HISTORY).splitlines()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise CoreError(f"cannot read {error.filename}: {error.strerror}") from error
        return any(_target(line) == commit for line in lines)


def _target(line: bytes) -> object:
    try:
        entry = json.loads(line)
    except ValueError:  # the first line may have lost its beginning
        return None
    return entry.get("to_commit") if isinstance(entry, dict) else None
