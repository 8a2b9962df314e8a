"""Documents of the operator's API about proposals, promotions and jobs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500)]


_COMMIT = "3f786850e387550fdab836ed7e6dc881de23001b"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Branch(BaseModel):
    """A proposal. Author, time and subject are what the bot wrote."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    commit: str
    author: str
    time: str
    subject: str
    files: int
    added: int
    removed: int
    bytes: int
    state: Literal["open", "merged", "denied"]
    reason: str


class BranchDiff(BaseModel):
    """What a proposal would change, as ``git diff`` shows it; cut when it is very long."""

    diff: str


class MergeRequest(_Body):
    """Merges and promotes a proposal."""

    #: The commit the operator has seen: what the bot pushes meanwhile is not merged.
    expected_sha: Commit = Field(examples=[_COMMIT])


class DenyRequest(_Body):
    """Closes a proposal."""

    #: The bot can read it.
    reason: Reason = Field(examples=["It promises more than it can do."])


class PromotionRequest(_Body):
    """Promotes a commit of the approved branch."""

    sha: Commit = Field(examples=[_COMMIT])


class RollbackRequest(_Body):
    """Goes back to what was approved before."""

    #: To which commit; the one before the present one if it is not given.
    sha: Commit | None = Field(default=None, examples=[_COMMIT])


class PastPromotion(BaseModel):
    """One promotion or rollback that ended."""

    model_config = ConfigDict(extra="ignore")

    id: str
    time: str
    actor: str
    source: str
    from_commit: str
    to_commit: str
    result: str
    reason: str
    snapshot: str
    rollback: bool


class Job(BaseModel):
    """A job of the machine; see :mod:`clawfactory_core.jobs.protocol`."""

    model_config = ConfigDict(extra="ignore")

    id: str = Field(examples=["019bc1a2f7d04c1e9a3b5d7f"])
    kind: str = Field(examples=["promotion"])
    actor: str = Field(examples=["operator"])
    source: str = Field(examples=["dashboard"])
    #: What was asked for: the fields of the request.
    options: dict[str, str] = {}
    state: Literal["queued", "running", "done", "failed"]
    asked: str
    started: str | None
    ended: str | None
    progress: dict[str, Any] | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None
