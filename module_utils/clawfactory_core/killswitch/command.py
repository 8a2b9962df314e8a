"""What the host script ``clawfactory-killswitch`` does."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from .. import locks
from ..errors import CoreError
from .containers import EngineFiles
from .lock import LockRequest, apply_lock
from .machine_lock import exceptions, read_machine
from .operator import find_session
from .unlock import UnlockRequest, apply_unlock
from .world import Belongings, World


def run(options: argparse.Namespace) -> int:
    """Do what the command line says; the exit code."""
    commands = {"lock": _lock, "unlock": _unlock, "status": _status, "guard": _guard, "network": _network}
    try:
        return commands[options.command](options)
    except (CoreError, OSError) as error:
        sys.stderr.write(f"clawfactory-killswitch: {error}\n")
        return 1


def known_bots(root: Path) -> list[str]:
    """Every bot that this machine shows a trace of, whatever else is broken."""
    found = {container.bot for container in EngineFiles().containers()} - {""}
    for directory in ("bot_repos", "locks"):
        try:
            found |= {name for name in os.listdir(root / directory) if not name.startswith(".")}
        except OSError:
            continue  # then the others have to tell
    return sorted(found)


def _lock(options: argparse.Namespace) -> int:
    machine = exceptions(options.allow, find_session()) if options.machine else None
    request = LockRequest(
        root=options.root,
        bots=tuple(options.bots or known_bots(options.root)),
        actor=options.actor or _user(),
        reason=options.reason,
        source="script",
        machine=machine,
    )
    done = apply_lock(request)
    if options.json:
        _print_json({**vars(done), "changed": done.changed})
    else:
        for bot, lock in done.bots.items():
            state = "NOT LOCKED" if bot in done.unlocked else "locked" if lock["changed"] else "was locked already"
            _say(f"{bot}  {state}: {lock['refusal']}")
        _say(f"network {done.network or 'NOT CUT'}, {done.killed} processes killed, engine {done.engine}")
        for problem in done.problems:
            sys.stderr.write(f"clawfactory-killswitch: {problem}\n")
    return 0 if done.network and not done.left and not done.unlocked else 1


def _unlock(options: argparse.Namespace) -> int:
    bots = options.bots or locks.locked_bots(options.root)
    if not bots:
        _say("nothing is locked")
        return 0
    done = apply_unlock(
        UnlockRequest(
            options.root,
            tuple(bots),
            options.actor or _user(),
            options.reason,
            source="script",
            machine=options.machine,
        )
    )
    if options.json:
        _print_json(vars(done))
    else:
        for bot, lock in done.locks.items():
            _say(f"{bot}  {'was ' + _told(lock) if lock else 'was not locked'}")
        for problem in done.problems:
            sys.stderr.write(f"clawfactory-killswitch: {problem}\n")
        _say(f"to start: ansible-playbook playbooks/start.yml -l {','.join(bots)}")
    return 1 if done.problems else 0


def _status(options: argparse.Namespace) -> int:
    root = options.root
    facts = {bot: describe(root, bot) for bot in options.bots or known_bots(root)}
    machine = read_machine(root)
    if options.json:
        _print_json({"bots": facts, "machine": bool(machine)})
        return 0
    for bot, fact in facts.items():
        lock = fact["lock"]
        network = "cut off" if fact["cut"] else "connected"
        _say(f"{bot}  {_told(lock) if lock else 'not locked'}; {network}, {fact['processes']} processes")
    if machine:
        _say(f"the machine is cut off as a whole by {machine.actor} since {machine.time} {machine.reason}")
    return 0


def describe(root: Path, bot: str) -> dict[str, Any]:
    """What is true of a bot now, whatever its lock says."""
    world = World()
    lock = locks.read_lock(root, bot)
    return {
        "lock": lock.to_dict() if lock else None,
        "cut": world.network.is_cut([bot]),
        "processes": len(Belongings(root, [bot], world).processes()),
    }


def _guard(options: argparse.Namespace) -> int:
    from ..pidfile import hold_pidfile
    from .guard import Guard

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    held = hold_pidfile(options.pidfile) if options.pidfile else None
    if options.pidfile and held is None:
        sys.stderr.write(f"another guard holds {options.pidfile}\n")
        return 75
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    Guard(options.root, ending).run()
    if options.pidfile:
        options.pidfile.unlink(missing_ok=True)
    return 0


def _network(options: argparse.Namespace) -> int:
    from .guard import Guard

    Guard(options.root, threading.Event()).hold_network()
    return 0


def _told(lock: dict[str, str]) -> str:
    return locks.Lock("", lock["actor"], lock["time"], lock["reason"]).told


def _user() -> str:
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or "root"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _print_json(data: Any) -> None:
    _say(json.dumps(data, default=str))
