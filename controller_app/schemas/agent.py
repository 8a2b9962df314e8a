"""Documents of the agent API: what the bot may know about itself."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

ProposalState = Literal["open", "merged", "denied"]
Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_ -]{0,64}$")]


class AgentStatus(BaseModel):
    """Answer of ``GET /agent/status``."""

    bot: str
    version: str
    #: The promoted commit; ``None`` when it cannot be read.
    approved: str | None
    #: Whether the operator has locked the bot; ``None`` when the machine does not answer.
    locked: bool | None


class AgentProposal(BaseModel):
    """A proposal as the bot sees it."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    #: Empty when the branch is gone, as that of a denied one may be.
    commit: str
    state: ProposalState
    #: Why it was denied.
    reason: str


class SnapshotRequest(BaseModel):
    """Body of ``POST …/snapshot``."""

    model_config = ConfigDict(extra="forbid")

    label: Label = Field(default="", examples=["before-upgrade"])


class AgentSnapshot(BaseModel):
    """A snapshot, without where it is."""

    model_config = ConfigDict(extra="ignore")

    id: str
    time: datetime
    kind: str
    #: Bytes.
    size: int
    label: str


class AgentJob(BaseModel):
    """A snapshot job that the bot has asked for."""

    model_config = ConfigDict(extra="ignore")

    id: str
    state: Literal["queued", "running", "done", "failed"]
    asked: datetime
    started: datetime | None
    ended: datetime | None
    progress: dict[str, Any] | None
    #: Why it failed.
    error: str | None
