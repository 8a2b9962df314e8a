"""One client's connection: requests are read strictly and under limits, answers are written.

h11 parses. What it would forgive is refused: bare line feeds, folded lines, fields that come twice or that it reads
otherwise than they stand there. So there is one reading of every request, h11's, and it is the literal one.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import h11

from .refusal import Refused

HEAD_BYTES = 16 * 1024
HEAD_FIELDS = 32
HEAD_SECONDS = 10.0
BODY_SECONDS = 10.0
IDLE_SECONDS = 60.0
#: How long a client may leave an answer unread.
WRITE_SECONDS = 30.0
#: How long a closing connection waits for the client to read its last answer.
LINGER_SECONDS = 1.0
LINGER_BYTES = 1 << 20
JSON = "application/json"

_RECEIVE_BYTES = 64 * 1024
_FIELDS = frozenset(
    {"host", "user-agent", "accept", "accept-encoding", "content-length", "content-type", "connection", "upgrade"}
)
_CONTENT_TYPE = re.compile(r"application/json(; ?charset=utf-8)?", re.IGNORECASE)
_METHOD = re.compile(r"[A-Z]{1,16}")
_PATH = re.compile(r"(/[A-Za-z0-9_.:-]+)+")
# A head is text in ASCII: everything else, NUL, lone CR and LF included, has no place in it.
_ODD = re.compile(rb"[^\x20-\x7e\t\r\n]|\r(?!\n)|(?<!\r)\n|\r\n[ \t]")
# While the head is incomplete its last byte may be a CR whose LF is still to come.
_ODD_SO_FAR = re.compile(rb"[^\x20-\x7e\t\r\n]|\r(?!\n|\Z)|(?<!\r)\n|\r\n[ \t]")


class ClientGone(Exception):
    """The client closed the connection, or does not read what it is sent."""


@dataclass(frozen=True)
class Request:
    """The head of one request.

    :param path: validated: letters, digits and ``_.:-`` between single slashes, no ``.`` or ``..``.
    :param query: everything after the first ``?``, as sent; ``None`` if there was none.
    :param length: bytes of the body as announced; ``None`` if not announced, which is no body.
    :param upgrade: whether it asks, exactly as the docker CLI does, to switch to ``tcp``.
    """

    method: str
    path: str
    query: str | None
    length: int | None
    json: bool
    upgrade: bool


@dataclass(frozen=True)
class Reply:
    """An answer that is known as a whole."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class Connection:
    """A connected, non-blocking socket of a client, for one task at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self._buffer = bytearray()
        #: What is known of the present request, for the audit, also when it is refused half-way.
        self.said = ("-", "-")

    async def read_request(self) -> Request | None:
        """The next request's head; ``None`` when the client has no more.

        :raises Refused: it is not exactly what is allowed, or not in time.
        :raises ClientGone: the connection broke.
        """
        self.said = ("-", "-")
        if not self._buffer:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    if not await self._fill():
                        return None
            except TimeoutError:
                return None
        head = self._whole_head()
        if head is None:
            try:
                async with asyncio.timeout(HEAD_SECONDS):
                    head = await self._head()
            except TimeoutError:
                raise Refused(408, "the head did not come in time") from None
        return self._parse(head)

    async def read_body(self, request: Request, limit: int) -> bytes:
        """The body of the request just read.

        :param limit: in bytes; 0 where no body belongs.
        :raises Refused: it is larger, or not there in time.
        :raises ClientGone: the connection broke.
        """
        length = request.length or 0
        if length > limit:
            raise (
                Refused(413, f"the body has more than {limit} bytes")
                if limit
                else Refused(400, "a body is not allowed")
            )
        if limit and request.length is None:
            raise Refused(411, "content-length is missing")
        try:
            if len(self._buffer) < length:
                async with asyncio.timeout(BODY_SECONDS):
                    while len(self._buffer) < length:
                        if not await self._fill():
                            raise Refused(400, "the body was cut short")
        except TimeoutError:
            raise Refused(408, "the body did not come in time") from None
        if length:
            self._http.receive_data(self._take(length))
        return self._body()

    async def send(self, reply: Reply) -> bool:
        """Answer the request; whether the connection is good for another one.

        :raises ClientGone: the client does not read it, or is gone.
        """
        headers = [("Api-Version", "1.41"), ("Docker-Experimental", "false"), ("Ostype", "linux"), *reply.headers]
        if reply.body:
            headers.append(("Content-Type", reply.content_type))
        if reply.status not in (204, 304):
            headers.append(("Content-Length", str(len(reply.body))))
        parts = [self._http.send(h11.Response(status_code=reply.status, headers=headers))]
        if reply.body and self.said[0] != "HEAD":
            parts.append(self._http.send(h11.Data(data=reply.body)))
        parts.append(self._http.send(h11.EndOfMessage()))
        await self._write(b"".join(part for part in parts if part))
        return self._next()

    async def refuse(self, reply: Reply) -> None:
        """Answer what was not understood, or is not granted; the connection cannot be used after it.

        :raises ClientGone: the client does not read it, or is gone.
        """
        # A new parser: the one that failed would not write any more, and this needs none of its state.
        self._http = h11.Connection(h11.SERVER)
        # Nor does it know the method: an answer to HEAD has no body.
        body = b"" if self.said[0] == "HEAD" else reply.body
        await self.send(Reply(reply.status, body, reply.content_type, (*reply.headers, ("Connection", "close"))))

    async def begin(self, status: int, content_type: str) -> None:
        """Start an answer of unknown length, to be followed by :meth:`chunk` and :meth:`end`."""
        headers = [("Api-Version", "1.41"), ("Content-Type", content_type)]
        await self._write(self._http.send(h11.Response(status_code=status, headers=headers)) or b"")

    async def chunk(self, data: bytes) -> None:
        """Send a part of the answer; returns when the client has taken it."""
        await self._write(self._http.send(h11.Data(data=data)) or b"")

    async def end(self) -> bool:
        """End the answer; whether the connection is good for another request."""
        await self._write(self._http.send(h11.EndOfMessage()) or b"")
        return self._next()

    async def switch(self) -> bytes:
        """Answer that the connection is a plain stream from now on; what the client has already sent of it."""
        headers = [
            ("Content-Type", "application/vnd.docker.raw-stream"),
            ("Connection", "Upgrade"),
            ("Upgrade", "tcp"),
            ("Api-Version", "1.41"),
        ]
        await self._write(
            self._http.send(h11.InformationalResponse(status_code=101, headers=headers, reason=b"UPGRADED")) or b""
        )
        return self._take(len(self._buffer))

    async def close(self) -> None:
        """Close, but let the client read its answer, which it would lose over bytes of its own that nobody read."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(LINGER_SECONDS):
                left = LINGER_BYTES
                while left > 0 and (data := await self._loop.sock_recv(self.sock, _RECEIVE_BYTES)):
                    left -= len(data)
        except (OSError, TimeoutError):
            pass
        finally:
            self.sock.close()

    async def _fill(self) -> bool:
        try:
            data = await self._loop.sock_recv(self.sock, _RECEIVE_BYTES)
        except OSError as error:
            raise ClientGone from error
        self._buffer += data
        return bool(data)

    def _take(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    async def _write(self, data: bytes) -> None:
        try:
            sent = _send_now(self.sock, data)
            if sent < len(data):
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._loop.sock_sendall(self.sock, memoryview(data)[sent:])
        except (OSError, TimeoutError) as error:
            raise ClientGone from error

    async def _head(self) -> bytes:
        while (head := self._whole_head()) is None:
            if not await self._fill():
                raise Refused(400, "the head was cut short")
        return head

    def _whole_head(self) -> bytes | None:
        """The head, if all of it has come."""
        end = self._buffer.find(b"\r\n\r\n", 0, HEAD_BYTES)
        if end >= 0:
            return self._take(end + 4)
        if len(self._buffer) >= HEAD_BYTES:
            raise Refused(431, f"the head has more than {HEAD_BYTES} bytes")
        if _ODD_SO_FAR.search(self._buffer):
            raise Refused(400, "the head has bytes or line ends that do not belong there")
        return None

    def _parse(self, head: bytes) -> Request:
        if _ODD.search(head):
            raise Refused(400, "the head has bytes or line ends that do not belong there")
        self._http.receive_data(head)
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError:
            raise Refused(400, "the head is not HTTP/1.1") from None
        if not isinstance(event, h11.Request):
            raise Refused(400, "the head is not HTTP/1.1")
        method, target = event.method.decode("ascii"), event.target.decode("ascii")
        path, mark, query = target.partition("?")
        self.said = (method[:16], path)
        lines = head[:-4].split(b"\r\n")[1:]
        if len(lines) > HEAD_FIELDS:
            raise Refused(431, f"the head has more than {HEAD_FIELDS} fields")
        if event.http_version != b"1.1" or head.split(b"\r\n", 1)[0].count(b" ") != 2:
            raise Refused(505, "only HTTP/1.1 is spoken here")
        fields = _fields(lines, list(event.headers))
        if not _METHOD.fullmatch(method):
            raise Refused(400, "the method is not valid")
        _check_path(path)
        upgrade = _check_fields(fields)
        length = fields.get("content-length")
        return Request(
            method=method,
            path=path,
            query=query if mark else None,
            length=None if length is None else int(length),
            json="content-type" in fields,
            upgrade=upgrade,
        )

    def _body(self) -> bytes:
        parts = []
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError:
                raise Refused(400, "the body is not HTTP/1.1") from None
            if isinstance(event, h11.Data):
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return b"".join(parts)
            else:
                raise Refused(400, "the body is not HTTP/1.1")

    def _next(self) -> bool:
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True


def _send_now(sock: socket.socket, data: bytes) -> int:
    """Send what goes without waiting, which mostly is all of it."""
    try:
        return sock.send(data)
    except BlockingIOError:
        return 0


def _fields(lines: Sequence[bytes], parsed: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """The header as a mapping, if what h11 made of it is what stands there, line for line."""
    fields: dict[str, str] = {}
    if len(lines) != len(parsed):
        raise Refused(400, "a header field comes twice")
    for line, (name, value) in zip(lines, parsed, strict=True):
        written_name, _, written_value = line.partition(b":")
        key = name.decode("ascii")
        if written_name.lower() != name or written_value.strip(b" \t") != value:
            raise Refused(400, "a header field can be read in two ways")
        if key not in _FIELDS:
            raise Refused(400, "a header field is not allowed")
        if key in fields:
            raise Refused(400, f"header field {key} comes twice")
        fields[key] = value.decode("ascii")
    return fields


def _check_path(path: str) -> None:
    if not _PATH.fullmatch(path) or any(segment in (".", "..") for segment in path.split("/")):
        raise Refused(400, "the target is not a plain path")


def _check_fields(fields: dict[str, str]) -> bool:
    """Refuse values that are not listed; whether the client asks to switch to ``tcp``."""
    content_type = fields.get("content-type")
    if content_type is not None and not _CONTENT_TYPE.fullmatch(content_type):
        raise Refused(415, "the content type is not application/json")
    connection = fields.get("connection", "").lower()
    if connection not in ("", "close", "keep-alive", "upgrade"):
        raise Refused(400, "header field connection has a value that is not allowed")
    upgrade = fields.get("upgrade")
    if upgrade not in (None, "tcp") or (upgrade is None) != (connection != "upgrade"):
        raise Refused(400, "the upgrade is not the one to tcp")
    return upgrade is not None
