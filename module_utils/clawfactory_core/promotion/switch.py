"""Exchanges the approved tree for the next one in one step, and knows after a crash which of the two stands there.

    approved            what the gateway is bound to        approved.next       one in the making, or the one before
    approved.previous   the one before, once all is well    approved.moving     see below

Where the file system cannot exchange, ``approved`` is moved to ``approved.moving`` first, and from there to
``approved.next``; :func:`settle` completes or takes back what a crash left of that.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import time
from pathlib import Path

from ..errors import CoreError
from ..files import sync_directory

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h
_REMOVE_SECONDS = 30.0
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


def exchange(approved: Path, following: Path) -> None:
    """Let the two directories swap names; on disk when this returns.

    :raises OSError: nothing has changed, or :func:`settle` takes back what has.
    """
    try:
        _exchange(approved, following)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        moving = _moving(approved)
        os.rename(approved, moving)
        os.rename(following, approved)
        os.rename(moving, following)
    sync_directory(approved.parent)


def settle(approved: Path, following: Path) -> None:
    """Complete or take back an exchange that was cut short, so that ``approved`` stands there."""
    moving = _moving(approved)
    if os.path.lexists(moving):
        os.rename(moving, following if os.path.lexists(approved) else approved)
        sync_directory(approved.parent)


def discard(path: Path) -> None:
    """Remove a tree that nothing uses, at once from its name: half a tree never has a name that means something."""
    if os.path.lexists(path):
        gone = path.with_name(f".{path.name}.discarded-{os.urandom(4).hex()}")
        os.rename(path, gone)
        sync_directory(path.parent)
    for left in path.parent.glob(f".{path.name}.discarded-*"):
        _remove(left)


def replace(path: Path, target: Path) -> None:
    """Give ``path`` the name ``target``, whose own tree goes."""
    discard(target)
    os.rename(path, target)
    sync_directory(target.parent)


def _remove(path: Path) -> None:
    deadline = time.monotonic() + _REMOVE_SECONDS
    while True:
        try:
            shutil.rmtree(path)
            return
        except OSError as error:
            # The git of a killed process may still be writing there; it ends when its checkout does.
            if time.monotonic() >= deadline:
                raise CoreError(f"{path} cannot be removed: {error.strerror or error}; remove it by hand") from error
        time.sleep(0.1)


def _moving(approved: Path) -> Path:
    return approved.with_name(f"{approved.name}.moving")


def _exchange(one: Path, other: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    renameat2 = getattr(libc, "renameat2", None)
    if renameat2 is None:  # a C library from before 2018
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    paths = (os.fsencode(one), os.fsencode(other))
    if renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(one))
