"""What a controller needs around it in tests: made-up secrets, a gateway that says what it is told, a clock."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import httpx

SECRETS = {
    "CONTROLLER_TOKEN": "5f2a9c0e7b1d48f6a3c9e0b7d2f41868",
    "CONTROLLER_AGENT_TOKEN": "0c1d9e8f7a6b5c4d3e2f1a0b9c8d7e6f",
    "CONTROLLER_WEBHOOK_SECRET": "9b1c7d3e5f0a2846c8e4d6b0a1f39c57",
    "CONTROLLER_AGE_RECIPIENT": "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
}
COMMIT = "3f786850e387550fdab836ed7e6dc881de23001b"


class FakeGateway(httpx.AsyncBaseTransport):
    """Answers the probes; ``answers`` maps a path to status and body, ``error`` replaces every answer."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.error: Exception | None = None
        self.before_answer: Callable[[], Awaitable[None]] | None = None
        self.requests: list[httpx.Request] = []
        self.set_state(200, "started")

    def set_state(self, ready: int, phase: str, *, live: int = 200) -> None:
        startup = 200 if phase == "started" else 503
        self.answers = {
            "/healthz": (live, b'{"ok":true}'),
            "/readyz": (ready, b"{}"),
            "/startupz": (startup, json.dumps({"ok": startup == 200, "status": phase}).encode()),
        }

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.before_answer:
            await self.before_answer()
        if self.error:
            raise self.error
        status, body = self.answers[request.url.path]
        return httpx.Response(status, stream=httpx.ByteStream(body))


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
