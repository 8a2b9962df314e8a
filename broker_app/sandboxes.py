"""The bot's containers: whose a container is, and how a sandbox is created and started.

The engine follows symbolic links in the source of a bind when the container *starts*. The sources of sandboxes are in
the bot's own hands, so between looking where they lead and starting nothing of the bot may run: everything that has its
files is frozen for that time, and the look is taken by a container of our own that mounts the same sources, read-only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any

from .binds import gateway_mounts
from .engine import CALL_SECONDS, Answer, Engine, EngineError
from .models import ContainerCreate
from .policy import compare_check, is_sandbox_name, plan_check, plan_create, recheck_sandbox, sandbox_sources
from .queries import own_filters
from .refusal import Refused
from .settings import BOT_LABEL, CHECK_LABEL, PARTS, SANDBOX_SERVICE, SERVICE_LABEL, Settings

_CHECK_SECONDS = 20.0
# The engine takes the start of an id as long as it is one container's: letter by letter that would tell others' ids.
_SHORT_ID = re.compile(r"[0-9a-f]{1,11}")
_ID = re.compile(r"[0-9a-f]{12,64}")
_MOUNTINFO_BYTES = 1024 * 1024
_REMOVE_TRIES = 5
_PAUSE_TRIES = 3
_STILL = frozenset({"paused", "created", "exited", "dead"})
_GIVEN_UP_SECONDS = 2 * CALL_SECONDS
_THAW_FIRST_SECONDS = 0.1
_THAW_MOST_SECONDS = 5.0

_logger = logging.getLogger(__name__)


class Missing(Exception):
    """There is no such thing for this client, which is told so in the engine's words.

    :param message: for the client.
    :param foreign: it is not the client's to ask for, there or not: a refusal, which is written down.
    """

    def __init__(self, message: str, *, foreign: bool) -> None:
        self.foreign = foreign
        super().__init__(message)

    @classmethod
    def container(cls, reference: str, *, foreign: bool) -> Missing:
        """There is no such container."""
        return cls(f"No such container: {reference}", foreign=foreign)


class Gate:
    """Lets calls that set containers going or stop them pass together, and a start of a sandbox alone.

    Stopping a frozen container thaws it, so not even a call that is on its way may be left when the freeze begins.
    """

    def __init__(self) -> None:
        self._entry = asyncio.Lock()
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._first = 0
        self._no_first = asyncio.Event()
        self._no_first.set()

    @contextlib.asynccontextmanager
    async def shared(self, *, first: bool = False) -> AsyncIterator[None]:
        """Pass together with others.

        :param first: before all who wait and are not: a bot cannot keep its operator waiting with a crowd of calls.
        """
        async with self._enter(first=first):
            self._inside += 1
            self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Pass when nobody else is inside, and keep everybody out meanwhile."""
        async with self._enter(first=False):
            await self._empty.wait()
            yield

    @contextlib.asynccontextmanager
    async def _enter(self, *, first: bool) -> AsyncIterator[None]:
        if first:
            self._first += 1
            self._no_first.clear()
            try:
                await self._entry.acquire()
            finally:
                self._first -= 1
                if not self._first:
                    self._no_first.set()
        else:
            await self._entry.acquire()
            while self._first:
                self._entry.release()
                await self._no_first.wait()
                await self._entry.acquire()
        try:
            yield
        finally:
            self._entry.release()


