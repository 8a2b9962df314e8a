"""What holds a lock: while it is there, nothing of the bot lives on, whoever starts it, and what hung is finished.

The locks of the machine are all it obeys. It never unlocks. A bot is also locked by whoever can only write a lock and
not do the rest, such as the jobs service on the operator's word: the guard does the rest. Beside that it ends
commands that keep a paused container from going on.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from .. import locks
from ..errors import CoreError
from . import record
from .frozen_exec import FrozenExecs
from .lock import LockRequest, Outcome, Switch, apply_lock
from .machine_lock import read_machine
from .network import NetworkError, bridges_of
from .record import Record
from .world import Background, World, bounded, turn

#: Seconds between two looks.
SECONDS = 0.25
#: Seconds between two looks at the packet filter, whose program takes some milliseconds.
_FILTER_SECONDS = 1.0
#: Seconds between two lines of the audit about a bot that is started again and again.
_SAID_SECONDS = 60.0
#: Seconds between two looks at what is being started in paused containers.
_FROZEN_SECONDS = 1.0
_NOTE_SECONDS = 5.0
_ENGINE_SECONDS = 30.0
_LOG = logging.getLogger("clawfactory.killswitch")


class Guard:
    """:param ending: set it to end :meth:`run`."""

    def __init__(self, root: Path, ending: threading.Event, world: World | None = None) -> None:
        self._root = root
        self._ending = ending
        self._world = world or World()
        self._ports: set[str] = set()
        self._next_filter = 0.0
        self._frozen_execs = FrozenExecs(self._world)
        self._next_frozen = 0.0
        self._said: dict[str, float] = {}
        self._complaint = ""
        self._turning: Background[list[str]] | None = None

    @property
    def settled(self) -> bool:
        """Whether nothing is being done beside :meth:`once`."""
        return self._turning is None

    def run(self) -> None:
        """Hold every lock until told to end."""
        while not self._ending.is_set():
            # Whatever goes wrong, the next look may go better.
            problems = [*_attempted(self.once), *_attempted(self._end_frozen)]
            self._complain("; ".join(problems))
            self._ending.wait(SECONDS)

    def once(self) -> bool:
        """Look once.

        :returns: whether anything is locked.
        """
        bots = locks.locked_bots(self._root)
        machine = read_machine(self._root)
        if not bots and machine is None:
            self._next_filter = 0.0
            return False
        # What is wrong with one of them, or with one of the steps, keeps nothing from the others.
        problems: list[str] = []
        for bot in bots:
            problems += _attempted(partial(self._finish_one, bot))
        with turn(self._world.turn, 0.0) as ours:
            if ours:
                bots = locks.locked_bots(self._root)  # one may just have been unlocked
                problems += _attempted(partial(self._hold_network, bots))
                problems += _attempted(partial(self._hold, bots))
        if problems:
            raise CoreError("; ".join(problems))
        return True

    def _finish_one(self, bot: str) -> None:
        found = record.read(self._root, bot)
        if found is not None and found.state != locks.LOCKED:
            self._finish(bot, found)

    def hold_network(self) -> None:
        """Cut off what is locked, whether the packet filter knows it or not; at boot, before the engine starts."""
        bots = locks.locked_bots(self._root)
        machine = read_machine(self._root)
        if bots or machine:
            cut = self._world.network.cut(bots, machine.allowed if machine else None)
            if not cut.how:
                raise NetworkError("; ".join(cut.problems))

    def _end_frozen(self) -> None:
        if time.monotonic() >= self._next_frozen:
            self._next_frozen = time.monotonic() + _FROZEN_SECONDS
            self._frozen_execs.once()

    def _hold_network(self, bots: list[str]) -> None:
        if time.monotonic() < self._next_filter:
            return
        machine = read_machine(self._root)
        ports = set(self._world.network.ports(bridges_of(bots)))
        if ports - self._ports or not self._world.network.is_cut(bots, machine=machine is not None):
            self.hold_network()
        self._ports = ports
        self._next_filter = time.monotonic() + _FILTER_SECONDS

    def _hold(self, bots: list[str]) -> None:
        found_all = {bot: found for bot in bots if (found := record.read(self._root, bot)) is not None}
        done = {bot: found for bot, found in found_all.items() if found.state == locks.LOCKED}
        switch = Switch(self._root, done, self._world)
        killed = switch.kill()
        for bot, found in done.items():
            counts = switch.counts(bot, killed)
            if counts["killed"]:
                self._tell(found, counts["killed"])
            if "audit" in found.pending:
                record.finish(self._root, found)
        self._see_to_policies(done)

    def _see_to_policies(self, records: dict[str, Record]) -> None:
        """Beside what goes on: an engine that is busy takes its time, and what it starts has to die meanwhile."""
        if self._turning is None:
            if any("policies" in found.pending for found in records.values()) or self._have_policies(records):
                self._turning = Background(lambda: self._turn_policies_off(tuple(records)))
        elif self._turning.over:
            turning, self._turning = self._turning, None
            problems = turning.result()
            if problems:
                raise CoreError("; ".join(problems))

    def _have_policies(self, records: dict[str, Record]) -> bool:
        files = self._world.files
        return any(item.bot in records and files.policy(item) for item in files.containers())

    def _turn_policies_off(self, bots: tuple[str, ...]) -> list[str]:
        """:returns: what did not work."""
        with turn(self._world.engine_turn, 0.0) as ours:
            if not ours:
                return []
            # Not as they were before it was our turn: one may have been unlocked.
            read = {bot: record.read(self._root, bot) for bot in bots}
            records = {bot: found for bot, found in read.items() if found is not None}
            before, problems = dict(records), []  # type: dict[str, Record], list[str]
            done = Switch(self._root, records, self._world).turn_policies_off(records, problems, _ENGINE_SECONDS)
            for bot, found in records.items():
                if found != before[bot]:
                    record.write(self._root, found)
            return [*problems, *done.problems]

    def _finish(self, bot: str, found: Record) -> None:
        """Do what whoever locked did not do, or not to its end; that both do it at the same moment harms nothing."""
        # A lock that somebody else is just throwing is theirs to finish, unless they die over it.
        if found.actor and found.source != "dashboard" and _age(self._root, bot) < _NOTE_SECONDS:
            return
        # Who locked may have written what nobody may: that is no reason not to lock.
        request = LockRequest(
            self._root,
            (bot,),
            actor=record.printable(found.actor, record.MAX_ACTOR) or "somebody",
            reason=record.printable(found.reason, record.MAX_REASON),
            source=found.source or "guard",
        )
        outcome: Outcome = apply_lock(request, self._world)
        _LOG.warning("%s: locked, %d processes killed; %s", bot, outcome.killed, "; ".join(outcome.problems) or "done")

    def _tell(self, found: Record, killed: int) -> None:
        _LOG.warning("%s is locked: %d processes killed", found.bot, killed)
        if time.monotonic() < self._said.get(found.bot, 0.0):
            return
        self._said[found.bot] = time.monotonic() + _SAID_SECONDS
        said = replace(found, actor="guard", source="guard", happened={})
        problem = bounded(lambda: record.audit(self._root, "lock.enforced", said, {"killed": killed}), _NOTE_SECONDS)
        if problem:
            _LOG.error("%s: audit: %s", found.bot, problem)

    def _complain(self, text: str) -> None:
        if text and text != self._complaint:
            _LOG.error("%s", text)
        self._complaint = text


def _attempted(what: Callable[[], object]) -> list[str]:
    """Why it failed; nothing if it did not."""
    try:
        what()
    except Exception as error:  # noqa: BLE001 - a guard that ends guards nothing, and a bot must not end it
        return [_told(error)]
    return []


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, (CoreError, OSError)) else repr(error)


def _age(root: Path, bot: str) -> float:
    try:
        return abs(time.time() - os.lstat(locks.lock_path(root, bot)).st_mtime)
    except FileNotFoundError:
        return 0.0
