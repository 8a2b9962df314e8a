"""Documents of the operator's API about the kill switch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints


class LockRequest(BaseModel):
    """Throws the kill switch."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, StringConstraints(max_length=500), Field(examples=["It talks to strangers."])] = ""


class Lock(BaseModel):
    """The lock that is there now."""

    actor: str
    time: str
    reason: str
    state: str
    #: What whoever asks for something is told, with the command that unlocks.
    refusal: str
