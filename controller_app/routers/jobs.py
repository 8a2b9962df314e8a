"""Jobs of the machine, for the operator."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from starlette.responses import StreamingResponse

from clawfactory_core.jobs.protocol import Refusal

from ..dependencies import JobsDep, require_operator
from ..schemas.promotion import Job
from ..services.jobs import JobsClient

JobId = Annotated[str, Path(pattern="^[0-9a-f]{24}$")]

router = APIRouter(tags=["jobs"], dependencies=[Depends(require_operator)])


@router.get("/jobs")
async def read_jobs(jobs: JobsDep) -> list[Job]:
    """Return the latest jobs, the newest first."""
    return [Job.model_validate(job) for job in (await jobs.ask("jobs"))["jobs"]]


@router.get("/jobs/{job}")
async def read_job(job: JobId, jobs: JobsDep) -> Job:
    """Return one job."""
    return Job.model_validate((await jobs.ask("job", id=job))["job"])


@router.get(
    "/jobs/{job}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def follow_job(job: JobId, jobs: JobsDep) -> StreamingResponse:
    """Stream the states of a job as server-sent events until it has ended."""
    await jobs.ask("job", id=job)  # one that is not there is a problem document, not a stream
    return StreamingResponse(_events(jobs, job), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _events(jobs: JobsClient, job: str) -> AsyncIterator[str]:
    try:
        async for state in jobs.follow(job):
            yield _event("job", Job.model_validate(state).model_dump())
    except Refusal as refusal:
        yield _event("problem", refusal.to_dict())


def _event(name: str, document: dict[str, Any]) -> str:
    # JSON has no line breaks outside of its strings, and none of them unescaped inside.
    return f"event: {name}\ndata: {json.dumps(document)}\n\n"
