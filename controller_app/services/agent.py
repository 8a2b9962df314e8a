"""What the bot may ask for, and no more."""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path
from typing import Any

import clawfactory_core
from clawfactory_core.jobs.protocol import Refusal

from ..schemas.agent import AgentJob, AgentProposal, AgentSnapshot, AgentStatus
from .denied import read_denied
from .history import read_live_commit
from .jobs import JobsClient
from .proposals import ProposalService

_ACTOR = "agent"
#: What the bot asks for is worked on by so many at once: threads and the machine's answers are the operator's, too.
_AT_ONCE = 2
#: The machine looks at the whole bot to say whether it is locked.
_LOCK_SECONDS = 10.0


class AgentService:
    """Answers the bot.

    :param bot: name of the bot.
    :param approved_dir: the promoted tree.
    :param promotion_dir: what was promoted since this container started.
    :param proposals: reads what was proposed.
    :param jobs: asks the machine.
    """

    def __init__(
        self, *, bot: str, approved_dir: Path, promotion_dir: Path, proposals: ProposalService, jobs: JobsClient
    ) -> None:
        self._bot = bot
        self._approved_dir = approved_dir
        self._promotion_dir = promotion_dir
        self._proposals = proposals
        self._jobs = jobs
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._lock_turn = asyncio.Lock()
        self._locked: tuple[float, bool | None] = (-math.inf, None)

    async def read_status(self) -> AgentStatus:
        """Return what the bot is now; a machine that does not answer leaves ``locked`` open."""
        approved, locked = await asyncio.gather(
            asyncio.to_thread(read_live_commit, self._approved_dir, self._promotion_dir), self._is_locked()
        )
        return AgentStatus(bot=self._bot, version=clawfactory_core.__version__, approved=approved.commit, locked=locked)

    async def list_proposals(self) -> list[AgentProposal]:
        """Return all proposals with what became of them; of those denied long ago only the name and the reason."""
        async with self._turn:
            found = [AgentProposal.model_validate(proposal) for proposal in await self._proposals.list_all()]
            denied = await asyncio.to_thread(read_denied, self._promotion_dir)
        gone = sorted(set(denied) - {proposal.name for proposal in found})
        return found + [AgentProposal(name=name, commit="", state="denied", reason=denied[name]) for name in gone]

    async def create_snapshot(self, label: str) -> AgentJob:
        """Ask for a snapshot.

        :raises Refusal: the machine refuses; 429 when the bot has asked too often.
        """
        return _job((await self._ask("snapshot", actor=_ACTOR, label=label or None))["job"])

    async def list_snapshots(self) -> list[AgentSnapshot]:
        """Return all snapshots, the newest last.

        :raises Refusal: the machine does not answer.
        """
        found = (await self._ask("snapshots"))["snapshots"]
        return [AgentSnapshot.model_validate(entry) for entry in found]

    async def read_job(self, job: str) -> AgentJob:
        """Return a job that the bot has asked for; those of others are not there for it.

        :raises Refusal: 404, there is none.
        """
        found = (await self._ask("job", id=job))["job"]
        if (found["kind"], found["actor"]) != ("snapshot", _ACTOR):
            raise Refusal(404, "Not found", f"there is no job {job}")
        return _job(found)

    async def _ask(self, op: str, **fields: str | None) -> dict[str, Any]:
        async with self._turn:
            return await self._jobs.ask(op, **fields)

    async def _is_locked(self) -> bool | None:
        async with self._lock_turn:
            seen, locked = self._locked
            if time.monotonic() - seen > _LOCK_SECONDS:
                locked = await self._read_lock()
                self._locked = (time.monotonic(), locked)
            return locked

    async def _read_lock(self) -> bool | None:
        try:
            locked = (await self._ask("promotion_info"))["promotion"].get("locked")
        except Refusal as refusal:
            return True if refusal.status == 423 else None
        return locked if isinstance(locked, bool) else None


def _job(found: dict[str, Any]) -> AgentJob:
    error = found["error"]
    return AgentJob.model_validate({**found, "error": error["detail"] if error else None})
