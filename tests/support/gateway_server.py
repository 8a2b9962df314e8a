"""Stands in for OpenClaw's WebSocket: speaks frames recorded from OpenClaw 2026.9.6, checks signatures as it does, and
misbehaves as the test says.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

FRAMES: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("gateway_frames.json").read_text())
TOKEN = "7d1f0a9c3e5b48d2b6f1c8e0a2947d35"
KEY = "c0de" * 16
#: Takes over a connection after the challenge's time has come; what it sends is all that is sent.
Script = Callable[[ServerConnection], Awaitable[None]]


class GatewayServer:
    """A gateway on 127.0.0.1.

    ``answers`` maps a method to a recorded answer, or to a function of its parameters; ``requests`` has every request
    after the handshake; ``script`` replaces everything.
    """

    def __init__(self) -> None:
        self.token = TOKEN
        self.paired: set[str] = set()
        self.pending: dict[str, str] = {}
        self.requests: list[dict[str, Any]] = []
        self.connections = 0
        self.script: Script | None = None
        self.answers: dict[str, Any] = {
            method: answer for method, answer in FRAMES.items() if "." in method and answer["type"] == "res"
        }
        for method in ("device.pair.reject", "channels.pairing.approve"):
            self.answers[method] = {"type": "res", "ok": True, "payload": {}}
        schema = {"schema": {"type": "object", "properties": {}}, "uiHints": {}, "version": "2026.9.6"}
        self.answers["config.schema"] = {"type": "res", "ok": True, "payload": schema}
        self._server: Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await serve(self._converse, "127.0.0.1", 0, compression=None)

    async def stop(self) -> None:
        """End, with all connections."""
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """``http://host:port``, as the controller is told it."""
        assert self._server is not None
        port: int = next(iter(self._server.sockets)).getsockname()[1]
        return f"http://127.0.0.1:{port}"

    async def approve(self, request: str) -> None:
        """What ``openclaw devices approve`` does."""
        self.paired.add(self.pending.pop(request))

    async def _converse(self, socket: ServerConnection) -> None:
        self.connections += 1
        try:
            if self.script is not None:
                await self.script(socket)
                return
            if await self._shake_hands(socket):
                async for text in socket:
                    await self._answer(socket, json.loads(text))
        except ConnectionClosed:
            pass  # the controller hung up, which is its right

    async def _shake_hands(self, socket: ServerConnection) -> bool:
        nonce = str(uuid.uuid4())
        challenge = copy.deepcopy(FRAMES["challenge"])
        challenge["payload"]["nonce"] = nonce
        await socket.send(compact(challenge))
        request = json.loads(await socket.recv())
        answer = copy.deepcopy(self._judge(request["params"], nonce, challenge["payload"]["ts"]))
        await socket.send(compact({**answer, "id": request["id"]}))
        return bool(answer["ok"])

    def _judge(self, params: dict[str, Any], nonce: str, time: int) -> dict[str, Any]:
        device, client = params["device"], params["client"]
        key = _decode(device["publicKey"])
        assert device["id"] == hashlib.sha256(key).hexdigest()
        assert (device["nonce"], device["signedAt"]) == (nonce, time)
        signed = (
            "v3", device["id"], client["id"], client["mode"], params["role"], ",".join(params["scopes"]), str(time),
            params["auth"]["token"], nonce, client["platform"], "",
        )  # fmt: skip
        try:
            VerifyKey(key).verify("|".join(signed).encode(), _decode(device["signature"]))
        except BadSignatureError:
            raise AssertionError("the signature is not of what was sent") from None
        if params["auth"]["token"] != self.token:
            return FRAMES["wrong_token"]
        if device["id"] not in self.paired:
            answer = copy.deepcopy(FRAMES["not_paired"])
            request = str(uuid.uuid4())
            self.pending[request] = device["id"]
            answer["error"]["details"]["requestId"] = request
            return answer
        return FRAMES["hello"]

    async def _answer(self, socket: ServerConnection, request: dict[str, Any]) -> None:
        self.requests.append(request)
        answer = self.answers[request["method"]]
        if callable(answer):
            answer = answer(request["params"])
        await socket.send(compact(FRAMES["event"]))
        await socket.send(compact({**answer, "id": request["id"]}))


def compact(frame: Any) -> str:
    """As the real gateway writes it."""
    return json.dumps(frame, separators=(",", ":"))


def accepted(after: Script) -> Script:
    """A script that accepts whoever comes, and then does what another one says."""

    async def script(socket: ServerConnection) -> None:
        await socket.send(compact(FRAMES["challenge"]))
        request = json.loads(await socket.recv())
        await socket.send(compact({**FRAMES["hello"], "id": request["id"]}))
        await after(socket)

    return script


async def silence(socket: ServerConnection) -> None:
    """Say nothing for as long as the other side stays."""
    await socket.wait_closed()


def device_directory(parent: Path, token: str = TOKEN) -> Path:
    """What role ``secrets`` writes for the controller."""
    directory = parent / "device"
    directory.mkdir(exist_ok=True)
    (directory / "key").write_text(f"{KEY}\n")
    (directory / "token").write_text(f"{token}\n")
    return directory


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
