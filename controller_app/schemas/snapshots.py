"""Documents of the operator's API about snapshots and the memory."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

SNAPSHOT_ID = r"^(?:[A-Za-z0-9_-]{1,80}--|snapshot-)[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}Z$"
SnapshotId = Annotated[str, StringConstraints(pattern=SNAPSHOT_ID, max_length=120)]
_EXAMPLE = "before-upgrade--2026-11-22T10-00-00Z"


class Snapshot(BaseModel):
    """One snapshot of the bot."""

    model_config = ConfigDict(extra="ignore")

    id: str = Field(examples=[_EXAMPLE])
    time: datetime
    kind: Literal["full", "inc", "legacy"]
    #: Bytes of the encrypted archive.
    size: int
    label: str = Field(examples=["before-upgrade"])
    #: Id of the snapshot that it builds upon.
    parent: str | None
    #: When it last passed a verification.
    verified: datetime | None
    #: Why it cannot be restored; empty if it can.
    problem: str


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SnapshotNamed(_Body):
    """Names a snapshot by its whole id."""

    name: SnapshotId = Field(examples=[_EXAMPLE])


class VerifyRequest(SnapshotNamed):
    """Verifies a snapshot and all that it builds upon."""

    #: Decrypt and check everything in it, not the archive's digest alone; needs the private key on the machine.
    content: bool = Field(default=False, examples=[True])


class RenameRequest(SnapshotNamed):
    """Gives a snapshot another label; its id stays."""

    label: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = Field(examples=["keep-this"])


#: Of a directory in a snapshot, relative to the bot's state, escaped as in docs/snapshot-format.md.
ContentsPath = Annotated[str, StringConstraints(pattern=r"^(?:[A-Za-z0-9._/-]|\\0[0-3][0-7]{2})*$", max_length=4096)]


class SnapshotEntry(BaseModel):
    """What lies in a directory of a snapshot."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(examples=["MEMORY.md"])
    kind: Literal["file", "directory", "link"]
    #: Bytes of the file, or of all files below the directory.
    bytes: int
    #: Files below the directory; 1 of a file, 0 of a link.
    files: int
    time: datetime
    #: Where the link points.
    target: str


class SnapshotContents(BaseModel):
    """A directory of a snapshot."""

    #: Relative to the bot's state; empty for the state itself.
    path: str = Field(examples=["workspace"])
    #: At most 1,000, directories first.
    entries: list[SnapshotEntry]
    #: Entries of the directory, all of them.
    count: int
    #: Entries and bytes of the whole snapshot.
    total_count: int
    total_bytes: int


class Memory(BaseModel):
    """What a backup of the memory would save now."""

    model_config = ConfigDict(extra="ignore")

    #: Tip of the branch ``memory-backup``; empty before the first backup.
    commit: str
    #: Whether a backup now would save something new.
    changed: bool
    #: Bytes by path below the workspace.
    files: dict[str, int] = Field(examples=[{"MEMORY.md": 2048}])
    #: Reasons by path.
    left_out: dict[str, str]
    #: Bytes of the vector stores, which are in snapshots alone.
    indexes: dict[str, int]
    #: Whether the branch is pushed to the remote.
    remote: bool
