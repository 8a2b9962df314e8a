"""A broker and its fake engine in a thread of their own, and a client that sends exact bytes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker_app.server import Broker
from broker_app.settings import Settings
from tests.unit.broker_app.fake_engine import Box, FakeEngine

BOT = "bot1"
IMAGE = "clawfactory-sandbox:1"
IMAGE_ID = "sha256:" + "ab" * 32
PROBE = ["/opt/node/bin/node", "-e", "probe()"]
BOT_DIRECTORY = "/srv/clawfactory/bot_repos/bot1"
#: `docker exec` as the docker CLI sends it.
EXEC = {
    "User": "",
    "Privileged": False,
    "Tty": False,
    "AttachStdin": True,
    "AttachStderr": True,
    "AttachStdout": True,
    "Detach": False,
    "DetachKeys": "",
    "Env": None,
    "WorkingDir": "",
    "Cmd": ["cat"],
}


def settings_document(folder: Path) -> dict[str, Any]:
    return {
        "schema": 1,
        "bot": BOT,
        "engine_socket": str(folder / "engine.sock"),
        "audit_file": str(folder / "audit.jsonl"),
        "lock_file": str(folder / "lock"),
        "clients": {
            "gateway": {"socket": str(folder / "gateway/docker.sock"), "uid": 20001},
            "controller": {"socket": str(folder / "controller/docker.sock"), "uid": 30001},
        },
        "gateway_probe": PROBE,
        "bot_directory": BOT_DIRECTORY,
        "sandbox": {
            "images": {IMAGE: IMAGE_ID},
            "uid": 20001,
            "max_count": 3,
            "memory_bytes": 2**30,
            "nano_cpus": 10**9,
            "pids": 256,
            "tmpfs_bytes": 2**26,
            "sources": ["workspace", "workspace-*", "sandboxes/*"],
            "network": None,
        },
        "stream_seconds": 60,
    }


def with_own_uid(settings: Settings, **changes: int) -> Settings:
    """The settings with this process as both clients: it cannot connect as anybody else."""
    uids = {"gateway": os.geteuid(), "controller": os.geteuid()} | changes
    clients = {name: getattr(settings.clients, name).model_copy(update={"uid": uid}) for name, uid in uids.items()}
    return settings.model_copy(update={"clients": settings.clients.model_copy(update=clients)})


@dataclass
class Answer:
    """One answer: status, header in lower case, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return self.json["message"]


@dataclass
class Wire:
    """A client's connection. What comes is read as HTTP, one answer after another, or raw."""

    sock: socket.socket
    buffer: bytes = field(default=b"")

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def request(self, method: str, target: str, body: Any = None, *headers: str) -> Answer:
        self.send(request(method, target, body, *headers))
        return self.answer(head=method == "HEAD")

    def answer(self, *, head: bool = False) -> Answer:
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        raw, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = raw.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = 0 if head else int(headers.get("content-length", 0))
        while len(self.buffer) < length:
            self._more()
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return Answer(int(first.split(" ")[1]), headers, body)

    def read(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self._more()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        try:
            while True:
                self._more()
        except (EOFError, ConnectionResetError):
            return self.buffer

    def closed(self) -> bool:
        """Whether the other side closes without another word."""
        return self.rest() == b""

    def _more(self) -> None:
        data = self.sock.recv(1 << 18)
        if not data:
            raise EOFError(f"closed after {self.buffer[:200]!r}")
        self.buffer += data

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


def request(method: str, target: str, body: Any = None, *headers: str) -> bytes:
    """A request as the docker CLI sends it."""
    lines = [f"{method} {target} HTTP/1.1", "Host: api.moby.localhost", "User-Agent: Docker-Client/26.1.5 (linux)"]
    content = b""
    if body is not None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines += [f"Content-Length: {len(content)}", "Content-Type: application/json"]
    elif method == "POST":
        lines.append("Content-Length: 0")
    return "\r\n".join([*lines, *headers]).encode() + b"\r\n\r\n" + content


def exec_start(exec_id: str, *, tty: bool = False) -> bytes:
    """The request that becomes a stream."""
    body = {"Detach": False, "Tty": tty}
    return request("POST", f"/v1.41/exec/{exec_id}/start", body, "Connection: Upgrade", "Upgrade: tcp")


class Running:
    """The thread. Give it up with :meth:`close`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine = FakeEngine(Path(settings.engine_socket))
        self.broker: Broker | None = None
        self.failure: BaseException | None = None
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._served: asyncio.Task[None] | None = None
        for client in (settings.clients.gateway, settings.clients.controller):
            Path(client.socket).parent.mkdir(exist_ok=True)
        self._thread.start()
        self.do(self.engine.start())

    def start(self) -> None:
        """Start a broker, and wait until it serves."""
        self.do(self._start())

    def stop(self) -> None:
        """End it as SIGTERM does."""
        self.do(self._stop())

    def do(self, work: Any, timeout: float = 30) -> Any:
        """Run a coroutine in the thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    def connect(self, client: str = "gateway", timeout: float = 10) -> Wire:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        sock.connect(getattr(self.settings.clients, client).socket)
        return Wire(sock)

    def call(self, method: str, target: str, body: Any = None, *headers: str, client: str = "gateway") -> Answer:
        """One request on a connection of its own."""
        with self.connect(client) as wire:
            return wire.request(method, target, body, *headers)

    def raw(self, data: bytes, client: str = "gateway") -> bytes:
        """Send bytes and return everything that comes until the broker closes."""
        with self.connect(client) as wire:
            wire.send(data)
            return wire.rest()

    def audit(self) -> list[dict[str, Any]]:
        """The lines of the audit log."""
        path = Path(self.settings.audit_file)
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def gateway(self, **options: Any) -> Box:
        return self.engine.add(f"clawfactory-{BOT}-gateway", bot=BOT, service="gateway", **options)

    def sandbox(self, name: str = "a", **options: Any) -> Box:
        return self.engine.add(f"clawfactory-{BOT}-sbx-{name}", bot=BOT, service="sandbox", **options)

    def open_exec(self, box: Box, client: str = "gateway") -> str:
        answer = self.call("POST", f"/v1.41/containers/{box.name}/exec", EXEC, client=client)
        assert answer.status == 201, answer
        return answer.json["Id"]

    def stream(self, exec_id: str) -> Wire:
        """A connection that is a stream already."""
        wire = self.connect()
        wire.send(exec_start(exec_id))
        assert wire.answer().status == 101
        return wire

    def close(self) -> None:
        if self._served:
            self.stop()
        self.do(self.engine.stop())
        left = self.do(self._left())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()
        assert left == [], "the broker ended and left this behind"

    async def _start(self) -> None:
        self.broker = Broker(self.settings)
        self._served = self.loop.create_task(self.broker.run())
        ready = self.loop.create_task(self.broker.ready.wait())
        await asyncio.wait({ready, self._served}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._served.done():
            self._served.result()

    async def _stop(self) -> None:
        assert self.broker is not None and self._served is not None
        self.broker.stop()
        await self._served
        self._served = None

    async def _left(self) -> list[str]:
        """Tasks that go on; those of connections that were just closed get the time to see it."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        pending = (await asyncio.wait(others, timeout=10))[1] if others else set()
        return [repr(task) for task in pending]

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


def eventually(check: Callable[[], Any], seconds: float = 10) -> Any:
    """The first true value of ``check``."""
    deadline = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return value


def descriptors() -> int:
    """Open file descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))
