"""An engine on a unix socket that remembers containers and execs, and misbehaves where a test asks for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Behaviour = Callable[["Heard", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
MOUNTINFO = "1 0 8:1 / / rw - ext4 /dev/a rw\n"


@dataclass
class Heard:
    """One request as the engine received it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Box:
    """One container."""

    id: str
    name: str
    labels: dict[str, str]
    state: str = "created"
    body: dict[str, Any] = field(default_factory=dict)
    mounts: list[dict[str, Any]] = field(default_factory=list)


class FakeEngine:
    """:param path: of the socket. ``behaviours`` maps ``METHOD regex`` to what happens instead of the usual."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[Heard] = []
        self.boxes: dict[str, Box] = {}
        self.execs: dict[str, dict[str, Any]] = {}
        self.behaviours: dict[str, Behaviour] = {}
        self.mountinfo = MOUNTINFO
        self.open = 0
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    # What tests use.

    def add(
        self, name: str, *, state: str = "running", mounts: list[dict[str, Any]] | None = None, **labels: str
    ) -> Box:
        """Put a container there; labels in the form ``bot=…, service=…``."""
        named = {f"clawfactory.{key}": value for key, value in labels.items()}
        box = Box(secrets.token_hex(32), name, named, state, {}, mounts or [])
        self.boxes[box.id] = box
        return box

    def calls(self, method: str = "", pattern: str = "") -> list[Heard]:
        """What was heard, without the API's version."""
        return [one for one in self.heard if one.method.startswith(method) and re.search(pattern, one.path)]

    def named(self, name: str) -> Box | None:
        """The container of that name."""
        return next((box for box in self.boxes.values() if box.name == name), None)

    # The engine.

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))

    async def stop(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        for task in self._serving:
            task.cancel()
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        task = asyncio.current_task()
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            await self._one(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            with contextlib.suppress(Exception):  # the loop may be gone already
                writer.close()
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        url = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        heard = Heard(method, url.path.removeprefix("/v1.41"), query, headers, json.loads(raw) if raw else None)
        self.heard.append(heard)
        for pattern, behaviour in self.behaviours.items():
            wanted, _, expression = pattern.partition(" ")
            if wanted == method and re.fullmatch(expression, heard.path):
                return await behaviour(heard, reader, writer)
        await self.usual(heard, reader, writer)
        return None

    async def usual(self, heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What a good engine does."""
        if match := re.fullmatch(r"/exec/(\w+)/start", heard.path):
            return await self._exec(match[1], reader, writer)
        if match := re.fullmatch(r"/containers/(\w+)/logs", heard.path):
            text = self.mountinfo.encode()
            frame = b"\x01\0\0\0" + len(text).to_bytes(4, "big") + text
            writer.write(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(frame), frame)
            )
            return await writer.drain()
        status, document = self._answer(heard)
        await reply(writer, status, document)
        return None

    async def _exec(self, exec_id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if exec_id not in self.execs:
            return await reply(writer, 404, {"message": "No such exec instance"})
        await switch(writer)
        while data := await reader.read(65536):  # like `cat`
            writer.write(data)
            await writer.drain()
        self.execs[exec_id]["Running"] = False
        return None

    def _answer(self, heard: Heard) -> tuple[int, Any]:
        if heard.path in ("/_ping", "/version", "/info"):
            return 200, {"ServerVersion": "20.10.24", "Version": "20.10.24", "Name": "secret-host", "Os": "linux"}
        if heard.path == "/containers/json":
            wanted = json.loads(heard.query["filters"])["label"]
            boxes = [box for box in self.boxes.values() if heard.query.get("all") == "1" or box.state != "exited"]
            boxes = [box for box in boxes if set(wanted) <= {f"{name}={value}" for name, value in box.labels.items()}]
            return 200, [self._item(box) for box in boxes]
        if heard.path == "/containers/create":
            name = heard.query["name"]
            if self.named(name):
                return 409, {
                    "message": f'Conflict. The container name "/{name}" is already in use by container "00aa".'
                }
            box = Box(secrets.token_hex(32), name, dict(heard.body["Labels"]), "created", heard.body)
            self.boxes[box.id] = box
            return 201, {"Id": box.id, "Warnings": ["of the host"]}
        if match := re.fullmatch(r"/containers/([^/]+)(/\w+)?", heard.path):
            return self._container(heard, match[1], match[2] or "")
        if match := re.fullmatch(r"/exec/(\w+)/(json|resize)", heard.path):
            if match[1] not in self.execs:
                return 404, {"message": "No such exec instance"}
            return 200, {"ID": match[1], "Running": True, "ExitCode": None, "Pid": 4711} | self.execs[match[1]]
        if match := re.fullmatch(r"/images/(.+)/json", heard.path):
            return 200, {"Id": match[1], "Architecture": "amd64", "Os": "linux", "GraphDriver": {"Data": "secret"}}
        return 404, {"message": "page not found"}

    def _container(self, heard: Heard, reference: str, action: str) -> tuple[int, Any]:
        found = [box for box in self.boxes.values() if reference == box.name or box.id.startswith(reference)]
        if len(found) != 1:
            return 404, {"message": f"No such container: {reference}"}
        box = found[0]
        if heard.method == "DELETE":
            del self.boxes[box.id]
            return 204, None
        if action == "/json":
            return 200, self._inspect(box)
        if action == "/exec":
            if box.state != "running":
                return 409, {"message": f"Container {box.id} is paused, unpause the container before exec"}
            exec_id = secrets.token_hex(32)
            self.execs[exec_id] = {"ContainerID": box.id, "Running": True}
            return 201, {"Id": exec_id}
        if action == "/wait":
            return 200, {"StatusCode": 0}
        if action == "/start" and box.state == "running":
            return 304, None
        after = {
            "/start": "running",
            "/stop": "exited",
            "/restart": "running",
            "/pause": "paused",
            "/unpause": "running",
        }
        if action == "/unpause" and box.state != "paused":
            return 500, {"message": f"Container {box.id} is not paused"}
        if action not in after:
            return 404, {"message": "page not found"}
        box.state = "exited" if action == "/start" and "clawfactory.check" in box.labels else after[action]
        return 204, None

    def _item(self, box: Box) -> dict[str, Any]:
        image = str(box.body.get("Image", ""))
        item = {"Id": box.id, "Names": [f"/{box.name}"], "Labels": box.labels, "State": box.state, "Image": image}
        return item | {"ImageID": image, "Status": "Up 1 second", "Created": 1, "Mounts": ["secret"]}

    def _inspect(self, box: Box) -> dict[str, Any]:
        state = {"Running": box.state in ("running", "paused"), "Paused": box.state == "paused", "Status": box.state}
        return {
            "Id": box.id,
            "Name": f"/{box.name}",
            "State": state | {"Pid": 4711},
            "Config": {"Labels": box.labels, "Env": ["TOKEN=secret"], "Image": "image"},
            "HostConfig": {"Mounts": [], **box.body.get("HostConfig", {})},
            "Mounts": box.mounts,
            "GraphDriver": {"Data": "secret"},
        }


async def reply(writer: asyncio.StreamWriter, status: int, document: Any = None) -> None:
    """Answer with JSON."""
    body = b"" if document is None else json.dumps(document).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n" if status not in (204, 304) else ""
    writer.write(head.encode() + b"\r\n" + body)
    await writer.drain()


async def switch(writer: asyncio.StreamWriter, early: bytes = b"") -> None:
    """Answer that the connection is a stream now."""
    writer.write(
        b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
        b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + early
    )
    await writer.drain()
