"""Snapshots and the memory, for the operator. The machine does it; here it is only asked for."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Path
from starlette.responses import StreamingResponse

from ..dependencies import ArchivesDep, JobsDep, MachineDep, require_operator
from ..schemas.agent import SnapshotRequest
from ..schemas.promotion import Job
from ..schemas.snapshots import (
    ContentsPath,
    Memory,
    RenameRequest,
    Snapshot,
    SnapshotContents,
    SnapshotId,
    SnapshotNamed,
    VerifyRequest,
)
from ..services.jobs import JobsClient

_ACTOR = "operator"
#: An id, or the name of an archive's file.
ArchiveName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,110}(?:\.(?:full|inc)\.tar\.zst\.age|\.tar\.age)?$")]

router = APIRouter(tags=["snapshots"], dependencies=[Depends(require_operator)])


@router.get("/snapshot")
async def read_snapshots(machine: MachineDep) -> list[Snapshot]:
    """Return all snapshots of the bot, the newest last."""
    return await machine.list_snapshots()


@router.post("/snapshot", status_code=202)
async def create_snapshot(jobs: JobsDep, body: Annotated[SnapshotRequest | None, Body()] = None) -> Job:
    """Ask for a snapshot."""
    label = body.label if body else ""
    return await _ask(jobs, "snapshot", label=label or None)


@router.post("/snapshot/verify", status_code=202)
async def verify_snapshot(body: VerifyRequest, jobs: JobsDep) -> Job:
    """Verify a snapshot: its archives against their digests, or with the key everything in them.

    409 where ``content`` needs a key that is not on the machine; the text names the playbook to run where it is.
    """
    return await _ask(jobs, "snapshot_verify", snapshot=body.name, how="content" if body.content else "digest")


@router.post("/snapshot/restore", status_code=202)
async def restore_snapshot(body: SnapshotNamed, jobs: JobsDep) -> Job:
    """Replace the bot's state by that of a snapshot; the bot is stopped meanwhile.

    A snapshot of what is replaced is made first. 409 where the key is not on the machine; the text names the playbook
    to run where it is.
    """
    return await _ask(jobs, "snapshot_restore", snapshot=body.name)


@router.post("/snapshot/rename", status_code=202)
async def rename_snapshot(body: RenameRequest, jobs: JobsDep) -> Job:
    """Give a snapshot another label."""
    return await _ask(jobs, "snapshot_rename", snapshot=body.name, new_label=body.label)


@router.post("/snapshot/delete", status_code=202)
async def delete_snapshot(body: SnapshotNamed, jobs: JobsDep) -> Job:
    """Delete a snapshot for good. One that others build upon stays, and so does the newest."""
    return await _ask(jobs, "snapshot_delete", snapshot=body.name)


@router.get("/snapshot/contents/{name}")
async def read_contents(name: SnapshotId, machine: MachineDep, path: ContentsPath = "") -> SnapshotContents:
    """Return what is in a directory of a snapshot. All of it is decrypted and verified for that, and nothing is kept.

    409 where the key is not on the machine; the text names the playbook to run where it is.
    """
    return await machine.read_contents(name, path)


@router.get(
    "/snapshot/download/{name}",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def download_snapshot(name: ArchiveName, archives: ArchivesDep) -> StreamingResponse:
    """Return the encrypted archive of a snapshot, as it lies on the machine. An increment needs what it builds upon."""
    archive = await archives.open(name)
    headers = {"Content-Length": str(archive.size), "Content-Disposition": f'attachment; filename="{archive.name}"'}
    return StreamingResponse(archives.stream(archive), media_type="application/octet-stream", headers=headers)


@router.get("/memory/status")
async def read_memory(jobs: JobsDep) -> Memory:
    """Return what a backup of the memory would save now."""
    return Memory.model_validate((await jobs.ask("memory_info"))["memory"])


@router.post("/memory/backup", status_code=202)
async def back_up_memory(jobs: JobsDep) -> Job:
    """Copy the text of the memory to the branch ``memory-backup``."""
    return await _ask(jobs, "memory_backup")


async def _ask(jobs: JobsClient, op: str, **fields: str | None) -> Job:
    return Job.model_validate((await jobs.ask(op, actor=_ACTOR, **fields))["job"])
