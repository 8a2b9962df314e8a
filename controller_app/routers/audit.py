"""The log of decisions, which the machine writes and reads."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from ..dependencies import JobsDep, require_operator
from ..schemas.audit import AuditPage, AuditVerification

EventName = Annotated[str | None, Query(pattern="^[a-z][a-z_.-]{0,63}$", examples=["promotion"])]
LineNumber = Annotated[int | None, Query(ge=1, lt=10**12, examples=[101])]

router = APIRouter(tags=["audit"], dependencies=[Depends(require_operator)])


@router.get("/audit")
async def read_audit(jobs: JobsDep, event: EventName = None, before: LineNumber = None) -> AuditPage:
    """Return decisions, the newest first: of one kind, or of all; those before a line, or the latest."""
    number = None if before is None else str(before)
    return AuditPage.model_validate((await jobs.ask("audit", event=event, before=number))["audit"])


@router.get("/audit/verify")
async def verify_audit(jobs: JobsDep) -> AuditVerification:
    """Read the whole log and check that every line names the one before it."""
    return AuditVerification.model_validate((await jobs.ask("audit_verify"))["audit"])
