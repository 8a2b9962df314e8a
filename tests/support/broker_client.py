"""Somebody with a shell in a container who writes raw bytes to an engine socket, from one long-lived process."""

from __future__ import annotations

import base64
import itertools
import json
import queue
import re
import subprocess
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = (Path(__file__).resolve().parent / "broker_attacker.mjs").read_text()
API = "/v1.41"
# What the docker CLI of the gateway's image sends.
USER_AGENT = "Docker-Client/26.1.5+dfsg1 (linux)"
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b")


@dataclass(frozen=True)
class Wire:
    """What goes over one connection.

    :param parts: bytes, and the milliseconds to wait before they are written.
    :param answers: how many answers are waited for.
    :param half_close: shut the writing side after the last part.
    :param seconds: how long at most until the connection is given up.
    :param read: whether the client reads at all.
    """

    parts: tuple[tuple[bytes, int], ...]
    answers: int = 1
    half_close: bool = False
    seconds: float = 20
    read: bool = True


@dataclass(frozen=True)
class Reply:
    """What came back.

    :param raw: all bytes.
    :param closed: whether the other side closed the connection.
    :param error: error code of the client's socket, for example ``EPIPE``.
    :param seconds: how long the connection lasted.
    """

    raw: bytes
    closed: bool
    error: str | None
    seconds: float

    @property
    def statuses(self) -> list[int]:
        """The status of every answer, in order."""
        return [int(code) for code in _STATUS.findall(self.raw)]

    @property
    def status(self) -> int:
        """The last status; 0 if nothing was answered."""
        return self.statuses[-1] if self.statuses else 0

    @property
    def body(self) -> bytes:
        """The body of the last answer, without chunk framing."""
        head, _, body = self.raw[self.raw.rindex(b"HTTP/1.") :].partition(b"\r\n\r\n")
        return _unchunked(body) if b"transfer-encoding: chunked" in head.lower() else body

    def json(self) -> Any:
        """The last answer's body; None if there is none."""
        return json.loads(self.body) if self.body else None


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            break
        whole, body = whole + body[:length], body[length + 2 :]
    return whole


def http(
    method: str,
    target: str,
    body: bytes | str | None = None,
    *headers: str,
    host: str = "api.moby.localhost",
    close: bool = True,
    version: str = "HTTP/1.1",
) -> bytes:
    """One request as the docker CLI writes it, with further header lines as they are.

    :param body: sent as ``application/json`` with its length; ``""`` sends ``Content-Length: 0``.
    """
    raw = body.encode() if isinstance(body, str) else body
    lines = [f"{method} {target} {version}", f"Host: {host}", f"User-Agent: {USER_AGENT}"]
    if raw is not None:
        lines.append(f"Content-Length: {len(raw)}")
    if raw:
        lines.append("Content-Type: application/json")
    lines += headers
    if close:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (raw or b"")


class Client:
    """Runs ``broker_attacker.mjs`` somewhere and hands it what is to be sent.

    :param command: runs node with the program as its last argument, for example ``docker exec -i NAME node -e``.
    :param socket: path of the engine socket there.
    """

    def __init__(self, command: Sequence[str], socket: str) -> None:
        self._socket = socket
        self._numbers = itertools.count()
        self._done: dict[int, queue.SimpleQueue[dict[str, Any] | None]] = {}
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [*command, PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        threading.Thread(target=self._collect, daemon=True).start()

    @classmethod
    def in_container(cls, container: str, socket: str, node: str = "node") -> Client:
        """A client in a container of this machine's engine."""
        return cls(["docker", "exec", "-i", container, node, "--input-type=module", "-e"], socket)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def send(self, wire: Wire | bytes) -> Reply:
        """Open a connection, write, and wait until it is over."""
        return self.send_all([wire])[0]

    def send_all(self, wires: Iterable[Wire | bytes]) -> list[Reply]:
        """The same on several connections at the same time."""
        whole = [each if isinstance(each, Wire) else Wire(((each, 0),)) for each in wires]
        waiting = [(wire, self._write(wire)) for wire in whole]
        return [self._wait(number, wire.seconds + 30) for wire, number in waiting]

    def ask(self, method: str, path: str, body: Any = None, seconds: float = 90) -> Reply:
        """One well-formed call, ``body`` as JSON."""
        text = json.dumps(body) if body is not None else ("" if method == "POST" else None)
        return self.send(Wire(((http(method, API + path, text), 0),), seconds=seconds))

    def _write(self, wire: Wire) -> int:
        number = next(self._numbers)
        order = {
            "id": number, "socket": self._socket, "answers": wire.answers, "half_close": wire.half_close,
            "seconds": wire.seconds, "read": wire.read,
            "parts": [[base64.b64encode(data).decode(), wait] for data, wait in wire.parts],
        }  # fmt: skip
        self._done[number] = queue.SimpleQueue()
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        return number

    def _wait(self, number: int, seconds: float) -> Reply:
        result = self._done[number].get(timeout=seconds)
        del self._done[number]
        assert result is not None, "the attacker's process has ended"
        answer = base64.b64decode(result["answer"])
        return Reply(answer, result["closed"], result["error"], result["milliseconds"] / 1000)

    def _collect(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            result = json.loads(line)
            self._done[result["id"]].put(result)
        for waiting in list(self._done.values()):
            waiting.put(None)
