#!/usr/bin/env python3
"""A name server of an attacker: each answer is valid for no time, and the next one may differ.

Usage: ``dns_server.py ADDRESS NAMES LOG`` where NAMES is JSON, for each name a list of answers given in turn, each a
list of IPv4 addresses (an empty one is a failure); LOG gets a line with each name that was asked for.
"""

from __future__ import annotations

import ipaddress
import json
import socketserver
import struct
import sys
from collections import Counter
from pathlib import Path

_A, _NOERROR, _SERVFAIL, _NXDOMAIN = 1, 0, 2, 3
# Response, recursion available; the lowest four bits are the result.
_FLAGS = 0x8180
_POINTER_TO_QUESTION = 0xC00C


def question(packet: bytes) -> tuple[str, int, bytes]:
    """Name, type and raw bytes of a query's question."""
    labels, at = [], 12
    while packet[at]:
        labels.append(packet[at + 1 : at + 1 + packet[at]].decode("latin-1"))
        at += packet[at] + 1
    (kind,) = struct.unpack(">H", packet[at + 1 : at + 3])
    return ".".join(labels).lower(), kind, packet[12 : at + 5]


def reply(packet: bytes, raw_question: bytes, result: int, addresses: list[str]) -> bytes:
    """The answer to a query: addresses with a time to live of zero."""
    head = packet[:2] + struct.pack(">HHHHH", _FLAGS | result, 1, len(addresses), 0, 0)
    records = b"".join(
        struct.pack(">HHHIH", _POINTER_TO_QUESTION, _A, 1, 0, 4) + ipaddress.IPv4Address(address).packed
        for address in addresses
    )
    return head + raw_question + records


def main() -> None:
    """Serve until killed."""
    address, log = sys.argv[1], Path(sys.argv[3])
    names: dict[str, list[list[str]]] = json.loads(sys.argv[2])
    asked: Counter[str] = Counter()

    def answer(name: str, kind: int) -> tuple[int, list[str]]:
        if name not in names or kind != _A:
            return (_NOERROR if name in names else _NXDOMAIN), []
        addresses = names[name][asked[name] % len(names[name])]
        asked[name] += 1
        return (_NOERROR if addresses else _SERVFAIL), addresses

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            packet, socket = self.request
            name, kind, raw_question = question(packet)
            with log.open("a") as lines:
                lines.write(f"{name}\n")
            result, addresses = answer(name, kind)
            socket.sendto(reply(packet, raw_question, result, addresses), self.client_address)

    with socketserver.UDPServer((address, 53), Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
