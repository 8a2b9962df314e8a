"""Directories of a test that other users of the machine may enter."""

from __future__ import annotations

import tempfile
from pathlib import Path


def open_to_others(path: Path) -> None:
    """Open a test's temporary directory, and every one above it that pytest made, to users that a test becomes."""
    top = Path(tempfile.gettempdir())
    for each in (path, *path.parents):
        if top in each.parents:
            each.chmod(0o755)
