"""Traffic by which a cut is measured: a listener that notes what arrives, and senders that never give up.

Usage: ``traffic.py listen PORT`` | ``traffic.py send TAG PORT ADDRESS …``. The listener writes one line for each thing
that arrives, ``MONOTONIC TAG``. A sender sends to each address once every 10 ms: over one TCP connection that stays
(``TAG.old.4``), over a new one each time (``TAG.new.4``) and by UDP (``TAG.udp.4``); ``.6`` for an IPv6 address. The
environment's ``KINDS`` says which of them, if not all. All processes of a machine have the same monotonic clock. Needs
the standard library alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time

PERIOD = 0.01
_PATIENCE = 0.5
_AT_ONCE = 60


def note(tag: bytes) -> None:
    """Write down that something arrived."""
    sys.stdout.write(f"{time.monotonic():.4f} {tag.decode('ascii', 'replace').strip()}\n")
    sys.stdout.flush()


async def listen(port: int) -> None:
    """Take what comes over IPv4 and IPv6."""

    async def taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                note(line)
        writer.close()

    class Datagrams(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            note(data)

    hosts = ("0.0.0.0", "::")  # noqa: S104 - in a namespace
    servers = [await asyncio.start_server(taken, host, port) for host in hosts]
    loop = asyncio.get_running_loop()
    for family, host in zip((socket.AF_INET, socket.AF_INET6), hosts, strict=True):
        taker = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            taker.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taker.setblocking(False)
        taker.bind((host, port))
        await loop.create_datagram_endpoint(Datagrams, sock=taker)
    await asyncio.gather(*(server.serve_forever() for server in servers))


async def send(tag: str, port: int, addresses: list[str]) -> None:
    """Send for ever."""
    wanted = os.environ.get("KINDS", "old new udp").split()
    parts = [part for part in (old, new, udp) if part.__name__ in wanted]
    await asyncio.gather(*(part(tag, port, address) for address in addresses for part in parts))


def name(tag: str, kind: str, address: str) -> bytes:
    """What arrives is known by."""
    return f"{tag}.{kind}.{6 if ':' in address else 4}\n".encode()


async def old(tag: str, port: int, address: str) -> None:
    """One connection, as long as it lasts; then the next."""
    while True:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), _PATIENCE)
            while True:
                writer.write(name(tag, "old", address))
                await writer.drain()
                await asyncio.sleep(PERIOD)
        except (OSError, TimeoutError):
            await asyncio.sleep(PERIOD)


async def new(tag: str, port: int, address: str) -> None:
    """A connection each time, however long those before take."""
    running: set[asyncio.Task[None]] = set()

    async def once() -> None:
        with contextlib.suppress(OSError, TimeoutError):
            _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), _PATIENCE)
            writer.write(name(tag, "new", address))
            await writer.drain()
            writer.close()

    while True:
        if len(running) < _AT_ONCE:
            task = asyncio.create_task(once())
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.sleep(PERIOD)


async def udp(tag: str, port: int, address: str) -> None:
    """A datagram each time."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        while True:
            with contextlib.suppress(OSError):
                sender.sendto(name(tag, "udp", address), (address, port))
            await asyncio.sleep(PERIOD)


if __name__ == "__main__":
    if sys.argv[1] == "listen":
        asyncio.run(listen(int(sys.argv[2])))
    else:
        asyncio.run(send(sys.argv[2], int(sys.argv[3]), sys.argv[4:]))
