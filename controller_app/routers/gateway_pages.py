"""Pages about the gateway: devices and pairing, logs, security audit, restart. The API has all of it, too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Depends, Form, Query, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from clawfactory_core.errors import CoreError
from clawfactory_core.jobs.protocol import Refusal

from ..dependencies import (
    BrokerDep,
    DeviceServiceDep,
    LogStreamsDep,
    RestartDep,
    SecurityAuditDep,
    StatusServiceDep,
    get_services,
    redeem_link_token,
    require_page_operator,
)
from ..schemas.devices import Account, Channel, Devices, Id, PairingApproval, PairingRequests
from ..services.devices import DeviceService
from ..services.log_stream import HEARTBEAT, event, split_time
from ..web import render_page
from .gateway import LogPart

#: Lines that a page begins with, as its list offers them.
TAILS = (100, 200, 500, 1000, 2000)
#: Lines and characters after which a page that follows stops: a browser holds all of them.
_MOST_LINES, _MOST_CHARACTERS = 10_000, 4 << 20
_FIRST_LINES = 200
Tail = Annotated[int, Query(ge=1, le=TAILS[-1])]
_SEVERITIES = {"critical": "Critical", "warn": "Warnings", "info": "For your information"}

router = APIRouter(
    prefix="/pages",
    include_in_schema=False,
    # In this order: a link with a token logs in before anybody is sent away.
    dependencies=[Depends(redeem_link_token), Depends(require_page_operator)],
)


@router.get("/devices")
async def read_devices(request: Request, devices: DeviceServiceDep) -> Response:
    """Show who may talk to the bot, and who asks to."""
    return await _show_devices(request, devices)


@router.post("/devices/approve")
async def approve_device(request: Request, device: Annotated[Id, Form()], devices: DeviceServiceDep) -> Response:
    """Let a device in."""
    await devices.decide(device, approve=True)
    return await _show_devices(request, devices, "The device is let in, with all that it asked for.")


@router.post("/devices/reject")
async def reject_device(request: Request, device: Annotated[Id, Form()], devices: DeviceServiceDep) -> Response:
    """Turn a device away."""
    await devices.decide(device, approve=False)
    return await _show_devices(request, devices, "The device is turned away. It may ask again.")


@router.post("/devices/pairing")
async def approve_pairing(
    request: Request,
    channel: Annotated[Channel, Form()],
    account: Annotated[Account, Form()],
    sender: Annotated[Id, Form()],
    devices: DeviceServiceDep,
    notify: Annotated[bool, Form()] = False,
) -> Response:
    """Let somebody in a chat talk to the bot."""
    await devices.approve_pairing(PairingApproval(channel=channel, account=account, request=sender, notify=notify))
    bot = get_services(request).settings.bot
    return await _show_devices(request, devices, f"Whoever asked may talk to {bot} in {channel} now.")


@router.get("/logs")
async def read_logs(
    request: Request, broker: BrokerDep, part: LogPart = "gateway", tail: Tail = _FIRST_LINES, follow: bool = True
) -> Response:
    """Show the end of a log; a page that follows gets its lines by the stream."""
    lines: list[tuple[str, str]] = []
    problem = None
    if not follow:
        try:
            lines = [split_time(line) async for line in broker.logs(part, tail=tail)][-tail:]
        except Refusal as refusal:
            problem = str(refusal)
    context = {"part": part, "parts": get_args(LogPart), "tail": tail, "tails": sorted({*TAILS, tail})}
    return render_page(request, "logs.html", {**context, "follow": follow, "lines": lines, "problem": problem})


@router.get("/logs/events")
async def follow_logs(
    request: Request, streams: LogStreamsDep, part: LogPart = "gateway", tail: Tail = _FIRST_LINES
) -> StreamingResponse:
    """Stream a log as pieces of its page."""
    streams.check_room()
    return StreamingResponse(
        _log_events(request, part, tail), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


@router.get("/security")
async def read_security(request: Request, audit: SecurityAuditDep) -> Response:
    """Show what OpenClaw's security audit found last; while one is made, the page looks again by itself."""
    found = audit.last()
    report = found.report if found else None
    findings = {
        title: [one for one in report.findings if one.severity == severity] for severity, title in _SEVERITIES.items()
    } if report else {}  # fmt: skip
    elapsed, usual = audit.progress
    context = {"audit": found, "report": report, "findings": findings, "elapsed": elapsed, "usual": usual}
    return render_page(request, "security.html", {**context, "now": _now()})


@router.post("/security/run")
async def run_security_audit(request: Request, audit: SecurityAuditDep) -> Response:
    """Begin a security audit."""
    audit.begin()
    return _see(request, "/pages/security")


@router.get("/restart")
async def read_restart(request: Request, restart: RestartDep, status: StatusServiceDep) -> Response:
    """Ask whether the gateway is to be restarted, and show how it is after the last time."""
    context = {"last": restart.last, "gateway": await status.read_gateway(), "now": _now()}
    return render_page(request, "restart.html", context)


@router.post("/restart")
async def restart_gateway(request: Request, restart: RestartDep) -> Response:
    """Restart the gateway; the page tells what became of it."""
    restart.begin()
    return _see(request, "/pages/restart")


async def _show_devices(request: Request, devices: DeviceService, done: str | None = None) -> Response:
    found, pairing = await asyncio.gather(_or_text(devices.read_all()), _or_text(devices.read_pairing()))
    context: dict[str, Any] = {"devices": found, "pairing": pairing, "channels": [], "done": done, "now": _now()}
    if isinstance(pairing, PairingRequests):
        context["channels"] = _by_channel(pairing)
    return render_page(request, "devices.html", context)


async def _or_text(wanted: Any) -> Devices | PairingRequests | str:
    """What was asked for, or why it is not there."""
    try:
        found: Devices | PairingRequests = await wanted
    except CoreError as error:
        return str(error)
    return found


def _by_channel(pairing: PairingRequests) -> list[dict[str, Any]]:
    """The accounts in which people have to ask, each with those who do."""
    return [
        {
            "account": account,
            "requests": [
                one for one in pairing.requests if (one.channel, one.account) == (account.channel, account.account)
            ],
        }
        for account in pairing.accounts
    ]


async def _log_events(request: Request, part: LogPart, tail: int) -> AsyncIterator[str]:
    """``start`` empties the page's list, also when a browser connects again; ``lines`` adds to it; ``end`` is last."""
    services = get_services(request)
    root = request.scope.get("root_path", "")

    def render(name: str, **context: Any) -> str:
        text = services.templates.get_template(name).render(root=root, part=part, tail=tail, **context)
        return text.strip()

    yield event("start", render("_log_start.html"))
    lines = characters = 0
    problem = None
    async with aclosing(services.logs.read(part, tail)) as batches:
        async for batch in batches:
            if isinstance(batch, Refusal):
                problem = str(batch)
                break
            if not batch:
                yield HEARTBEAT
                continue
            yield event("lines", render("_log_lines.html", lines=[split_time(line) for line in batch]))
            lines, characters = lines + len(batch), characters + sum(map(len, batch))
            if lines > _MOST_LINES or characters > _MOST_CHARACTERS:
                problem = "This page has enough lines for one browser."
                break
    yield event("ended", render("_log_end.html", problem=problem))
    yield event("end", "")


def _see(request: Request, path: str) -> Response:
    return RedirectResponse(request.scope.get("root_path", "") + path, status_code=303)


def _now() -> datetime:
    return datetime.now(UTC)
