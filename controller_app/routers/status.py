"""State of the bot and description of this API, for programs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import PlainTextResponse, Response

from ..dependencies import StatusServiceDep, require_operator
from ..schemas.status import Status
from ..services.metrics import CONTENT_TYPE, write_metrics

router = APIRouter(tags=["status"], dependencies=[Depends(require_operator)])


@router.get("/status", response_model=Status)
async def read_status(status: StatusServiceDep) -> Response:
    """Return the state of the bot; ``problems`` names what could not be looked at."""
    return Response((await status.look()).write("json", _to_json), media_type="application/json")


@router.get("/metrics", response_class=PlainTextResponse)
async def read_metrics(status: StatusServiceDep) -> Response:
    """Return the state of the bot as Prometheus reads it."""
    return Response(write_metrics(await status.read_status()), headers={"Content-Type": CONTENT_TYPE})


@router.get("/openapi.json", include_in_schema=False)
async def read_openapi(request: Request) -> dict[str, Any]:
    """Return the OpenAPI document of this controller."""
    document: dict[str, Any] = request.app.openapi()
    return document


def _to_json(status: Status) -> bytes:
    return status.model_dump_json(by_alias=True).encode()
