"""The kill switch, for the operator. It can be thrown here and not be taken back: that is done on the machine alone."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends

from ..dependencies import JobsDep, require_operator
from ..schemas.killswitch import Lock, LockRequest

router = APIRouter(tags=["killswitch"], dependencies=[Depends(require_operator)])


@router.post("/killswitch", status_code=202)
async def lock_bot(jobs: JobsDep, body: Annotated[LockRequest | None, Body()] = None) -> Lock:
    """Lock the bot, and with it this controller: the machine cuts its network and kills all of it."""
    reason = body.reason if body else ""
    return Lock.model_validate((await jobs.ask("lock", actor="operator", reason=reason or None))["lock"])
