"""Documents of the operator's API about the log of decisions."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class AuditEntry(BaseModel):
    """One decision."""

    #: Its line, the rotated file's included; 1 is the oldest that is kept.
    number: int
    time: str = Field(examples=["2026-11-22T10:00:00.000+00:00"])
    event: str = Field(examples=["promotion"])
    fields: dict[str, Any]


class AuditPage(BaseModel):
    """Decisions, the newest first."""

    model_config = ConfigDict(extra="ignore")

    entries: list[AuditEntry]
    #: Lines in all.
    total: int
    #: Whether older ones follow; ask for them with ``before``, the number of the last one here.
    more: bool


class AuditVerification(BaseModel):
    """Whether every line names the one before it."""

    model_config = ConfigDict(extra="ignore")

    lines: int
    #: None means that the chain is whole.
    problems: list[str]
