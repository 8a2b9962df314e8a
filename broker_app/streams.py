"""Carries the two directions of a hijacked connection between a client and the engine.

A direction reads only when all it read before has been taken by the other side, so a slow reader slows the writer down
and nothing queues up. One read buffer serves all streams: only what could not be sent at once is kept, per direction.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Coroutine
from typing import Any

#: The most that one direction reads at once, and so the most it can hold.
CHUNK_BYTES = 128 * 1024
#: Reads of one direction before other streams have their turn.
_TURNS = 8
_TICK_SECONDS = 1.0
#: A stream that one side has left for good ends when nothing has moved for so long.
_STALL_TICKS = 10

_chunk = bytearray(CHUNK_BYTES)
_view = memoryview(_chunk)


async def carry(client: socket.socket, engine: socket.socket, *, early: tuple[bytes, bytes], seconds: float) -> None:
    """Copy both ways until both directions have ended or one side is gone. Closes neither socket.

    :param early: what the client, and what the engine, has already sent; to be delivered first.
    :param seconds: after which it ends in any case.
    """
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    up = _Direction(loop, client, engine, early[0])
    down = _Direction(loop, engine, client, early[1])

    def ended() -> None:
        if over.done():
            return
        gone = (up.ended and _hung_up(client)) or (down.ended and _hung_up(engine))
        if up.failed or down.failed or gone or (up.ended and down.ended):
            over.set_result(None)

    try:
        up.start(ended)
        down.start(ended)
        await _watch(over, up, down, ended, loop.time() + seconds)
    finally:
        up.stop()
        down.stop()


async def _watch(
    over: asyncio.Future[None], up: _Direction, down: _Direction, ended: Callable[[], None], deadline: float
) -> None:
    loop = asyncio.get_running_loop()
    still, moved = 0, 0
    while not over.done() and loop.time() < deadline:
        await asyncio.wait({over}, timeout=min(_TICK_SECONDS, deadline - loop.time()))
        ended()  # a client that had ended its direction may have gone since
        total = up.moved + down.moved
        left = _hung_up(up.source) or _hung_up(down.source)
        still = still + 1 if left and total == moved else 0
        moved = total
        if still >= _STALL_TICKS:
            return


class _Direction:
    """From ``source`` to ``sink``, driven by the event loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, source: socket.socket, sink: socket.socket, pending: bytes
    ) -> None:
        self.source = source
        self.sink = sink
        #: The source has no more, and the sink has been told so.
        self.ended = False
        #: The sink takes no more, or the source broke.
        self.failed = False
        #: Bytes delivered.
        self.moved = 0
        self._loop = loop
        self._pending = memoryview(pending)
        self._changed: Callable[[], None] = lambda: None

    def start(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        if self._pending:
            self._loop.add_writer(self.sink, self._write)
        else:
            self._loop.add_reader(self.source, self._read)

    def stop(self) -> None:
        self._loop.remove_reader(self.source)
        self._loop.remove_writer(self.sink)
        self._pending = memoryview(b"")

    def _read(self) -> None:
        try:
            for _ in range(_TURNS):
                count = self.source.recv_into(_chunk)
                if not count:
                    return self._end()
                try:
                    sent = self.sink.send(_view[:count])
                except BlockingIOError:
                    sent = 0
                self.moved += sent
                if sent < count:
                    self._pending = memoryview(bytes(_view[sent:count]))
                    self._loop.remove_reader(self.source)
                    self._loop.add_writer(self.sink, self._write)
                    return None
                if count < CHUNK_BYTES:
                    return None  # that was all there is: to ask again would only cost time
        except BlockingIOError:
            return None
        except OSError:
            self._fail()
        return None

    def _write(self) -> None:
        try:
            sent = self.sink.send(self._pending)
        except BlockingIOError:
            return
        except OSError:
            self._fail()
            return
        self.moved += sent
        self._pending = self._pending[sent:]
        if not self._pending:
            self._loop.remove_writer(self.sink)
            self._loop.add_reader(self.source, self._read)

    def _end(self) -> None:
        self._loop.remove_reader(self.source)
        try:
            self.sink.shutdown(socket.SHUT_WR)
        except OSError:
            self.failed = True
        self.ended = True
        self._changed()

    def _fail(self) -> None:
        self.stop()
        self.failed = True
        self._changed()


def _hung_up(sock: socket.socket) -> bool:
    """Whether the peer has closed the connection in both directions, not only ended its own."""
    poll = select.poll()
    poll.register(sock, 0)
    return any(event & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0))


async def while_connected(client: socket.socket, work: Coroutine[Any, Any, None]) -> None:
    """Do ``work``, but give it up when the client has closed the connection."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        while not task.done() and not _hung_up(client):
            await asyncio.wait({task}, timeout=_TICK_SECONDS)
    finally:
        if not task.done():
            task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.result()
