"""Answer of ``GET /status``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

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


class SnapshotStatus(BaseModel):
    """The newest snapshot."""

    id: str
    time: datetime
    #: Seconds since then.
    age: float
    #: Bytes.
    size: int
    #: Of all snapshots together, bytes.
    total_size: int
    count: int


class EgressDenial(BaseModel):
    """What the bot, or this controller, wanted to reach and may not."""

    model_config = ConfigDict(extra="ignore")

    time: datetime
    from_: str = Field(alias="from", serialization_alias="from")
    host: str
    port: str
    #: How often, in the end of the proxy's log that is looked at.
    count: int


class ScheduledSnapshot(BaseModel):
    """What the last scheduled snapshot came to."""

    #: ``made`` where verifying it is not part of the schedule.
    state: Literal["running", "made", "verified", "failed"]
    #: When it began; ``None`` if that is not known.
    time: Annotated[datetime | None, BeforeValidator(lambda value: value or None)]
    #: Id of what it made, empty if it made none.
    snapshot: str
    #: Why it failed, empty if it did not.
    problem: str

    @classmethod
    def find(cls, machine: Mapping[str, Any]) -> ScheduledSnapshot | None:
        """The one in an answer of the machine, ``None`` if there was none yet."""
        return cls.model_validate(machine["schedule"]) if machine.get("schedule") else None


class MachineStatus(BaseModel):
    """What the machine says. ``None`` is what it did not say; :attr:`Status.problems` tells why."""

    locked: bool | None = None
    #: Whether the private key of snapshots is on the machine.
    key: bool | None = None
    free_bytes: int | None = None
    total_bytes: int | None = None
    #: Phase of a promotion that goes on, or was cut short; empty if there is none.
    promotion: str | None = None
    #: Paths of the approved tree that are not as they were promoted.
    drift: list[str] | None = None
    #: Commits of the approved branch that are not approved.
    behind: int | None = None
    denials: list[EgressDenial] | None = None
    #: ``None`` also where no scheduled snapshot was made yet.
    schedule: ScheduledSnapshot | None = None


class Status(BaseModel):
    """One bot at one moment."""

    bot: str
    version: str
    #: Label of the deployed image.
    build: str | None
    gateway: GatewayStatus
    approved: ApprovedStatus
    machine: MachineStatus
    #: Proposals that wait for a decision; ``None`` when they cannot be read.
    proposals_open: int | None
    #: ``None`` when there is none, or the machine does not answer.
    snapshot: SnapshotStatus | None
    #: What could not be looked at, and why.
    problems: list[str]
    #: When this was looked at, in UTC. What takes long to find out may be some seconds older.
    time: datetime
