"""Puts together what the operator sees first. What cannot be looked at is named; the rest is told all the same."""

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
from ..schemas.status import ApprovedStatus, EgressDenial, GatewayStatus, MachineStatus, SnapshotStatus, Status
from .gateway import GatewayProbe
from .history import read_live_commit
from .kept import Kept
from .machine import MachineService
from .proposals import ProposalService

T = TypeVar("T")
#: Git runs for them.
_PROPOSALS_FRESH = 3.0
_PROPOSALS_STALE = 30.0


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
        self._gateway = gateway
        self._machine = machine
        self._clock = clock
        self._proposals = Kept(proposals.list_all, fresh=_PROPOSALS_FRESH, stale=_PROPOSALS_STALE)

    def read_health(self) -> Health:
        """Say that this process answers; depends on nothing else."""
        return Health(status="ok", version=clawfactory_core.__version__, bot=self._bot)

    def forget(self) -> None:
        """Look again the next time: something was asked for that changes what there is to see."""
        self._machine.forget()
        self._proposals.forget()

    async def read_status(self) -> Status:
        """Look at everything now; what takes long is some seconds old."""
        problems: list[str] = []
        gateway, approved, machine, proposals, snapshots = await asyncio.gather(
            self._gateway.check(),
            asyncio.to_thread(read_live_commit, self._approved_dir, self._promotion_dir),
            self._read_machine(problems),
            _or_problem("proposals", self._proposals.get(), problems),
            _or_problem("snapshots", self._machine.list_snapshots(), problems),
        )
        now = datetime.fromtimestamp(self._clock(), tz=UTC)
        return Status(
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
