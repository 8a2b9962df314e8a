"""What the kill switch works on: the machine's packet filter, processes, engine; and one at a time of it."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

from ..allocation import describe, read_allocations
from ..errors import CoreError
from .containers import Container, EngineFiles
from .engine import Engine
from .network import Network
from .processes import Process, Processes

_ANY_POOL = "10.0.0.0/8"  # user ids do not follow from the pool of networks
_UIDS = ("gateway_uid", "controller_uid", "proxy_uid", "egress_uid", "broker_uid")
_POLL = 0.01
Result = TypeVar("Result")


@dataclass
class World:
    """:param turn: file by which one waits for another; ``engine_turn``: the same for who gives and takes policies."""

    network: Network = field(default_factory=Network)
    processes: Processes = field(default_factory=Processes)
    files: EngineFiles = field(default_factory=EngineFiles)
    engine: Engine = field(default_factory=Engine)
    proc: Path = Path("/proc")
    turn: Path = Path("/run/clawfactory-killswitch.turn")
    engine_turn: Path = Path("/run/clawfactory-killswitch.engine")


class Belongings:
    """What belongs to bots: containers by their labels, with what is in them.

    A container whose label cannot be read (its directory is damaged, or just being made) is told by the user of its
    process, which follows from a bot's slot. Never one whose label can be read: a foreign container
    may have such users.
    """

    def __init__(self, root: Path, bots: Iterable[str], world: World) -> None:
        self._bots = frozenset(bots)
        self._world = world
        self._uids: dict[int, str] = {}
        self.problems: list[str] = []
        self.all: list[Container] = []
        try:
            allocations = read_allocations(root)
            for bot in self._bots & set(allocations):
                described = describe(root, bot, _ANY_POOL, allocations[bot])
                self._uids |= {int(described[key]): bot for key in _UIDS}
        except (CoreError, OSError, ValueError, TypeError, KeyError) as error:
            self.problems.append(f"slots: {error}; processes are found by the labels of their containers alone")

    def containers(self) -> list[Container]:
        """The bots' containers as they are now."""
        try:
            self.all = self._world.files.containers()
        except OSError as error:
            problem = f"containers: {error}; processes are found by the bots' users alone"
            if problem not in self.problems:
                self.problems.append(problem)
        return [container for container in self.all if container.bot in self._bots]

    def processes(self) -> list[Process]:
        """The bots' living processes."""
        own = frozenset(container.id for container in self.containers())
        found = (process for process in self._world.processes.in_containers() if self.owner(process))
        # Of one that is told by its user alone no cgroup is frozen or killed as a whole.
        return [replace(process, containers=process.containers & own) for process in found]

    def owner(self, process: Process) -> str:
        """Whose a process is, as of the last look at the containers; empty for nobody's of these bots."""
        known = [container.bot for container in self.all if container.id in process.containers]
        if known:
            return next((bot for bot in known if bot in self._bots), "")
        return self._uids.get(process.uid, "") if self._unknown(process) else ""

    def _unknown(self, process: Process) -> set[str]:
        """Ids of the container it is in, not of one around that, which the engine's files do not tell."""
        return set(process.innermost) - {container.id for container in self.all}


@contextmanager
def turn(file: Path, seconds: float) -> Iterator[bool]:
    """Wait for whoever works on the same machine, but not for ever.

    :returns: whether it is our turn.
    """
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        yield False
        return
    try:
        deadline = time.monotonic() + seconds
        ours = False
        while not ours:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                ours = True
            except BlockingIOError:
                if time.monotonic() > deadline:
                    break
                time.sleep(_POLL)
        yield ours
    finally:
        os.close(descriptor)


@contextmanager
def urgently() -> Iterator[None]:
    """Come before all ordinary processes for a while: a bot may have more of them than the machine has processors."""
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(OSError):  # not allowed here: then in the order of everybody
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        with suppress(OSError):  # it goes on being urgent, which does no harm
            os.sched_setscheduler(0, policy, parameter)


class Background(Generic[Result]):
    """Does something beside what goes on; :meth:`result` waits for it.

    :param what: bounded in time by itself.
    """

    def __init__(self, what: Callable[[], Result]) -> None:
        self._results: list[Result] = []
        self._errors: list[BaseException] = []

        def attempt() -> None:
            try:
                self._results.append(what())
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
                self._errors.append(error)

        self._thread = threading.Thread(target=attempt, daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether :meth:`result` would not wait."""
        return not self._thread.is_alive()

    def result(self) -> Result:
        """What it came to, or its exception."""
        self._thread.join()
        if self._errors:
            raise self._errors[0]
        return self._results[0]


def bounded(what: Callable[[], object], seconds: float) -> str:
    """Do something that may hang, such as writing to a disk, and go on without it if it does.

    :returns: why it is not done; empty if it is.
    """
    problems: list[str] = []

    def attempt() -> None:
        try:
            what()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not done, and must not look as if it were
            problems.append(str(error) or repr(error))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        return f"not done within {seconds:g} s"
    return problems[0] if problems else ""
