"""Pid files of our own services: a second process of the same service sees that it is not wanted."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def hold_pidfile(path: Path) -> int | None:
    """Descriptor of the locked file, which holds the process id and is to be kept open; ``None`` if another has it.

    :raises OSError: it cannot be made, or is a link.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor
