"""Answer of ``GET /status``."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from ..services.gateway import GatewayState


class GatewayStatus(BaseModel):
    """How OpenClaw is, as the controller sees it over the inside network."""

    model_config = ConfigDict(from_attributes=True)

    state: GatewayState
    reachable: bool
    live: bool
    ready: bool
    #: Milliseconds until the liveness probe was answered.
    latency_ms: float | None
    #: Why the state is not ``ready``.
    reason: str | None


class ApprovedStatus(BaseModel):
    """The promoted commit, or why it is unknown."""

    model_config = ConfigDict(from_attributes=True)

    commit: str | None
    branch: str | None
    reason: str | None


class Status(BaseModel):
    """One bot at one moment."""

    bot: str
    version: str
    #: Label of the deployed image.
    build: str | None
    gateway: GatewayStatus
    approved: ApprovedStatus
    #: When this was looked at, in UTC.
    time: datetime
