"""Ends a lock: the lock goes first, then the network opens, then restart policies come back. Nothing is started.

What the lock said is kept until all of that is done, so that a second ``unlock`` finishes what was cut short.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import locks
from ..errors import Conflict, InvalidInput
from ..names import check_bot_name
from . import record
from .engine import HANGS, Policies
from .machine_lock import read_machine, remove_machine
from .network import NetworkError, render_open_machine
from .record import Record
from .world import World, turn

_TURN_SECONDS = 60.0
_ENGINE_SECONDS = 60.0


@dataclass(frozen=True)
class UnlockRequest:
    """What is asked for.

    :param machine: end the cut of the whole machine, too.
    """

    root: Path
    bots: tuple[str, ...]
    actor: str
    reason: str = ""
    source: str = "playbook"
    machine: bool = False


@dataclass
class Unlocked:
    """What became of it: by bot what the lock said (``None`` for one that was not locked)."""

    changed: bool = False
    locks: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    engine: str = ""
    problems: list[str] = field(default_factory=list)


def plan_unlock(request: UnlockRequest, world: World) -> Unlocked:
    """What would be ended; reads only.

    :raises InvalidInput: the request cannot be understood.
    :raises Conflict: the machine is cut off as a whole and is not to be opened, or the engine hangs.
    """
    record.check_words(request.actor, request.reason)
    if not request.bots:
        raise InvalidInput("no bot is named; name those to unlock")
    done = Unlocked()
    for bot in request.bots:
        check_bot_name(bot)
        lock = locks.read_lock(request.root, bot)
        done.locks[bot] = lock.to_dict() if lock else None
        started = record.read_unlocking(request.root, bot)
        done.changed = done.changed or lock is not None or started is not None
    machine = read_machine(request.root)
    if machine is not None and not request.machine:
        raise Conflict(
            f"the machine was cut off as a whole by {machine.actor or 'somebody'} at {machine.time}"
            f"{': ' + machine.reason if machine.reason else ''}; to open it as well, add -e unlock_scope=machine"
        )
    done.changed = done.changed or machine is not None or _is_cut(world, request.bots)
    if done.changed:
        done.engine = world.engine.state()
        if done.engine == HANGS:
            raise Conflict(
                "the Docker engine does not answer, so restart policies cannot be given back; "
                "restart it (systemctl restart docker), then unlock again: nothing has been unlocked"
            )
    return done


def apply_unlock(request: UnlockRequest, world: World | None = None) -> Unlocked:
    """Do it; again is harmless.

    :raises Conflict: as :func:`plan_unlock`, or the kill switch is at work and does not end.
    :raises OSError: the disk does not take it; what was not done yet is done by the next call.
    """
    world = world or World()
    with turn(world.turn, _TURN_SECONDS) as ours, turn(world.engine_turn, _TURN_SECONDS) as engine_is_ours:
        if not (ours and engine_is_ours):
            raise Conflict("somebody else works with the kill switch of this machine; try again in a minute")
        done = plan_unlock(request, world)
        if not done.changed:
            return done
        found = {bot: _begin(request.root, bot) for bot in request.bots}
        _open(request, world)
        policies = _give_back(found, world)
        done.problems += policies.problems
        for bot, lock in found.items():
            if lock is not None:
                _audit(request, lock, policies)
            if not policies.problems:  # else the next call knows what there is to give back
                record.end_unlocking(request.root, bot)
    return done


def _begin(root: Path, bot: str) -> Record | None:
    """Take the lock away; what it said, and what one said whose end was cut short."""
    earlier = record.read_unlocking(root, bot)
    found = record.read(root, bot)
    if found is not None and earlier is not None and not found.policies:
        # Locked again in between: what there is to give back is what the first one wrote down.
        found = Record(**{**vars(found), "policies": earlier.policies})
        record.write(root, found)
    record.begin_unlocking(root, bot)
    return found or earlier


def _open(request: UnlockRequest, world: World) -> None:
    if request.machine:
        remove_machine(request.root)
    last = not locks.locked_bots(request.root) and read_machine(request.root) is None
    world.network.open(request.bots, last=last)
    if request.machine and not last:
        world.network.load(render_open_machine())


def _give_back(found: Mapping[str, Record | None], world: World) -> Policies:
    wanted = {}
    for container in world.files.containers():
        lock = found.get(container.bot)
        if lock is not None and container.name in lock.policies:
            wanted[container] = lock.policies[container.name]
    return world.engine.set_policies(wanted, world.files, _ENGINE_SECONDS)


def _audit(request: UnlockRequest, lock: Record, policies: Policies) -> None:
    ended = Record(lock.bot, request.actor, record.now(), request.reason, request.source, lock.scope)
    said = {"locked_by": lock.actor, "locked_at": lock.time, "locked_for": lock.reason, "engine": policies.engine}
    record.audit(request.root, "unlock", ended, said)


def _is_cut(world: World, bots: tuple[str, ...]) -> bool:
    """Whether one of them is cut off without a lock that says so."""
    try:
        return any(world.network.is_cut([bot]) for bot in bots)
    except NetworkError:
        return False
