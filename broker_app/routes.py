"""The table of what each client may call; what is not in it is refused.

Every handler checks what it was asked, then asks the engine with values of its own making. Paths are those of the
Docker Engine API 1.41 as the docker CLI 26 uses them.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import queries, responses
from .clients import MAX_STREAMS, Client
from .engine import CALL_SECONDS, Answer, Engine, Upgraded
from .http import Reply, Request
from .json_strict import parse_object
from .models import ContainerCreate, ExecCreate, ExecStart, read_model
from .policy import is_sandbox_name, plan_controller_exec, plan_exec, plan_exec_start, plan_gateway_exec
from .refusal import Refused
from .sandboxes import Missing, Sandboxes
from .settings import PARTS, SANDBOX_SERVICE, Profile, Settings

CREATE_BYTES = 256 * 1024
START_BYTES = 4 * 1024
#: What the engine gives a container to stop when it is not told.
STOP_SECONDS = 10
_PREFIX = "/v1.41"
_REFERENCE = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"
_CONTAINER = rf"/containers/(?P<ref>{_REFERENCE})"
_EXEC = r"/exec/(?P<exec>[0-9a-f]{64})"
_RESTARTABLE = ("gateway", "proxy", "egress")
_MESSAGE = re.compile(r"[A-Za-z0-9 ,.:;'\"()_-]{1,200}")

# In the words of the engine, which `docker inspect` shows; it asks for each of these when a name is not a container's.
_NEVER = {
    "networks": "network {} not found",
    "volumes": "get {}: no such volume",
    "services": "service {} not found",
    "tasks": "task {} not found",
    "secrets": "secret {} not found",
    "configs": "config {} not found",
    "nodes": "node {} not found",
}


@dataclass(frozen=True)
class Logs:
    """An answer to be passed on as it comes: the log of a container.

    :param follow: whether it goes on for as long as the client stays.
    """

    container: str
    query: Mapping[str, str]
    follow: bool


@dataclass(frozen=True)
class Call:
    """One request that is in the table, read to its end."""

    client: Client
    path: Mapping[str, str]
    query: Mapping[str, queries.Value]
    body: bytes
    upgrade: bool

    def number(self, key: str, default: int) -> int:
        """An integer of the query."""
        value = self.query.get(key, default)
        return value if isinstance(value, int) else default


Outcome = Reply | Upgraded | Logs
Handler = Callable[["Routes", Call], Awaitable[Outcome]]


@dataclass(frozen=True)
class Route:
    """One line of the table.

    :param pattern: of the path behind the version.
    :param body: largest body in bytes, 0 for none.
    :param upgrades: whether the connection is to become a stream, which must be asked for then and nowhere else.
    """

    profiles: frozenset[Profile]
    method: str
    pattern: re.Pattern[str]
    handler: Handler
    query: queries.QuerySpec
    body: int
    upgrades: bool


class Routes:
    """:param settings: of this broker. :param engine: the engine's client. :param sandboxes: the bot's containers."""

    def __init__(self, settings: Settings, engine: Engine, sandboxes: Sandboxes) -> None:
        self.settings = settings
        self.engine = engine
        self.sandboxes = sandboxes

    def find(self, profile: Profile, request: Request) -> tuple[Route, Mapping[str, str]]:
        """The line of the table for a request, and what its path names.

        :raises Refused: 403, there is none.
        """
        if request.path == "/_ping":
            path = request.path
        elif request.path.startswith(f"{_PREFIX}/"):
            path = request.path.removeprefix(_PREFIX)
        else:
            raise Refused(403, "only /v1.41 is served")
        for route in _TABLE.get((profile, request.method), ()):
            match = route.pattern.fullmatch(path)
            if match:
                if request.upgrade is not route.upgrades:
                    raise Refused(400, "an upgrade to tcp is for an exec's start, and an exec's start needs one")
                return route, match.groupdict()
        raise Refused(403, "the call is not one that this client may make")

    async def ping(self, call: Call) -> Outcome:
        """Tell the API's version; nothing of it depends on the engine, which the next call will meet."""
        return Reply(200, b"OK", "text/plain; charset=utf-8", (("Cache-Control", "no-cache"), ("Pragma", "no-cache")))

    async def version(self, call: Call) -> Outcome:
        """Tell the engine's version."""
        return _passed(await self.engine.call("GET", "/version"), 200, responses.version)

    async def info(self, call: Call) -> Outcome:
        """Tell what of the engine a docker client needs to know."""
        answer, own = await asyncio.gather(self.engine.call("GET", "/info"), self.sandboxes.own())
        shown = responses.container_list(own, self.settings, call.client.profile)
        return _passed(answer, 200, lambda info: responses.info(info, shown))

    async def image(self, call: Call) -> Outcome:
        """Show an allowed image, under the id it is pinned to."""
        reference = call.path["image"]
        images = self.settings.sandbox.images
        pinned = images.get(reference) or (reference if reference in images.values() else None)
        if pinned is None:
            return self._absent(reference, f"No such image: {reference}")
        answer = await self.engine.call("GET", f"/images/{pinned}/json")
        if answer.status == 404:
            return _error(404, f"No such image: {reference}")
        return _passed(answer, 200, lambda inspect: responses.image(inspect, self.settings, reference))

    async def list(self, call: Call) -> Outcome:
        """List the containers that the client may know of."""
        filters = call.query.get("filters")
        own = queries.own_filters(
            self.settings,
            filters if isinstance(filters, str) else None,
            sandboxes_only=call.client.profile == "gateway",
        )
        query = {"filters": own, "all": "1" if call.query.get("all") else "0"}
        if call.query.get("limit"):
            query["limit"] = str(call.number("limit", 0))
        answer = await self.engine.call("GET", "/containers/json", query=query)
        return _passed(answer, 200, lambda items: responses.container_list(items, self.settings, call.client.profile))

    async def inspect(self, call: Call) -> Outcome:
        """Show a container."""
        visible = (SANDBOX_SERVICE, "gateway") if call.client.profile == "gateway" else PARTS
        inspect = await self.sandboxes.find(call.path["ref"], visible)
        return _json(200, responses.container(inspect, self.settings, call.client.profile))

    async def create(self, call: Call) -> Outcome:
        """Create a sandbox."""
        request = read_model(ContainerCreate, parse_object(call.body, CREATE_BYTES))
        name = str(call.query["name"])
        answer = await self.sandboxes.create(name, request)
        if answer.status == 409:  # the engine names the id of whatever has the name
            return _error(409, f'Conflict. The container name "/{name}" is already in use')
        return _passed(answer, 201, responses.created)

    async def start_sandbox(self, call: Call) -> Outcome:
        """Start a sandbox, once it is certain where its binds lead."""
        inspect = await self.sandboxes.find(call.path["ref"], (SANDBOX_SERVICE,))
        return Reply(204) if await self.sandboxes.start(str(inspect["Id"])) else Reply(304)

    async def stop_sandbox(self, call: Call) -> Outcome:
        """Stop a sandbox."""
        return await self._stopping(call, (SANDBOX_SERVICE,), "stop")

    async def pause_sandbox(self, call: Call) -> Outcome:
        """Pause a sandbox."""
        return await self._plain(call, (SANDBOX_SERVICE,), "POST", "/pause")

    async def unpause_sandbox(self, call: Call) -> Outcome:
        """Let a paused sandbox go on."""
        return await self._plain(call, (SANDBOX_SERVICE,), "POST", "/unpause")

    async def remove_sandbox(self, call: Call) -> Outcome:
        """Remove a sandbox."""
        query = {key: "1" for key in ("force", "v") if call.query.get(key)}
        return await self._plain(call, (SANDBOX_SERVICE,), "DELETE", "", query)

    async def stop_part(self, call: Call) -> Outcome:
        """Stop one of the bot's parts."""
        return await self._stopping(call, _RESTARTABLE, "stop")

    async def restart_part(self, call: Call) -> Outcome:
        """Restart one of the bot's parts."""
        return await self._stopping(call, _RESTARTABLE, "restart")

    async def start_part(self, call: Call) -> Outcome:
        """Start one of the bot's parts."""
        return await self._plain(call, _RESTARTABLE, "POST", "/start")

    async def logs(self, call: Call) -> Outcome:
        """Pass a part's log on."""
        inspect = await self.sandboxes.find(call.path["ref"], PARTS)
        query = {key: _text(value) for key, value in call.query.items()}
        follow = bool(call.query.get("follow"))
        if follow:
            _check_streams(call.client)
        return Logs(str(inspect["Id"]), query, follow)

    async def exec_create(self, call: Call) -> Outcome:
        """Create an exec in a sandbox, or one of the fixed ones in the gateway."""
        request = read_model(ExecCreate, parse_object(call.body, CREATE_BYTES))
        operator = call.client.profile == "controller"
        inspect = await self.sandboxes.find(
            call.path["ref"], ("gateway",) if operator else (SANDBOX_SERVICE, "gateway")
        )
        if operator:
            body = plan_controller_exec(self.settings, request)
        elif self.sandboxes.service_of(inspect) == "gateway":
            body = plan_gateway_exec(self.settings, request)
        else:
            body = plan_exec(self.settings, request)
        call.client.execs.check_room(str(inspect["Id"]))
        async with self.sandboxes.gate.shared(first=operator):
            answer = await self.engine.call("POST", f"/containers/{inspect['Id']}/exec", body=body)
        if answer.status != 201:
            return _failed(answer)
        created = responses.exec_created(answer.json())
        call.client.execs.add(created["Id"], container=str(inspect["Id"]), tty=bool(body.get("Tty")))
        return _json(201, created)

    async def exec_start(self, call: Call) -> Outcome:
        """Start an exec, and turn the connection into its stream."""
        exec_id = call.path["exec"]
        known = call.client.execs.get(exec_id)
        if known is None:
            raise Refused(404, "the exec is not one that this client was handed")
        request = read_model(ExecStart, parse_object(call.body, START_BYTES))
        if request.Tty is not known.tty:
            raise Refused(400, "Tty is not what the exec was created with")
        _check_streams(call.client)
        known.started = True
        call.client.streams += 1  # the stream's end gives it back
        try:
            async with self.sandboxes.gate.shared(first=call.client.profile == "controller"):
                answer = await self.engine.upgrade(f"/exec/{exec_id}/start", plan_exec_start(request))
        except BaseException:
            # Whether it runs is not known: it counts as one that does not, of which there may only be so many.
            known.started = False
            call.client.streams -= 1
            raise
        if isinstance(answer, Answer):
            known.started = False
            call.client.streams -= 1
            return _failed(answer)
        return answer

    async def exec_inspect(self, call: Call) -> Outcome:
        """Show the state of an exec."""
        exec_id = self._own_exec(call)
        return _passed(await self.engine.call("GET", f"/exec/{exec_id}/json"), 200, responses.exec_state)

    async def exec_resize(self, call: Call) -> Outcome:
        """Tell an exec the size of its terminal."""
        exec_id = self._own_exec(call)
        query = {"h": _text(call.query["h"]), "w": _text(call.query["w"])}
        answer = await self.engine.call("POST", f"/exec/{exec_id}/resize", query=query)
        return Reply(200) if answer.status in (200, 201) else _failed(answer)

    async def never(self, call: Call) -> Outcome:
        """Answer for what no client of the broker has, without asking anybody."""
        return self._absent(call.path["ref"], _NEVER[call.path["kind"]].format(call.path["ref"]))

    async def never_plugin(self, call: Call) -> Outcome:
        """Answer for plugins, which no client of the broker has."""
        return self._absent(call.path["ref"], f'plugin "{call.path["ref"]}" not found')

    def _absent(self, reference: str, message: str) -> Reply:
        """An answer that says of something that it is not there.

        :raises Missing: it is not this client's to ask for. The name of a sandbox is: before each new one `docker
            inspect` looks for a container of that name and then for everything else that could have it.
        """
        if is_sandbox_name(self.settings, reference):
            return _error(404, message)
        raise Missing(message, foreign=True)

    def _own_exec(self, call: Call) -> str:
        exec_id = call.path["exec"]
        if call.client.execs.get(exec_id) is None:
            raise Refused(404, "the exec is not one that this client was handed")
        return exec_id

    async def _stopping(self, call: Call, services: tuple[str, ...], action: str) -> Outcome:
        seconds = call.number("t", STOP_SECONDS)
        if call.client.profile == "gateway":
            # Meanwhile no sandbox starts, and what runs there may be deaf to it.
            seconds = min(seconds, STOP_SECONDS)
        return await self._plain(call, services, "POST", f"/{action}", {"t": str(seconds)}, seconds + CALL_SECONDS)

    async def _plain(
        self,
        call: Call,
        services: tuple[str, ...],
        method: str,
        action: str,
        query: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Outcome:
        """A call on a container that answers nothing."""
        async with self.sandboxes.gate.shared(first=call.client.profile == "controller"):
            inspect = await self.sandboxes.find(call.path["ref"], services)
            path = f"/containers/{inspect['Id']}{action}"
            answer = await self.engine.call(method, path, query=query, seconds=seconds)
        if answer.status == 404:  # gone since we looked
            raise Missing.container(call.path["ref"], foreign=False)
        return Reply(answer.status) if answer.status in (204, 304) else _failed(answer)


def _check_streams(client: Client) -> None:
    if client.streams >= MAX_STREAMS:
        raise Refused(429, f"the client has {MAX_STREAMS} streams, which is its most")


def error_body(message: str) -> bytes:
    """An error as Docker's clients expect it."""
    return json.dumps({"message": message}).encode()


def _error(status: int, message: str) -> Reply:
    return Reply(status, error_body(message))


def _json(status: int, document: Any) -> Reply:
    return Reply(status, json.dumps(document, separators=(",", ":")).encode())


def _passed(answer: Answer, status: int, build: Callable[[Any], Any]) -> Reply:
    return _json(status, build(answer.json())) if answer.status == status else _failed(answer)


def _failed(answer: Answer) -> Reply:
    """The engine's error, in its words where they can hold nothing of the host."""
    if not 400 <= answer.status < 500:
        return _error(502, "the engine failed")
    message = answer.message()
    return _error(answer.status, message if _MESSAGE.fullmatch(message) else "the engine refused")


def _text(value: queries.Value) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _route(
    profiles: str,
    methods: str,
    pattern: str,
    handler: Handler,
    query: queries.QuerySpec = queries.NO_QUERY,
    *,
    body: int = 0,
    upgrades: bool = False,
) -> list[Route]:
    names: dict[str, frozenset[Profile]] = {
        "both": frozenset({"gateway", "controller"}),
        "gateway": frozenset({"gateway"}),
        "controller": frozenset({"controller"}),
    }
    expression = re.compile(pattern)
    return [Route(names[profiles], method, expression, handler, query, body, upgrades) for method in methods.split()]


_ROUTES = [
    *_route("both", "GET HEAD", "/_ping", Routes.ping),
    *_route("both", "GET", "/version", Routes.version),
    *_route("gateway", "GET", "/info", Routes.info),
    *_route("gateway", "GET", r"/images/(?P<image>[A-Za-z0-9][A-Za-z0-9_.:/-]{0,254})/json", Routes.image),
    *_route("both", "GET", "/containers/json", Routes.list, queries.CONTAINER_LIST),
    *_route("both", "GET", f"{_CONTAINER}/json", Routes.inspect, queries.CONTAINER_INSPECT),
    *_route("gateway", "POST", "/containers/create", Routes.create, queries.CONTAINER_CREATE, body=CREATE_BYTES),
    *_route("gateway", "POST", f"{_CONTAINER}/start", Routes.start_sandbox),
    *_route("gateway", "POST", f"{_CONTAINER}/stop", Routes.stop_sandbox, queries.CONTAINER_STOP),
    *_route("gateway", "POST", f"{_CONTAINER}/pause", Routes.pause_sandbox),
    *_route("gateway", "POST", f"{_CONTAINER}/unpause", Routes.unpause_sandbox),
    *_route("gateway", "DELETE", _CONTAINER, Routes.remove_sandbox, queries.CONTAINER_REMOVE),
    *_route("controller", "POST", f"{_CONTAINER}/start", Routes.start_part),
    *_route("controller", "POST", f"{_CONTAINER}/stop", Routes.stop_part, queries.CONTAINER_STOP),
    *_route("controller", "POST", f"{_CONTAINER}/restart", Routes.restart_part, queries.CONTAINER_RESTART),
    *_route("controller", "GET", f"{_CONTAINER}/logs", Routes.logs, queries.CONTAINER_LOGS),
    *_route("both", "POST", f"{_CONTAINER}/exec", Routes.exec_create, body=CREATE_BYTES),
    *_route("both", "POST", f"{_EXEC}/start", Routes.exec_start, body=START_BYTES, upgrades=True),
    *_route("both", "GET", f"{_EXEC}/json", Routes.exec_inspect),
    *_route("both", "POST", f"{_EXEC}/resize", Routes.exec_resize, queries.EXEC_RESIZE),
    *_route("gateway", "GET", rf"/(?P<kind>{'|'.join(_NEVER)})/(?P<ref>{_REFERENCE})", Routes.never),
    *_route("gateway", "GET", rf"/plugins/(?P<ref>{_REFERENCE})/json", Routes.never_plugin),
]
_TABLE: dict[tuple[Profile, str], list[Route]] = {}
for _one in _ROUTES:
    for _profile in _one.profiles:
        _TABLE.setdefault((_profile, _one.method), []).append(_one)
