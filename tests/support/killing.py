"""Work that is killed before one of its changes of the file system."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
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


def killing_at(count: int, work: Callable[[], object], also: Iterable[tuple[object, str]] = ()) -> tuple[int, int]:
    """Do ``work`` in a child that is killed before its ``count``-th change of the file system.

    :param also: what else counts as a change, as objects and the names of their functions.
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

        for where, name in (*((os, name) for name in CALLS), *also):
            setattr(where, name, counting(getattr(where, name)))
        with suppress(CoreError):
            work()
            os.write(writing, str(done).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as result:
        text = result.read()
    return os.waitpid(child, 0)[1], int(text or 0)
