"""Pages of the operator. What they show, the API has too; what they do is in :mod:`.actions`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from clawfactory_core.errors import CoreError
from clawfactory_core.jobs.protocol import Refusal

from ..dependencies import (
    JobsDep,
    MachineDep,
    ProposalServiceDep,
    StatusServiceDep,
    get_services,
    redeem_link_token,
    require_page_operator,
)
from ..schemas.audit import AuditPage, AuditVerification
from ..schemas.promotion import Job, PastPromotion
from ..schemas.snapshots import ContentsPath, Memory, SnapshotId
from ..schemas.status import ScheduledSnapshot, Status
from ..services.chart import HEIGHT, WIDTH, draw_growth
from ..services.diff import parse_diff
from ..services.jobs import JobsClient
from ..web import render_page
from .audit import EventName, LineNumber
from .jobs import JobId
from .promotion import Name

router = APIRouter(
    include_in_schema=False,
    # In this order: a link with a token logs in before anybody is sent away.
    dependencies=[Depends(redeem_link_token), Depends(require_page_operator)],
)


@router.get("/")
@router.get("/controller")
async def read_overview(request: Request, status: StatusServiceDep) -> Response:
    """Show the state of the bot."""
    look = await status.look()

    def render(seen: Status) -> bytes:
        return bytes(render_page(request, "overview.html", {"status": seen}).body)

    # The page says nothing about who looks at it, only about what is before its addresses.
    return HTMLResponse(look.write(f"overview below {request.scope.get('root_path', '')}", render))


@router.get("/pages/proposals")
async def read_proposals(request: Request, proposals: ProposalServiceDep) -> Response:
    """Show what the bot has proposed."""
    return render_page(request, "proposals.html", {"proposals": await proposals.list_all(), "now": _now()})


@router.get("/pages/proposals/{name:path}")
async def read_proposal(request: Request, name: Name, proposals: ProposalServiceDep) -> Response:
    """Show what a proposal would change, with the two decisions."""
    proposal = await proposals.find(name)
    diff = await asyncio.to_thread(parse_diff, await proposals.diff(name))
    return render_page(request, "proposal.html", {"proposal": proposal, "diff": diff, "now": _now()})


@router.get("/pages/history")
async def read_history(request: Request, machine: MachineDep) -> Response:
    """Show what was promoted, with the way back."""
    found = await machine.read_promotion()
    history = [PastPromotion.model_validate(entry) for entry in found["history"]]
    return render_page(request, "history.html", {"promotion": found, "history": history, "now": _now()})


@router.get("/pages/snapshots")
async def read_snapshots(request: Request, machine: MachineDep) -> Response:
    """Show the snapshots and what can be done with them."""
    snapshots, info = await asyncio.gather(machine.list_snapshots(), machine.read())
    parents = {one.parent for one in snapshots}
    context = {
        "snapshots": list(reversed(snapshots)),
        "parents": parents,
        "chart": draw_growth(snapshots),
        "width": WIDTH,
        "height": HEIGHT,
        "total": sum(one.size for one in snapshots),
        "machine": info,
        "schedule": ScheduledSnapshot.find(info),
        "now": _now(),
    }
    return render_page(request, "snapshots.html", context)


@router.get("/pages/snapshots/{name}")
async def read_contents(request: Request, name: SnapshotId, machine: MachineDep, path: ContentsPath = "") -> Response:
    """Show a directory of a snapshot, and the way to it."""
    parts = path.split("/") if path else []
    above = [(part, "/".join(parts[: number + 1])) for number, part in enumerate(parts)]
    context = {"name": name, "above": above, "contents": await machine.read_contents(name, path)}
    return render_page(request, "contents.html", context)


@router.get("/pages/memory")
async def read_memory(request: Request, jobs: JobsDep) -> Response:
    """Show what the bot remembers, as far as it is text."""
    memory = Memory.model_validate((await jobs.ask("memory_info"))["memory"])
    return render_page(request, "memory.html", {"memory": memory})


@router.get("/pages/audit")
async def read_audit(request: Request, jobs: JobsDep, event: EventName = None, before: LineNumber = None) -> Response:
    """Show what was decided, and whether the log is whole."""
    number = None if before is None else str(before)
    asked, chain = await asyncio.gather(jobs.ask("audit", event=event, before=number), _read_chain(jobs))
    page = AuditPage.model_validate(asked["audit"])
    return render_page(request, "audit.html", {"page": page, "chain": chain, "event": event, "before": before})


@router.get("/pages/jobs")
async def read_jobs(request: Request, jobs: JobsDep) -> Response:
    """Show what the machine was asked for lately."""
    found = [Job.model_validate(job) for job in (await jobs.ask("jobs"))["jobs"]]
    return render_page(request, "jobs.html", {"jobs": found, "now": _now()})


@router.get("/pages/jobs/{job}")
async def read_job(request: Request, job: JobId, jobs: JobsDep) -> Response:
    """Show one job; while it goes on, the page follows it."""
    found = Job.model_validate((await jobs.ask("job", id=job))["job"])
    return render_page(request, "job.html", {"job": found})


@router.get("/pages/jobs/{job}/events")
async def follow_job(request: Request, job: JobId, jobs: JobsDep) -> StreamingResponse:
    """Stream a job as pieces of its page, until it has ended."""
    await jobs.ask("job", id=job)  # one that is not there is a page that says so, not a stream
    return StreamingResponse(
        _events(request, jobs, job), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


@router.get("/pages/lock")
async def read_lock(request: Request) -> Response:
    """Ask whether the bot is to be locked."""
    return render_page(request, "lock.html", {})


async def _read_chain(jobs: JobsClient) -> AuditVerification | str:
    try:
        return AuditVerification.model_validate((await jobs.ask("audit_verify"))["audit"])
    except CoreError as error:
        return str(error)


async def _events(request: Request, jobs: JobsClient, job: str) -> AsyncIterator[str]:
    state = ""
    try:
        async for found in jobs.follow(job):
            shown = Job.model_validate(found)
            if shown.state != state:
                state = shown.state
                yield _event(request, "state", "_job_state.html", {"job": shown})
            yield _event(request, "job", "_job.html", {"job": shown})
        yield "event: end\ndata:\n\n"
    except Refusal:
        # The browser asks again by itself; the page then tells what does not answer.
        return


def _event(request: Request, name: str, template: str, context: dict[str, Any]) -> str:
    services = get_services(request)
    root = request.scope.get("root_path", "")
    text = services.templates.get_template(template).render(root=root, bot=services.settings.bot, **context)
    data = "".join(f"data: {line}\n" for line in text.splitlines())
    return f"event: {name}\n{data}\n"


def _now() -> datetime:
    return datetime.now(UTC)
