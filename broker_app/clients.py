"""What the broker keeps of each client: its slots, the execs it was handed, and how often it was refused."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clawfactory_core import audit
from clawfactory_core.errors import CoreError

from .refusal import Refused
from .settings import Profile

MAX_CONNECTIONS = 64
MAX_STREAMS = 64
#: Execs that were created and not started yet; they stay in the engine for as long as their container.
MAX_PENDING_EXECS = 256
MAX_EXECS = 4096
PENDING_SECONDS = 600.0
#: Of one container: execs that were forgotten without a start. Only its end frees the engine of them.
MAX_ABANDONED_EXECS = 256
#: Answers about all containers at the same time: whoever does not read them waits for himself.
MAX_ANSWERS = 4
#: A refusal costs this much more for each one of the last seconds, so that there are at most a few a second.
REFUSAL_STEP_SECONDS = 0.02
REFUSALS_FORGOTTEN_PER_SECOND = 5.0
REFUSAL_MOST_SECONDS = 5.0
AUDIT_BYTES = 16 * 1024 * 1024
_PATH_LENGTH = 256

_logger = logging.getLogger(__name__)


class AuditLog:
    """Writes the broker's lines, one after another, beside the event loop.

    :param path: of the file.
    :param bot: whose broker this is.
    """

    def __init__(self, path: Path, bot: str) -> None:
        self._path = path
        self._bot = bot
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="audit")

    def write(self, event: str, fields: Mapping[str, Any]) -> asyncio.Future[None]:
        """Add a line, from now on and whoever waits for it or not.

        A log that cannot be written is reported on stderr: refusing goes on without it.
        """
        return asyncio.shield(asyncio.wrap_future(self._thread.submit(self._append, event, dict(fields))))

    def _append(self, event: str, fields: Mapping[str, Any]) -> None:
        try:
            audit.append(self._path, event, self._bot, fields, max_bytes=AUDIT_BYTES)
        except (OSError, CoreError) as error:
            _logger.error("cannot write the audit log: %s; not written: %s %s", error, event, dict(fields))


@dataclass
class Exec:
    """An exec that a client was handed.

    :param container: id of the one it is in.
    :param tty: whether it was created with a terminal.
    :param created: time of the event loop.
    """

    container: str
    tty: bool
    created: float
    started: bool = False


@dataclass
class Execs:
    """The execs handed to one client, by id; the oldest are forgotten, and those never started."""

    _known: OrderedDict[str, Exec] = field(default_factory=OrderedDict)
    _abandoned: Counter[str] = field(default_factory=Counter)

    def check_room(self, container: str) -> None:
        """:raises Refused: 429, too many wait for their start, or were left alone in this container."""
        now = asyncio.get_running_loop().time()
        for exec_id in [
            key for key, one in self._known.items() if not one.started and one.created < now - PENDING_SECONDS
        ]:
            self._forget(self._known.pop(exec_id))
        if sum(not one.started for one in self._known.values()) >= MAX_PENDING_EXECS:
            raise Refused(429, "too many execs were created and not started")
        if self._abandoned[container] >= MAX_ABANDONED_EXECS:
            raise Refused(429, "too many execs of the container were never started; make it anew")

    def add(self, exec_id: str, *, container: str, tty: bool) -> None:
        """Remember an exec as handed to the client."""
        self._known[exec_id] = Exec(container, tty, asyncio.get_running_loop().time())
        while len(self._known) > MAX_EXECS:
            self._forget(self._known.popitem(last=False)[1])

    def _forget(self, one: Exec) -> None:
        if not one.started:
            self._abandoned[one.container] += 1
            if len(self._abandoned) > MAX_EXECS:
                # Of the container that is known longest, which by then is hardly there any more.
                del self._abandoned[next(iter(self._abandoned))]

    def get(self, exec_id: str) -> Exec | None:
        """The exec, if it was handed to this client."""
        return self._known.get(exec_id)


class Client:
    """One who may call: the gateway or the controller.

    :param profile: which of the two.
    :param log: where its refused calls are written.
    """

    def __init__(self, profile: Profile, log: AuditLog) -> None:
        self.profile: Profile = profile
        self.execs = Execs()
        self.connections = asyncio.Semaphore(MAX_CONNECTIONS)
        self.answers = asyncio.Semaphore(MAX_ANSWERS)
        self.streams = 0
        self._log = log
        self._refusing = asyncio.Lock()
        self._refusals = 0.0
        self._counted_at = 0.0

    async def refused(self, said: tuple[str, str], status: int, reason: str) -> None:
        """Write a refused call down, and wait before it is answered.

        :param said: method and path, as far as they are known.
        """
        fields = {
            "client": self.profile,
            "method": said[0],
            "path": _printable(said[1]),
            "status": status,
            "reason": reason,
        }
        written = self._log.write("broker.refused", fields)
        await self._delay()
        await written

    async def missing(self) -> None:
        """Wait as for a refused call: what is foreign and what is not there must not differ in time either."""
        await self._delay()

    async def _delay(self) -> None:
        async with self._refusing:  # one after another, so that a crowd of connections is no faster than one
            now = asyncio.get_running_loop().time()
            self._refusals = max(0.0, self._refusals - (now - self._counted_at) * REFUSALS_FORGOTTEN_PER_SECOND) + 1
            self._counted_at = now
            await asyncio.sleep(min(self._refusals * REFUSAL_STEP_SECONDS, REFUSAL_MOST_SECONDS))


def _printable(path: str) -> str:
    escaped = "".join(char if char.isascii() and char.isprintable() else f"\\x{ord(char):02x}" for char in path)
    return escaped[:_PATH_LENGTH]
