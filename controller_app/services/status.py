"""Puts together what the operator sees first. What cannot be looked at is named; the rest is told all the same.

Many may ask at once, so they share what it costs. The commit, whether the bot is locked, and the room on the disk are
looked at after the question; the gateway and the snapshots are three seconds old at most, proposals ten, and what the
machine has to start a process for (drift, promotion, refused connections) sixty. What the controller is asked to change
makes all of it be looked at again at once; see :meth:`StatusService.forget`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import clawfactory_core
from clawfactory_core.errors import CoreError

from ..schemas.health import Health
from ..schemas.snapshots import Snapshot
from ..schemas.status import (
    ApprovedStatus,
    EgressDenial,
    GatewayStatus,
    MachineStatus,
    ScheduledSnapshot,
    SnapshotStatus,
    Status,
)
from .gateway import GatewayHealth, GatewayProbe
from .history import read_live_commit
from .kept import Joined, Kept
from .machine import MachineService
from .proposals import ProposalService

T = TypeVar("T")
#: Seconds for which an answer is young, and after which it is stale; see :class:`.kept.Kept`.
_FRESH, _STALE = 1.0, 3.0
#: Git runs for them.
_PROPOSALS_FRESH, _PROPOSALS_STALE = 3.0, 10.0


class Look:
    """What was seen at one moment, and what was written of it: each text once for all who asked then."""

    def __init__(self, status: Status) -> None:
        self.status = status
        self._written: dict[str, bytes] = {}

    def write(self, name: str, write: Callable[[Status], bytes]) -> bytes:
        """Return the text ``name``; ``write`` makes it if nobody asked for it yet."""
        if name not in self._written:
            self._written[name] = write(self.status)
        return self._written[name]


class StatusService:
    """Reports on one bot.

    :param bot: name of the bot.
    :param build: label of the deployed image, or an empty string.
    :param approved_dir: the promoted tree.
    :param promotion_dir: what was promoted since this container started.
    :param gateway: asks the gateway.
    :param machine: asks the machine.
    :param proposals: reads what was proposed.
    :param clock: wall clock in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        bot: str,
        build: str,
        approved_dir: Path,
        promotion_dir: Path,
        gateway: GatewayProbe,
        machine: MachineService,
        proposals: ProposalService,
        clock: Callable[[], float],
    ) -> None:
        self._bot = bot
        self._build = build
        self._approved_dir = approved_dir
        self._promotion_dir = promotion_dir
        self._machine = machine
        self._clock = clock
        self._probe = Joined(gateway.check)
        self._gateway = Kept(self._probe.get, fresh=_FRESH, stale=_STALE)
        self._snapshots = Kept(machine.list_snapshots, fresh=_FRESH, stale=_STALE)
        self._proposals = Kept(proposals.list_all, fresh=_PROPOSALS_FRESH, stale=_PROPOSALS_STALE)
        self._looks = Joined(self._look)

    def read_health(self) -> Health:
        """Say that this process answers; depends on nothing else."""
        return Health(status="ok", version=clawfactory_core.__version__, bot=self._bot)

    def forget(self) -> None:
        """Look again the next time: something was asked for that changes what there is to see."""
        self._machine.forget()
        for kept in (self._gateway, self._snapshots, self._proposals):
            kept.forget()

    async def read_status(self) -> Status:
        """Return how the bot is; how old it may be is said at the top."""
        return (await self.look()).status

    async def read_gateway(self) -> GatewayHealth:
        """Return how the gateway is now."""
        return await self._probe.get()

    async def look(self) -> Look:
        """The same, with what others wrote of it."""
        return await self._looks.get()

    async def _look(self) -> Look:
        problems: list[str] = []
        gateway, approved, machine, proposals, snapshots = await asyncio.gather(
            self._gateway.get(),
            asyncio.to_thread(read_live_commit, self._approved_dir, self._promotion_dir),
            self._read_machine(problems),
            _or_problem("proposals", self._proposals.get(), problems),
            _or_problem("snapshots", self._snapshots.get(), problems),
        )
        now = datetime.fromtimestamp(self._clock(), tz=UTC)
        status = Status(
            bot=self._bot,
            version=clawfactory_core.__version__,
            build=self._build or None,
            gateway=GatewayStatus.model_validate(gateway),
            approved=ApprovedStatus.model_validate(approved),
            machine=machine,
            proposals_open=None if proposals is None else sum(1 for one in proposals if one.state == "open"),
            snapshot=_newest(snapshots or [], now),
            problems=problems,
            time=now.replace(microsecond=0),
        )
        return Look(status)

    async def _read_machine(self, problems: list[str]) -> MachineStatus:
        found, promotion, egress = await asyncio.gather(
            _or_problem("machine", self._machine.read(), problems),
            _or_problem("promotions", self._machine.read_promotion(), problems),
            _or_problem("egress", self._machine.read_egress(), problems),
        )
        named = found or {}
        return MachineStatus(
            **{name: named.get(name) for name in ("locked", "key", "free_bytes", "total_bytes")},
            promotion=promotion.get("running") if promotion else None,
            drift=promotion.get("drift") if promotion else None,
            behind=promotion.get("behind") if promotion else None,
            schedule=ScheduledSnapshot.find(named),
            denials=[EgressDenial.model_validate(entry) for entry in egress["denied"]] if egress else None,
        )


async def _or_problem(what: str, wanted: Awaitable[T], problems: list[str]) -> T | None:
    try:
        return await wanted
    except CoreError as error:
        problems.append(f"{what}: {error}")
        return None


def _newest(snapshots: list[Snapshot], now: datetime) -> SnapshotStatus | None:
    if not snapshots:
        return None
    newest = max(snapshots, key=lambda one: one.time)
    return SnapshotStatus(
        id=newest.id,
        time=newest.time,
        age=max(0.0, (now - newest.time).total_seconds()),
        size=newest.size,
        total_size=sum(one.size for one in snapshots),
        count=len(snapshots),
    )
