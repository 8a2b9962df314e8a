"""What the bot may ask for; served on the inside network by an application of its own."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Path

from ..dependencies_agent import AgentServiceDep, require_agent
from ..schemas.agent import AgentJob, AgentProposal, AgentSnapshot, AgentStatus, SnapshotRequest

router = APIRouter(prefix="/agent", dependencies=[Depends(require_agent)])


@router.get("/status")
async def read_agent_status(agent: AgentServiceDep) -> AgentStatus:
    """Return what the bot is now."""
    return await agent.read_status()


@router.get("/proposals")
async def read_agent_proposals(agent: AgentServiceDep) -> list[AgentProposal]:
    """Return what was proposed and what became of it."""
    return await agent.list_proposals()


@router.get("/snapshot")
async def read_agent_snapshots(agent: AgentServiceDep) -> list[AgentSnapshot]:
    """Return all snapshots of the bot."""
    return await agent.list_snapshots()


@router.post("/snapshot", status_code=202)
async def create_agent_snapshot(
    agent: AgentServiceDep, body: Annotated[SnapshotRequest | None, Body()] = None
) -> AgentJob:
    """Ask for a snapshot."""
    return await agent.create_snapshot(body.label if body else "")


@router.get("/jobs/{job}")
async def read_agent_job(agent: AgentServiceDep, job: Annotated[str, Path(pattern="^[0-9a-f]{24}$")]) -> AgentJob:
    """Return the state of a snapshot that the bot has asked for."""
    return await agent.read_job(job)
