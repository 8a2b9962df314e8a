"""Reads which commit is approved, from the repository's files alone: without a process, obeying no setting of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_OBJECT_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_BRANCH = re.compile(r"ref: (refs/heads/([A-Za-z0-9_][A-Za-z0-9._/-]{0,199}))")
_LARGEST_REFS_FILE = 4 * 1024 * 1024  # bytes


@dataclass(frozen=True)
class ApprovedCommit:
    """The approved commit, or why it is not known.

    :param commit: full object id.
    :param branch: branch that HEAD is on; ``None`` when detached.
    :param reason: why ``commit`` is ``None``, for the operator.
    """

    commit: str | None
    branch: str | None
    reason: str | None


def read_approved_commit(directory: Path) -> ApprovedCommit:
    """Read the commit that ``directory/.git`` has checked out; every failure is told in ``reason``."""
    git_dir = directory / ".git"
    try:
        head = _read(git_dir / "HEAD")
        if _OBJECT_ID.fullmatch(head):
            return ApprovedCommit(commit=head, branch=None, reason=None)
        match = _BRANCH.fullmatch(head)
        if match is None or ".." in head:
            return ApprovedCommit(None, None, f"{git_dir}/HEAD names neither a commit nor a branch")
        reference, branch = match.groups()
        commit = read_ref(git_dir, reference)
    except (FileNotFoundError, NotADirectoryError):
        return ApprovedCommit(None, None, f"there is no Git repository at {directory}")
    except OSError as error:
        return ApprovedCommit(None, None, f"cannot read {error.filename}: {error.strerror}")
    reason = None if commit else f"branch {branch} has no commit yet"
    return ApprovedCommit(commit=commit, branch=branch, reason=reason)


def read_ref(git_dir: Path, reference: str) -> str | None:
    """Commit that ``reference`` of the repository ``git_dir`` is at, ``None`` if there is no such reference.

    :param reference: full name, which the caller has checked: it becomes part of a path.
    :raises OSError: a file of the repository cannot be read.
    """
    try:
        loose = _read(git_dir / reference)
    except FileNotFoundError:
        loose = ""
    if _OBJECT_ID.fullmatch(loose):
        return loose
    try:
        packed = _read(git_dir / "packed-refs")
    except FileNotFoundError:
        return None
    for line in packed.splitlines():
        commit, _, name = line.partition(" ")
        if name == reference and _OBJECT_ID.fullmatch(commit):
            return commit
    return None


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_LARGEST_REFS_FILE).decode("utf-8", "replace").strip()
