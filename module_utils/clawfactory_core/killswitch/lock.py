"""Locks bots: the network, the processes, the restart policies, the lock, the audit; in this order.

Nothing waits for what can hang: nothing is asked of the engine before everything is dead, and a step that fails is
noted and the next one done. Whatever is left, a second ``lock`` or the guard finishes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import locks
from ..errors import InvalidInput
from ..names import check_bot_name
from . import evidence, record
from .engine import ANSWERS, UPDATE_SECONDS, Policies
from .machine_lock import MachineLock, write_machine
from .network import Cut, Exceptions, NetworkError
from .processes import Killed, Process
from .record import Record
from .world import Background, Belongings, World, bounded, turn, urgently

#: How long processes get to die; one that does not is in the kernel's hands.
KILL_SECONDS = 10.0
#: How long the disk gets for what is written down before the end, and at the end.
_NOTE_SECONDS, _DISK_SECONDS = 2.0, 15.0
_TURN_SECONDS = 0.3
#: How long an engine that answers gets to notice that everything is dead.
_SETTLE_SECONDS, _SETTLE_PAUSE = 3.0, 0.02


@dataclass(frozen=True)
class LockRequest:
    """What is asked for.

    :param bots: their names; they need not be deployed, or known to this machine at all.
    :param actor: who asks.
    :param source: ``playbook``, ``script``, ``dashboard``.
    :param machine: cut off the whole machine but for these.
    :param take_evidence: record what ran before it is killed.
    """

    root: Path
    bots: tuple[str, ...]
    actor: str
    reason: str = ""
    source: str = "playbook"
    machine: Exceptions | None = None
    take_evidence: bool = True

    @property
    def scope(self) -> str:
        """``bot`` or ``machine``."""
        return "bot" if self.machine is None else "machine"


@dataclass
class Outcome:
    """What became of it.

    :param bots: by name: ``changed``, and the lock's file as plain data.
    :param others: what else runs in containers of this machine: ``bots`` and ``containers``.
    :param milliseconds: since the beginning, at the end of each step.
    :param problems: what did not work; the steps after it were done all the same.
    :param unlocked: bots whose lock is not there, as on a disk that takes no file: nothing keeps them dead.
    """

    bots: dict[str, dict[str, Any]] = field(default_factory=dict)
    others: dict[str, list[str]] = field(default_factory=dict)
    milliseconds: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    unlocked: list[str] = field(default_factory=list)
    network: str = ""
    frames: str = ""
    engine: str = ""
    killed: int = 0
    left: list[int] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether anything was done that was not done before."""
        return any(bot["changed"] for bot in self.bots.values())


def check_request(request: LockRequest) -> None:
    """:raises InvalidInput: it cannot be understood; nothing has been done."""
    if not request.bots:
        raise InvalidInput("no bot is named; name those to lock")
    for bot in request.bots:
        check_bot_name(bot)
    record.check_words(request.actor, request.reason)


def plan_lock(request: LockRequest, world: World) -> dict[str, list[str]]:
    """What would be done to each bot; reads only.

    :raises InvalidInput: the request cannot be understood.
    """
    check_request(request)
    belongings = Belongings(request.root, request.bots, world)
    running = belongings.processes()
    plan = {}
    for bot in request.bots:
        found = record.read(request.root, bot)
        own = sum(1 for process in running if belongings.owner(process) == bot)
        plan[bot] = [
            *([] if _is_cut(world, [bot], request.machine is not None) else ["cut off its network"]),
            *([f"kill {own} processes"] if own else []),
            *([] if found and found.done else ["lock"]),
        ]
    return plan


def apply_lock(request: LockRequest, world: World | None = None) -> Outcome:
    """Do it; again is harmless, and finishes what was not finished.

    :raises InvalidInput: the request cannot be understood; nothing has been done.
    """
    check_request(request)
    with urgently():
        return _apply(request, world or World())


