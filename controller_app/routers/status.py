"""State of the bot and description of this API, for programs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request

from ..dependencies import StatusServiceDep, require_operator
from ..schemas.status import Status

router = APIRouter(tags=["status"], dependencies=[Depends(require_operator)])


@router.get("/status")
async def read_status(status: StatusServiceDep) -> Status:
    """Return the state of the gateway and the approved commit."""
    return await status.read_status()


@router.get("/openapi.json", include_in_schema=False)
async def read_openapi(request: Request) -> dict[str, Any]:
    """Return the OpenAPI document of this controller."""
    document: dict[str, Any] = request.app.openapi()
    return document