class Sandboxes:
    """:param settings: of this broker. :param engine: the engine's client."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine
        self.gate = Gate()
        self._creating = asyncio.Lock()
        self._starts: set[asyncio.Task[bool]] = set()
        self._later: set[asyncio.Task[None]] = set()

    async def find(self, reference: str, services: Collection[str]) -> dict[str, Any]:
        """The engine's inspect of a container of this bot.

        :param reference: name, id or the first 12 digits of one or more, already checked for its characters.
        :param services: values of the service label that the client may mean.
        :raises Missing: there is none, or it is not one of those.
        :raises EngineError: the engine does not answer as it should.
        """
        if _SHORT_ID.fullmatch(reference):
            raise Missing.container(reference, foreign=True)
        answer = await self._engine.call("GET", f"/containers/{reference}/json")
        if answer.status != 200:
            if answer.status >= 500:
                raise EngineError(f"inspect of a container answered {answer.status}: {answer.message()[:200]}")
            raise Missing.container(reference, foreign=not self._may_ask(reference))
        inspect = _mapping(answer.json())
        if self.service_of(inspect) not in services:
            raise Missing.container(reference, foreign=True)
        return inspect

    def _may_ask(self, reference: str) -> bool:
        # By an id it may be one that is gone since; a name that is not the bot's it has no reason to know.
        own = reference in {self._settings.part_name(part) for part in PARTS} or is_sandbox_name(
            self._settings, reference
        )
        return own or _ID.fullmatch(reference) is not None

    def service_of(self, inspect: Mapping[str, Any]) -> str | None:
        """Which of the bot's services a container is, by labels *and* name; ``None`` for everything else."""
        labels = _mapping(_mapping(inspect.get("Config")).get("Labels"))
        name = str(inspect.get("Name")).removeprefix("/")
        if labels.get(BOT_LABEL) != self._settings.bot or CHECK_LABEL in labels:
            return None
        service = labels.get(SERVICE_LABEL)
        if service == SANDBOX_SERVICE:
            return SANDBOX_SERVICE if is_sandbox_name(self._settings, name) else None
        return service if service in PARTS and name == self._settings.part_name(service) else None

    async def own(self) -> list[dict[str, Any]]:
        """The engine's list entries of everything that carries this bot's label, checkers included."""
        filters = own_filters(self._settings, None, sandboxes_only=False)
        answer = await self._engine.call("GET", "/containers/json", query={"all": "1", "filters": filters})
        return [_mapping(item) for item in _expect(answer, 200, "the list of containers").json()]

    async def create(self, name: str, request: ContainerCreate) -> Answer:
        """Create a sandbox from what was asked; the engine's answer.

        :raises Refused: the policy does not allow it, or there are enough.
        """
        async with self._creating, self.gate.shared():
            count = sum(
                _label(item, SERVICE_LABEL) == SANDBOX_SERVICE for item in await self.own() if not _checks(item)
            )
            if count >= self._settings.sandbox.max_count:
                raise Refused(429, f"the bot has {self._settings.sandbox.max_count} sandboxes, which is its most")
            body = plan_create(self._settings, name, request, gateway_mounts(await self._gateway()))
            return await self._engine.call("POST", "/containers/create", query={"name": name}, body=body)

    async def start(self, sandbox_id: str) -> bool:
        """Start a sandbox; ``False`` if it runs already. Goes on to its end even if the caller is cancelled.

        :raises Refused: a bind does not lead where its path says, or the engine failed; the sandbox is removed.
        """
        task = asyncio.get_running_loop().create_task(self._start(sandbox_id))
        self._starts.add(task)
        task.add_done_callback(self._starts.discard)
        return await asyncio.shield(task)

    async def settle(self, seconds: float) -> None:
        """Wait so many seconds for starts that are under way; what was put off for later the next broker does."""
        if self._starts:
            await asyncio.wait(self._starts, timeout=seconds)
        later = list(self._later)
        for task in later:
            task.cancel()
        await asyncio.gather(*later, return_exceptions=True)

    async def recover(self) -> None:
        """Undo what a broker that was killed left: frozen containers and checkers.

        :raises EngineError: the engine does not answer.
        """
        own = await self.own()
        await self._thaw([str(item["Id"]) for item in own if item.get("State") == "paused" and _freezable(item)])
        for item in own:
            if _checks(item):
                await self._remove(str(item["Id"]))

    async def _gateway(self) -> dict[str, Any]:
        try:
            return await self.find(self._settings.part_name("gateway"), ("gateway",))
        except Missing:
            raise Refused(409, "the bot's gateway is not there") from None

    async def _start(self, sandbox_id: str) -> bool:
        async with self.gate.alone():
            inspect = await self.find(sandbox_id, (SANDBOX_SERVICE,))
            if _mapping(inspect.get("State")).get("Running"):
                return False
            try:
                await self._checked_start(sandbox_id, inspect)
            except EngineError as error:
                _logger.warning("a sandbox was not started: %s", error)
                self._recover_later()
                raise Refused(403, "the sandbox could not be started safely") from error
            return True

    async def _checked_start(self, sandbox_id: str, inspect: Mapping[str, Any]) -> None:
        frozen: list[str] = []
        allowed = {sandbox_id}
        try:
            sources = sandbox_sources(inspect)
            recheck_sandbox(self._settings, inspect, gateway_mounts(await self._gateway()))
            # Made before the freeze, which it would only make longer: it looks when it starts.
            checker = await self._create_checker(sources)
            allowed.add(checker)
            await self._freeze(frozen)
            compare_check(self._settings, sources, await self._look(checker))
            _expect(await self._engine.call("POST", f"/containers/{sandbox_id}/start"), 204, "the start")
            # Killed and started again by its restart policy, say: then the look was worth nothing.
            await self._check_still(allowed)
        except BaseException:
            # Before anything thaws: nothing of the bot must ever run with what was mounted.
            await self._remove_for_sure(sandbox_id)
            raise
        finally:
            await self._thaw(frozen)
            for checker in allowed - {sandbox_id}:
                await self._remove(checker)

    def _recover_later(self) -> None:
        """Look again for what is frozen: a pause that was given up may have had its effect since."""

        async def recover() -> None:
            await asyncio.sleep(_GIVEN_UP_SECONDS)
            async with self.gate.alone():
                await self.recover()

        task = asyncio.get_running_loop().create_task(recover())
        self._later.add(task)
        task.add_done_callback(self._recovered)

    def _recovered(self, task: asyncio.Task[None]) -> None:
        self._later.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._recover_later()

    async def _freeze(self, frozen: list[str]) -> None:
        """Pause everything of the bot that can touch its files.

        :param frozen: gets the id of each container as it is paused, also when this fails half-way.
        """
        running = [item for item in await self.own() if _freezable(item) and item.get("State") == "running"]
        if not any(_label(item, SERVICE_LABEL) == "gateway" for item in running):
            raise Refused(409, "the bot's gateway does not run")

        async def pause(container_id: str) -> None:
            # First: a call that fails late may have had its effect, and to thaw what is not frozen does no harm.
            frozen.append(container_id)
            # The kernel may not get every process still at once, while many are being made or swapped in.
            for attempt in range(1, _PAUSE_TRIES + 1):
                answer = await self._engine.call("POST", f"/containers/{container_id}/pause")
                if answer.status == 204:
                    return
                _logger.warning("pause %d answered %d: %s", attempt, answer.status, answer.message()[:200])
                await asyncio.sleep(0.1 * attempt)

        results = await asyncio.gather(*(pause(str(item["Id"])) for item in running), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        await self._check_still(set())

    async def _check_still(self, allowed: Collection[str]) -> None:
        """:raises Refused: something of the bot runs, apart from the ``allowed``."""
        own = [item for item in await self.own() if _freezable(item) or _checks(item)]
        moving = [item for item in own if item.get("State") not in _STILL and item["Id"] not in allowed]
        # A gateway that is not paused but down would come back by its restart policy.
        gateway = [item for item in own if _label(item, SERVICE_LABEL) == "gateway"]
        if moving or not gateway or any(item.get("State") != "paused" for item in gateway):
            raise Refused(403, "the bot could not be held still while the sandbox was started")

    async def _create_checker(self, sources: Sequence[str]) -> str:
        name = f"{self._settings.sandbox_prefix}check-{secrets.token_hex(8)}"
        body = plan_check(self._settings, sources)
        answer = await self._engine.call("POST", "/containers/create", query={"name": name}, body=body)
        return str(_mapping(_expect(answer, 201, "the check's creation").json())["Id"])

    async def _look(self, checker: str) -> str:
        """Run the checker; what it saw mounted."""
        _expect(await self._engine.call("POST", f"/containers/{checker}/start"), 204, "the check's start")
        path, condition = f"/containers/{checker}/wait", {"condition": "not-running"}
        waited = await self._engine.call("POST", path, query=condition, seconds=_CHECK_SECONDS)
        if _mapping(_expect(waited, 200, "the check").json()).get("StatusCode") != 0:
            raise EngineError("the check did not end well")
        output = {"stdout": "1", "stderr": "0"}
        logs = await self._engine.call("GET", f"/containers/{checker}/logs", query=output, limit=_MOUNTINFO_BYTES)
        # As the kernel gave it: names are bytes.
        return _stdout(_expect(logs, 200, "the check's log").body).decode("utf-8", "surrogateescape")

    async def _thaw(self, containers: Sequence[str]) -> None:
        """Unpause each, however long the engine takes to do it: a frozen gateway is a dead bot."""
        await asyncio.gather(*(self._thaw_one(container) for container in containers))

    async def _thaw_one(self, container: str) -> None:
        delay = _THAW_FIRST_SECONDS
        while True:
            try:
                answer = await self._engine.call("POST", f"/containers/{container}/unpause")
                if answer.status in (204, 404) or "is not paused" in answer.message():
                    return
                problem = f"{answer.status} {answer.message()[:200]}"
            except EngineError as error:
                problem = str(error)
            _logger.error("cannot unpause %s, trying again: %s", container[:12], problem)
            await asyncio.sleep(delay)
            delay = min(delay * 2, _THAW_MOST_SECONDS)

    async def _remove(self, container: str) -> bool:
        try:
            answer = await self._engine.call("DELETE", f"/containers/{container}", query={"force": "1", "v": "1"})
        except EngineError as error:
            _logger.error("cannot remove %s: %s", container[:12], error)
            return False
        return answer.status in (204, 404)

    async def _remove_for_sure(self, container: str) -> None:
        for attempt in range(_REMOVE_TRIES):
            if await self._remove(container):
                return
            await asyncio.sleep(0.2 * (attempt + 1))
        _logger.error("a sandbox that must not run could not be removed: %s", container[:12])


def _freezable(item: Mapping[str, Any]) -> bool:
    # By label alone, so by more than ownership asks for: what is frozen in vain is thawed again.
    return _label(item, SERVICE_LABEL) in ("gateway", SANDBOX_SERVICE) and not _checks(item)


def _checks(item: Mapping[str, Any]) -> bool:
    return CHECK_LABEL in _mapping(item.get("Labels"))


def _label(item: Mapping[str, Any], name: str) -> Any:
    return _mapping(item.get("Labels")).get(name)


def _mapping(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise EngineError("the engine's answer has another form")
    return value


def _expect(answer: Answer, status: int, what: str) -> Answer:
    if answer.status != status:
        raise EngineError(f"{what} answered {answer.status}: {answer.message()[:200]}")
    return answer


def _stdout(log: bytes) -> bytes:
    """What went to standard output, from the engine's frames: kind, three zeros, length (big endian), text."""
    parts, at = [], 0
    while at + 8 <= len(log):
        size = int.from_bytes(log[at + 4 : at + 8], "big")
        if log[at] == 1:
            parts.append(log[at + 8 : at + 8 + size])
        at += 8 + size
    if at != len(log):
        raise EngineError("the check's log is cut short")
    return b"".join(parts)
