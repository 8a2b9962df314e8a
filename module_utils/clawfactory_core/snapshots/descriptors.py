"""Reading and writing at an offset, however little the kernel takes at once, and having it begin to write."""

from __future__ import annotations

import os

_BEGIN_EVERY = 8 << 20
# Linux takes memory for its cache of a file in runs as long as a write. Up to eight pages it takes them from those a
# processor has just given back; longer ones from further off, which takes three times as long as the copy itself.
_WRITE = 32 << 10


def read_at(descriptor: int, length: int, offset: int) -> bytes:
    """:returns: ``length`` bytes at ``offset``, fewer only where the file ends."""
    data = os.pread(descriptor, length, offset)
    while 0 < len(data) < length:
        more = os.pread(descriptor, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset``. :raises OSError: part of it may be written."""
    view = memoryview(data)
    start = 0
    while start < len(view):
        start += os.pwrite(descriptor, view[start : start + _WRITE], offset + start)


class WriteBehind:
    """Has the kernel begin to write a growing file to disk, so that little is left to wait for at its end.

    Left alone it gathers gigabytes, then a sync waits for all of them while the processors are idle.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._begun = 0

    def grown(self, size: int) -> None:
        """Tell how large the file is by now; what was told before is not written to any more."""
        if size - self._begun >= _BEGIN_EVERY:
            # Starts writing what is dirty, waits for nothing, and drops only what is on disk already.
            os.posix_fadvise(self._descriptor, self._begun, size - self._begun, os.POSIX_FADV_DONTNEED)
            self._begun = size