def _apply(request: LockRequest, world: World) -> Outcome:
    began = time.monotonic()
    outcome = Outcome()

    def note(step: str) -> None:
        outcome.milliseconds[step] = round((time.monotonic() - began) * 1000)

    was_cut = _is_cut(world, request.bots, request.machine is not None)
    cut = world.network.cut(request.bots, request.machine)
    note("network")
    with turn(world.turn, _TURN_SECONDS):
        before = {bot: record.read(request.root, bot) for bot in request.bots}
        again = all(found is not None and found.done for found in before.values())
        records = _mark(request, before, outcome)
        switch = Switch(request.root, request.bots, world)
        if request.take_evidence and not again:
            try:
                switch.take_evidence()
            except Exception as error:  # noqa: BLE001 - what the bot is like must not keep it from being killed
                outcome.problems.append(f"evidence: {error!r}")
        killed = switch.kill_once()
        # The engine starts what died after a tenth of a second, so it is told at once; nothing waits for it.
        turning = Background(lambda: switch.turn_policies_off(records, outcome.problems))
        killed = _and(killed, switch.kill())
        note("processes")
        policies = turning.result()
        killed = _and(killed, switch.kill_what_was_starting(policies))
        note("policies")
        if request.machine is not None:
            lock = MachineLock(request.actor, record.now(), request.reason, request.machine)
            _said(
                outcome.problems,
                "the cut of the machine",
                bounded(lambda: write_machine(request.root, lock), _NOTE_SECONDS),
            )
        _tell(outcome, cut, killed, policies, switch)
        for bot in request.bots:
            counts = switch.counts(bot, killed)
            found = before[bot]
            changed = not (found and found.done and was_cut and not counts["killed"] and not counts["policies"])
            if changed:
                records[bot] = switch.finish(records[bot], outcome, counts, found is not None and found.done)
            outcome.bots[bot] = {"changed": changed, **_plain(records[bot])}
        note("recorded")
    outcome.unlocked = [bot for bot in request.bots if not os.path.lexists(locks.lock_path(request.root, bot))]
    if outcome.unlocked:
        bots = ", ".join(outcome.unlocked)
        outcome.problems.append(f"NOT LOCKED: {bots}; nothing keeps them from being started again")
    return outcome


class Switch:
    """The steps after the cut, on some bots of a machine.

    :ivar taken: evidence by bot.
    """

    def __init__(self, root: Path, bots: Iterable[str], world: World) -> None:
        self._root = root
        self._bots = tuple(bots)
        self._world = world
        self._belongings = Belongings(root, bots, world)
        self._set: dict[str, list[str]] = {bot: [] for bot in self._bots}
        self.taken: dict[str, dict[str, Any]] = {}

    @property
    def problems(self) -> list[str]:
        """What could not be read."""
        return self._belongings.problems

    def take_evidence(self) -> None:
        """Freeze, then look at what is frozen, for half a second at most."""
        deadline = time.monotonic() + evidence.SECONDS
        found = self._belongings.processes()
        self._world.processes.freeze(found)
        containers = self._belongings.containers()
        for bot in self._bots:
            own = [process for process in found if self._belongings.owner(process) == bot]
            if own:
                self.taken[bot] = evidence.take(bot, containers, own, deadline, self._world.proc)

    def kill_once(self) -> Killed:
        """Send SIGKILL to everything there is now, and do not look whether it died."""
        return self._world.processes.kill(self._belongings.processes, 0.0)

    def kill(self) -> Killed:
        """Kill until nothing is left."""
        return self._world.processes.kill(self._belongings.processes, KILL_SECONDS)

    def kill_what_was_starting(self, policies: Policies) -> Killed:
        """Kill until the engine, too, knows that nothing runs: what it was just starting again may not be seen yet."""
        killed = self.kill()
        deadline = time.monotonic() + _SETTLE_SECONDS
        while policies.engine == ANSWERS and time.monotonic() < deadline:
            if not any(self._world.files.is_active(container) for container in self._belongings.containers()):
                break
            time.sleep(_SETTLE_PAUSE)
            killed = _and(killed, self.kill())
        return killed

    def turn_policies_off(
        self, records: dict[str, Record], problems: list[str], seconds: float = UPDATE_SECONDS
    ) -> Policies:
        """No container of the bots starts by itself any more; what they had is written down before.

        An engine that hung has the old policies in its memory: it is told when it answers.
        """
        files = self._world.files
        untold = {bot for bot, found in records.items() if "policies" in found.pending}
        had = {item: files.policy(item) for item in self._belongings.containers()}
        wanted = {item: "" for item, policy in had.items() if policy or item.bot in untold}
        for bot in {item.bot for item, policy in had.items() if policy}:
            known = {item.name: policy for item, policy in had.items() if policy and item.bot == bot}
            records[bot] = replace(records[bot], policies={**known, **records[bot].policies})
            _said(problems, f"restart policies of {bot}", bounded(self._writer(records[bot]), _NOTE_SECONDS))
        done = self._world.engine.set_policies(wanted, files, seconds)
        for bot in {item.bot for item in wanted}:
            self._set[bot] += [item.name for item in wanted if item.bot == bot and item.name in done.set]
            kept = {*records[bot].pending} - {"policies"} | ({"policies"} if done.pending else set())
            records[bot] = replace(records[bot], pending=tuple(sorted(kept)))
        return done

    def counts(self, bot: str, killed: Killed) -> dict[str, Any]:
        """What happened to one bot."""
        own = [process for process in killed.processes if self._belongings.owner(process) == bot]
        return {"killed": len(own), "policies": len(self._set[bot])}

    def others(self) -> dict[str, list[str]]:
        """What else runs in containers."""
        bots, containers = set(), set()
        by_id = {container.id: container for container in self._belongings.all}
        for process in self._world.processes.in_containers():
            for container in (by_id[item] for item in process.containers if item in by_id):
                if container.bot and container.bot not in self._bots:
                    bots.add(container.bot)
                elif not container.bot:
                    containers.add(container.name)
        return {"bots": sorted(bots), "containers": sorted(containers)}

    def finish(self, found: Record, outcome: Outcome, counts: Mapping[str, Any], again: bool) -> Record:
        """Write down what happened; what the disk does not take, the guard writes later."""
        happened = {
            "network": outcome.network,
            "frames": outcome.frames,
            "engine": outcome.engine,
            "killed": counts["killed"],
            "left": outcome.left,
            "policies_off": counts["policies"],
            "milliseconds": dict(outcome.milliseconds),
            "problems": outcome.problems[:10],
        }
        ended = found if again and found.happened else replace(found, happened=happened)
        results: list[Record] = []

        def write() -> None:
            kept = ended
            if found.bot in self.taken:
                path = evidence.write(self._root, found.bot, self.taken[found.bot])
                kept = replace(ended, happened={**ended.happened, "evidence": str(path)})
            if again:
                record.audit(self._root, "lock.enforced", replace(kept, happened=happened))
                results.append(replace(kept, pending=tuple(item for item in kept.pending if item != "audit")))
                record.write(self._root, results[0])
            else:
                results.append(record.finish(self._root, kept))

        problem = bounded(write, _DISK_SECONDS)
        _said(outcome.problems, f"lock of {found.bot}", problem)
        return results[0] if results else ended

    def _writer(self, found: Record) -> Callable[[], None]:
        return lambda: record.write(self._root, found)


