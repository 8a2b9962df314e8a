"""Digests of pieces of a file by a forked child, through memory that both share, while its parent does the rest.

Where little has changed, a snapshot does hardly anything else, and threads would hand the interpreter to each other at
every block.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import socket
from collections import deque
from types import TracebackType
from typing import NoReturn

from ..errors import CoreError
from .digests import BLOCK_SIZE, DIGEST_SIZE, Digester

#: Pieces that it has to do at most, so that neither process waits for the other one.
_AHEAD = 2
_NUMBER = 8


class Twin:
    """A child that computes digests and nothing else; a context manager ends it. It may not do more than its parent.

    It keeps none of the parent's files: make it before anything is open whose locks or end another process waits for.

    :cvar PIECES: that it holds at most, done or not, until their digests are asked for.
    :param size: bytes of a piece at most, a multiple of :data:`.digests.BLOCK_SIZE`.
    """

    PIECES = 4

    def __init__(self, digester: Digester, size: int) -> None:
        self._size, self._found_size = size, size // BLOCK_SIZE * DIGEST_SIZE
        self._pieces = mmap.mmap(-1, self.PIECES * self._size)
        self._found = mmap.mmap(-1, self.PIECES * self._found_size)
        # Bytes of the digests of each piece that it holds; how many were given to it, are done, and were asked for.
        self._lengths: deque[int] = deque()
        self._given = self._done = self._taken = 0
        self._socket, other = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            self._serve(other.detach(), digester)
        other.close()

    def offer(self, piece: bytes) -> bool:
        """Have the digests of ``piece`` computed; whether it takes it, which it does not while it is behind.

        :raises CoreError: the child is gone.
        """
        if self._given > self._done:
            self._hear(socket.MSG_DONTWAIT)
        if self._given - self._done >= _AHEAD or self._given - self._taken >= self.PIECES:
            return False
        start = self._given % self.PIECES * self._size
        self._pieces[start : start + len(piece)] = piece
        try:
            self._socket.sendall(len(piece).to_bytes(_NUMBER, "big"))
        except OSError as error:
            raise self._gone() from error
        self._lengths.append(-(-len(piece) // BLOCK_SIZE) * DIGEST_SIZE)
        self._given += 1
        return True

    def digests(self) -> bytes:
        """Wait for those of the first piece it holds, and let go of it; as of :meth:`.digests.Digester.blocks`.

        :raises CoreError: the child is gone.
        """
        while self._done == self._taken:
            self._hear()
        start = self._taken % self.PIECES * self._found_size
        self._taken += 1
        return self._found[start : start + self._lengths.popleft()]

    def discard(self) -> None:
        """Let go of all pieces."""
        while self._taken < self._given:
            self.digests()

    def close(self) -> None:
        """End the child; again does nothing."""
        self._socket.close()
        if self._pid:
            os.waitpid(self._pid, 0)
            self._pid = 0

    def __enter__(self) -> Twin:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _hear(self, flags: int = 0) -> None:
        try:
            done = self._socket.recv(self.PIECES, flags)
        except BlockingIOError:
            return
        except OSError as error:
            raise self._gone() from error
        if not done:
            raise self._gone()
        self._done += len(done)

    @staticmethod
    def _gone() -> CoreError:
        return CoreError("the process that computed digests ended; there may have been too little memory")

    def _serve(self, descriptor: int, digester: Digester) -> NoReturn:
        status = 1
        # Whatever it is, the parent finds that nobody answers.
        with contextlib.suppress(BaseException):
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            os.closerange(0, descriptor)
            os.closerange(descriptor + 1, limit)
            # The end of the parent, however it comes, is the end of this.
            while length := os.read(descriptor, _NUMBER):
                start, to = self._done % self.PIECES * self._size, self._done % self.PIECES * self._found_size
                with memoryview(self._pieces) as view:
                    found = digester.blocks(view[start : start + int.from_bytes(length, "big")])
                self._found[to : to + len(found)] = found
                self._done += 1
                os.write(descriptor, b"\0")
            status = 0
        os._exit(status)
