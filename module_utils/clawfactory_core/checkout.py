"""What a Git checkout is at, without asking Git: for many of them, and as root of one that is not root's."""

from __future__ import annotations

import re
from pathlib import Path


def commit(repository: Path) -> str:
    """Commit that a checkout is at, read from its files; empty when there is none."""
    git = repository / ".git"
    found = small_text(git / "HEAD")
    if found.startswith("ref: "):
        reference = found.removeprefix("ref: ")
        packed = small_text(git / "packed-refs").splitlines()
        found = small_text(git / reference) or next(
            (line.split()[0] for line in packed if line.endswith(" " + reference)), ""
        )
    # The checkout is not root's: a reference or link in it that leads elsewhere must not show what is there.
    return found if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", found) else ""


def small_text(path: Path) -> str:
    """Text of a small file without the space around it; empty when there is no such file."""
    try:
        return path.read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
