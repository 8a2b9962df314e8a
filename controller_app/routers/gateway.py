"""The gateway's container, for the operator: restart, logs, and OpenClaw's audit of itself."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response
from starlette.responses import StreamingResponse

from ..dependencies import BrokerDep, LogStreamsDep, RestartDep, SecurityAuditDep, require_operator
from ..schemas.gateway import GatewayLog, Restarted, SecurityAudit

LogPart = Literal["gateway", "proxy", "egress", "broker"]
Tail = Annotated[int, Query(ge=1, le=2000, description="Lines from before now.", examples=[200])]

router = APIRouter(prefix="/gateway", tags=["gateway"], dependencies=[Depends(require_operator)])


@router.post("/restart")
async def restart_gateway(restart: RestartDep) -> Restarted:
    """Restart the gateway: turns that go on get twenty seconds to end. 409 while it is being restarted."""
    await restart.restart()
    return Restarted(state="starting")


@router.get("/logs")
async def read_logs(broker: BrokerDep, part: LogPart = "gateway", tail: Tail = 200) -> GatewayLog:
    """Return the last lines of a part's log."""
    lines = [line async for line in broker.logs(part, tail=tail)]
    return GatewayLog(part=part, lines=lines[-tail:])


@router.get(
    "/logs/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: 'line' for each, then 'end', or 'problem' with a problem document.",
            "content": {
                "text/event-stream": {"example": 'event: line\ndata: {"text": "2027-01-15T08:00:00Z ready"}\n\n'}
            },
        },
    },
)
async def follow_logs(streams: LogStreamsDep, part: LogPart = "gateway", tail: Tail = 100) -> StreamingResponse:
    """Stream the lines of a part's log as they are written, until it stops."""
    streams.check_room()
    return StreamingResponse(
        streams.follow(part, tail), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


@router.get(
    "/security-audit",
    responses={202: {"model": SecurityAudit, "description": "It is being made; ask again."}},
)
async def read_security_audit(
    audit: SecurityAuditDep,
    response: Response,
    max_age: Annotated[
        int, Query(ge=0, le=86400, description="Seconds; an older report is renewed.", examples=[3600])
    ] = 3600,
) -> SecurityAudit:
    """Return what OpenClaw's security audit found last, and begin another one if that is too old."""
    found = audit.read(max_age)
    if found.state == "running":
        response.status_code = 202
    return found
