"""Deciding about proposals and commits, for the operator. The machine does it; here it is only asked for."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Path

from ..dependencies import JobsDep, MachineDep, ProposalServiceDep, require_operator
from ..schemas.promotion import (
    Branch,
    BranchDiff,
    DenyRequest,
    Job,
    MergeRequest,
    PastPromotion,
    PromotionRequest,
    RollbackRequest,
)

_ACTOR = "operator"
Name = Annotated[str, Path(pattern=r"^(?:proposal/)?[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$")]

router = APIRouter(tags=["promotion"], dependencies=[Depends(require_operator)])


@router.get("/branches")
async def read_branches(proposals: ProposalServiceDep) -> list[Branch]:
    """Return what the bot has proposed, the newest first."""
    return [Branch.model_validate(proposal) for proposal in await proposals.list_all()]


@router.get("/branches/{name:path}/diff")
async def read_branch_diff(name: Name, proposals: ProposalServiceDep) -> BranchDiff:
    """Return what a proposal would change."""
    return BranchDiff(diff=await proposals.diff(name))


@router.post("/branches/{name:path}/merge", status_code=202)
async def merge_branch(name: Name, body: MergeRequest, proposals: ProposalServiceDep, jobs: JobsDep) -> Job:
    """Merge a proposal into the approved branch and promote it."""
    proposal = await proposals.find(name)
    fields = {"proposal": proposal.name, "expected_sha": body.expected_sha}
    return _job(await jobs.ask("promotion", actor=_ACTOR, source="dashboard", **fields))


@router.post("/branches/{name:path}/deny", status_code=202)
async def deny_branch(name: Name, body: DenyRequest, proposals: ProposalServiceDep, jobs: JobsDep) -> Job:
    """Close a proposal, with a reason that the bot can read."""
    proposal = await proposals.find(name)
    return _job(await jobs.ask("deny", actor=_ACTOR, proposal=proposal.name, reason=body.reason))


@router.post("/controller/promote-main", status_code=202)
async def promote_main(proposals: ProposalServiceDep, jobs: JobsDep) -> Job:
    """Promote what the approved branch is at now, at the remote if there is one."""
    return _job(await jobs.ask("promotion", actor=_ACTOR, source="dashboard", sha=await proposals.read_main()))


@router.post("/controller", status_code=202)
async def promote_commit(body: PromotionRequest, jobs: JobsDep) -> Job:
    """Promote a commit of the approved branch."""
    return _job(await jobs.ask("promotion", actor=_ACTOR, source="dashboard", sha=body.sha))


@router.get("/controller/history")
async def read_history(machine: MachineDep) -> list[PastPromotion]:
    """Return the latest promotions and rollbacks, the newest first."""
    return [PastPromotion.model_validate(entry) for entry in (await machine.read_promotion())["history"]]


@router.post("/controller/rollback", status_code=202)
async def roll_back(jobs: JobsDep, body: Annotated[RollbackRequest | None, Body()] = None) -> Job:
    """Go back to what was approved before, or to a commit that was."""
    return _job(await jobs.ask("rollback", actor=_ACTOR, sha=body.sha if body else None))


def _job(answer: dict[str, object]) -> Job:
    return Job.model_validate(answer["job"])
