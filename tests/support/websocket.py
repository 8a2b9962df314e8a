"""A WebSocket client for tests (RFC 6455), small enough to see every header and frame that goes over the wire."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import struct
from types import TracebackType
from typing import Any

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA


class UpgradeRefused(Exception):
    """The server answered the upgrade with something other than ``101``.

    :param status: the HTTP status line.
    """

    def __init__(self, status: str) -> None:
        self.status = status
        super().__init__(f"no WebSocket: {status}")


class Closed(Exception):
    """The server closed the WebSocket; the text names code and reason."""


class WebSocket:
    """One connection, JSON messages only.

    :param host: IPv4 address of the server.
    :param port: TCP port of the server.
    :param headers: additional headers of the upgrade request, for example ``Origin``.
    :param timeout: seconds to wait for any one read.
    :raises UpgradeRefused: the server does not switch protocols.
    """

    def __init__(self, host: str, port: int, headers: dict[str, str] | None = None, timeout: float = 30) -> None:
        self._socket = socket.create_connection((host, port), timeout=timeout)
        self._stream = self._socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        lines = {
            "Host": f"{host}:{port}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": key,
            "Sec-WebSocket-Version": "13",
            **(headers or {}),
        }
        request = "GET / HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
        self._socket.sendall(request.encode())
        self._expect_switch(key)

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._socket.close()

    def send(self, message: dict[str, Any]) -> None:
        """Send one text frame."""
        self._send(_TEXT, json.dumps(message).encode())

    def receive(self) -> dict[str, Any]:
        """The next message.

        :raises Closed: the server closed the connection.
        """
        while True:
            opcode, payload = self._read()
            if opcode == _PING:
                self._send(_PONG, payload)
            elif opcode == _CLOSE:
                code = struct.unpack(">H", payload[:2])[0] if payload else 1005
                raise Closed(f"{code} {payload[2:].decode(errors='replace')}")
            elif opcode == _TEXT:
                message: dict[str, Any] = json.loads(payload)
                return message

    def _expect_switch(self, key: str) -> None:
        status = self._stream.readline().decode().strip()
        headers = {}
        while line := self._stream.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if " 101 " not in status:
            raise UpgradeRefused(status)
        expected = base64.b64encode(hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()
        if headers.get("sec-websocket-accept") != expected:
            raise UpgradeRefused(f"{status}, but with a wrong Sec-WebSocket-Accept")

    def _send(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = struct.pack(">BB", 0x80 | opcode, 0x80 | size)
        elif size < 65536:
            head = struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, 0x80 | 127, size)
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        self._socket.sendall(head + mask + masked)

    def _read(self) -> tuple[int, bytes]:
        first, second = self._exactly(2)
        size = second & 0x7F
        if size == 126:
            size = struct.unpack(">H", self._exactly(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", self._exactly(8))[0]
        return first & 0x0F, self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise Closed("the connection ended without a closing frame")
        return data
