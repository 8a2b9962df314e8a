"""Stands in for the broker's socket of a controller: answers each call as the test says, byte by byte if it wants."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

EXEC = "e" * 64


class BrokerSocket:
    """A unix socket that speaks HTTP.

    ``answers`` maps ``METHOD /path`` (without the version and the query) to raw bytes, or to ``None``, which never
    answers; ``requests`` has every request as ``(method and path, query, body)``; what is in ``held`` is answered when
    it is taken out again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, bytes | None] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.held: set[str] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))

    async def stop(self) -> None:
        """End."""
        assert self._server is not None
        self._server.close()

    def command(self, output: bytes, code: int = 0) -> None:
        """Have the commands that are run print something."""
        self.answers["POST /containers/clawfactory-bot1-gateway/exec"] = reply(201, {"Id": EXEC})
        head = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        self.answers[f"POST /exec/{EXEC}/start"] = head + output
        self.answers[f"GET /exec/{EXEC}/json"] = reply(200, {"ExitCode": code, "Running": False})

    def log(self, raw: bytes, part: str = "gateway") -> None:
        """Have a log of a part."""
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
        self.answers[f"GET /containers/clawfactory-bot1-{part}/logs"] = head + raw

    def work(self) -> None:
        """Do all of it, as the real one does when all is well."""
        self.answers["POST /containers/clawfactory-bot1-gateway/restart"] = reply(204)
        for part in ("gateway", "proxy", "egress", "broker"):
            self.log(piece(f"2026-11-22T10:00:00Z {part} ready\n".encode()), part)
        finding = {"checkId": "gateway.auth_no_rate_limit", "severity": "warn", "title": "No rate limit"}
        self.command(piece(json.dumps({"ts": 1795893640140, "findings": [finding]}).encode()))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                line, *headers = head.split("\r\n")
                method, target, _ = line.split(" ")
                named = {name.lower(): value for name, _, value in (header.partition(": ") for header in headers)}
                body = await reader.readexactly(int(named.get("content-length", "0")))
                path, _, query = target.removeprefix("/v1.41").partition("?")
                self.requests.append((f"{method} {path}", query, json.loads(body) if body else None))
                answer = self.answers.get(f"{method} {path}", reply(403, {"message": "refused by the broker: no"}))
                while f"{method} {path}" in self.held:
                    await asyncio.sleep(0.01)
                if answer is None:
                    await reader.read()  # until the other side leaves
                    return
                writer.write(answer)
                await writer.drain()
                if b"Connection:" in answer.partition(b"\r\n\r\n")[0]:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the controller left, which is its right
        finally:
            writer.close()


def reply(status: int, document: Any = None) -> bytes:
    """An answer with a JSON document, or with nothing."""
    body = b"" if document is None else json.dumps(document).encode()
    return f"HTTP/1.1 {status} Said\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def piece(text: bytes, kind: int = 1) -> bytes:
    """A piece of a multiplexed stream."""
    return bytes((kind, 0, 0, 0)) + len(text).to_bytes(4, "big") + text
