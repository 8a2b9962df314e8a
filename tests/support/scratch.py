"""Scratch directories of tests that other users are to see."""

from __future__ import annotations

from pathlib import Path


def open_to_all(directory: Path) -> None:
    """Let every user come as far as a directory; what lets them already, as ``/tmp`` does, stays as it is."""
    for each in (directory, *directory.parents):
        mode = each.stat().st_mode & 0o7777
        if mode & 0o055 != 0o055:
            each.chmod(mode | 0o055)