def _mark(request: LockRequest, before: Mapping[str, Record | None], outcome: Outcome) -> dict[str, Record]:
    """Let the locks be there; who, when and why of one that is there stay."""
    records = {}
    for bot in request.bots:
        found = before[bot]
        if found is None or not found.actor:
            fresh = Record(bot, request.actor, record.now(), request.reason, request.source, request.scope)
            found = fresh if found is None else replace(fresh, policies=found.policies, pending=found.pending)
        records[bot] = found

    def write() -> None:
        for each in records.values():
            record.mark(request.root, each)

    _said(outcome.problems, "locks", bounded(write, _NOTE_SECONDS))
    return records


def _is_cut(world: World, bots: Iterable[str], machine: bool) -> bool:
    try:
        return world.network.is_cut(list(bots), machine=machine)
    except NetworkError:
        return False


def _tell(outcome: Outcome, cut: Cut, killed: Killed, policies: Policies, switch: Switch) -> None:
    outcome.network, outcome.frames = cut.how, cut.frames
    outcome.engine = policies.engine
    outcome.killed, outcome.left = len(killed.processes), sorted(process.pid for process in killed.left)
    outcome.others = switch.others()
    outcome.problems += [*cut.problems, *switch.problems, *policies.problems]
    if not cut.how:
        outcome.problems.append("the network is NOT cut")
    if outcome.left:
        outcome.problems.append(f"processes that do not die, the kernel holds them: {outcome.left}")
    if policies.engine == "hangs":
        outcome.problems.append("the Docker engine does not answer; the guard turns restart policies off when it does")


def _and(first: Killed, second: Killed) -> Killed:
    by_pid: dict[int, Process] = {process.pid: process for process in (*first.processes, *second.processes)}
    return Killed(list(by_pid.values()), second.left)


def _said(problems: list[str], what: str, problem: str) -> None:
    if problem:
        problems.append(f"{what}: {problem}")


def _plain(found: Record) -> dict[str, Any]:
    lock = locks.Lock(found.bot, found.actor, found.time, found.reason, found.scope, found.state)
    return {**lock.to_dict(), "source": found.source, "pending": list(found.pending), **found.happened}
