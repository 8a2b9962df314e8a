"""What the pages' forms do. Each asks the machine for a job and leads to its page, which tells what became of it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from pydantic import StringConstraints
from starlette.responses import RedirectResponse, Response

from ..dependencies import JobsDep, ProposalServiceDep, get_services, require_page_operator
from ..schemas.agent import Label
from ..schemas.promotion import Commit, Reason
from ..schemas.snapshots import SnapshotId
from ..services.jobs import JobsClient
from ..web import render_page
from .promotion import Name

_ACTOR = "operator"
CommitField = Annotated[Commit, Form()]
SnapshotField = Annotated[SnapshotId, Form()]
NewLabel = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$"), Form()]

router = APIRouter(include_in_schema=False, dependencies=[Depends(require_page_operator)])


@router.post("/pages/proposals/{name:path}/promote")
async def promote(
    request: Request, name: Name, expected_sha: CommitField, proposals: ProposalServiceDep, jobs: JobsDep
) -> Response:
    """Merge and promote what was shown."""
    proposal = await proposals.find(name)
    fields = {"source": "dashboard", "proposal": proposal.name, "expected_sha": expected_sha}
    return await _ask(request, jobs, "promotion", **fields)


@router.post("/pages/proposals/{name:path}/deny")
async def deny(
    request: Request, name: Name, reason: Annotated[Reason, Form()], proposals: ProposalServiceDep, jobs: JobsDep
) -> Response:
    """Close a proposal."""
    proposal = await proposals.find(name)
    # Browsers send the ends of lines as the network has them.
    return await _ask(request, jobs, "deny", proposal=proposal.name, reason=reason.replace("\r\n", "\n"))


@router.post("/pages/history/promote-main")
async def promote_main(request: Request, proposals: ProposalServiceDep, jobs: JobsDep) -> Response:
    """Promote the newest commit of the approved branch."""
    return await _ask(request, jobs, "promotion", source="dashboard", sha=await proposals.read_main())


@router.post("/pages/history/rollback")
async def roll_back(request: Request, sha: CommitField, jobs: JobsDep) -> Response:
    """Go back to a commit."""
    return await _ask(request, jobs, "rollback", sha=sha)


@router.post("/pages/snapshots/create")
async def create(request: Request, jobs: JobsDep, label: Annotated[Label, Form()] = "") -> Response:
    """Make a snapshot."""
    return await _ask(request, jobs, "snapshot", label=label or None)


@router.post("/pages/snapshots/verify")
async def verify(
    request: Request, name: SnapshotField, jobs: JobsDep, content: Annotated[bool, Form()] = False
) -> Response:
    """Verify a snapshot."""
    return await _ask(request, jobs, "snapshot_verify", snapshot=name, how="content" if content else "digest")


@router.post("/pages/snapshots/rename")
async def rename(request: Request, name: SnapshotField, label: NewLabel, jobs: JobsDep) -> Response:
    """Give a snapshot another label."""
    return await _ask(request, jobs, "snapshot_rename", snapshot=name, new_label=label)


@router.post("/pages/snapshots/restore")
async def restore(
    request: Request, name: SnapshotField, jobs: JobsDep, confirm: Annotated[str, Form(max_length=64)] = ""
) -> Response:
    """Replace the bot's state, if its name was typed."""
    _require_name(request, confirm)
    return await _ask(request, jobs, "snapshot_restore", snapshot=name)


@router.post("/pages/snapshots/delete")
async def delete(request: Request, name: SnapshotField, jobs: JobsDep) -> Response:
    """Delete a snapshot."""
    return await _ask(request, jobs, "snapshot_delete", snapshot=name)


@router.post("/pages/memory/backup")
async def back_up_memory(request: Request, jobs: JobsDep) -> Response:
    """Copy the memory to its branch."""
    return await _ask(request, jobs, "memory_backup")


@router.post("/pages/lock")
async def lock(
    request: Request,
    jobs: JobsDep,
    confirm: Annotated[str, Form(max_length=64)] = "",
    reason: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Throw the kill switch, if the bot's name was typed. It waits for no job, and nothing here takes it back."""
    _require_name(request, confirm)
    said = " ".join(reason.split())
    answer = await jobs.ask("lock", actor=_ACTOR, reason=said or None)
    return render_page(request, "locked.html", {"lock": answer["lock"]})


def _require_name(request: Request, confirm: str) -> None:
    bot = get_services(request).settings.bot
    if confirm.strip() != bot:
        raise HTTPException(422, f"Nothing was done: type the name of the bot, {bot}, to confirm.")


async def _ask(request: Request, jobs: JobsClient, op: str, **fields: str | None) -> Response:
    job = (await jobs.ask(op, actor=_ACTOR, **fields))["job"]
    return RedirectResponse(f"{request.scope.get('root_path', '')}/pages/jobs/{job['id']}", status_code=303)
