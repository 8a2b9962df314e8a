"""Work that is killed before one of its changes of the file system."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

from clawfactory_core.errors import CoreError

CALLS = (
    "open",
    "mkdir",
    "rmdir",
    "rename",
    "replace",
    "link",
    "unlink",
    "fsync",
    "chown",
    "fchown",
    "fchmod",
    "symlink",
    "utime",
)


def killing_at(count: int, work: Callable[[], object]) -> tuple[int, int]:
    """Do ``work`` in a child that is killed before its ``count``-th change of the file system.

    :returns: its status and, if it got to the end, how many changes there were.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        done = 0

        def counting(real: Callable[..., object]) -> Callable[..., object]:
            def call(*args: object, **options: object) -> object:
                nonlocal done
                done += 1
                if done == count:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **options)

            return call

        for name in CALLS:
            setattr(os, name, counting(getattr(os, name)))
        with suppress(CoreError):
            work()
            os.write(writing, str(done).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as result:
        text = result.read()
    return os.waitpid(child, 0)[1], int(text or 0)
