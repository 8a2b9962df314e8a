"""Puts together what the operator sees first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import clawfactory_core

from ..schemas.health import Health
from ..schemas.status import ApprovedStatus, GatewayStatus, Status
from .gateway import GatewayProbe
from .history import read_live_commit


class StatusService:
    """Reports on one bot.

    :param bot: name of the bot.
    :param build: label of the deployed image, or an empty string.
    :param approved_dir: the promoted tree.
    :param promotion_dir: what was promoted since this container started.
    :param gateway: asks the gateway.
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
        clock: Callable[[], float],
    ) -> None:
        self._bot = bot
        self._build = build
        self._approved_dir = approved_dir
        self._promotion_dir = promotion_dir
        self._gateway = gateway
        self._clock = clock

    def read_health(self) -> Health:
        """Say that this process answers; depends on nothing else."""
        return Health(status="ok", version=clawfactory_core.__version__, bot=self._bot)

    async def read_status(self) -> Status:
        """Look at the gateway and the approved tree now; takes two seconds at most."""
        gateway, approved = await asyncio.gather(
            self._gateway.check(), asyncio.to_thread(read_live_commit, self._approved_dir, self._promotion_dir)
        )
        return Status(
            bot=self._bot,
            version=clawfactory_core.__version__,
            build=self._build or None,
            gateway=GatewayStatus.model_validate(gateway),
            approved=ApprovedStatus.model_validate(approved),
            time=datetime.fromtimestamp(self._clock(), tz=UTC).replace(microsecond=0),
        )
