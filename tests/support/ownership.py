"""File ownership in tests: the kernel's where the tests run as root, else kept beside the files.

Code under test gives files to root and to bots' user ids, which only root may do. An unprivileged run remembers what
was asked for by inode and shows it to ``os.lstat``; everything else stays the operating system's.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

StrPath = str | os.PathLike[str]


class Ownership:
    """What the kernel says."""

    def of(self, path: Path) -> tuple[int, int]:
        """``(user id, group id)`` of a path; links are not followed."""
        found = os.lstat(path)
        return found.st_uid, found.st_gid

    def give(self, path: Path, uid: int, gid: int) -> None:
        os.chown(path, uid, gid, follow_symlinks=False)


class RecordedOwnership(Ownership):
    """Remembers changes of owner instead of making them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._owners: dict[tuple[int, int], tuple[int, int]] = {}
        self._lstat = os.lstat
        monkeypatch.setattr(os, "lstat", self._shown)
        monkeypatch.setattr(os, "chown", self._chown)
        monkeypatch.setattr(os, "fchown", lambda descriptor, uid, gid: self._record(os.fstat(descriptor), uid, gid))

    def _shown(self, path: StrPath, *, dir_fd: int | None = None) -> os.stat_result:
        found = self._lstat(path, dir_fd=dir_fd)
        owner = self._owners.get((found.st_dev, found.st_ino))
        return os.stat_result((*found[:4], *owner, *found[6:10])) if owner else found

    def _chown(
        self, path: StrPath, uid: int, gid: int, *, dir_fd: int | None = None, follow_symlinks: bool = True
    ) -> None:
        found = os.stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        self._record(found, uid, gid)

    def _record(self, found: os.stat_result, uid: int, gid: int) -> None:
        key = (found.st_dev, found.st_ino)
        before = self._owners.get(key, (found.st_uid, found.st_gid))
        self._owners[key] = (before[0] if uid == -1 else uid, before[1] if gid == -1 else gid)


def make_ownership(monkeypatch: pytest.MonkeyPatch) -> Ownership:
    return Ownership() if os.geteuid() == 0 else RecordedOwnership(monkeypatch)
