"""Locks: while ``<root>/locks/<bot>`` is there, nothing of the bot's runs, is changed, read in the clear or deleted.

Whatever the file is, it locks; what stands in it only says who, when and why. The kill switch writes it, see
:mod:`.killswitch`; here it is read, by everybody who has to refuse.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .errors import Conflict
from .names import BOT_NAME

#: Of a lock that is thrown but whose work is not done yet.
LOCKING = "locking"
LOCKED = "locked"
_READ_BYTES = 1 << 20
_SHOWN = 500


@dataclass(frozen=True)
class Lock:
    """What a lock says; empty where it does not.

    :param state: ``locking`` until everything of the bot is dead, then ``locked``.
    """

    bot: str
    actor: str = ""
    time: str = ""
    reason: str = ""
    scope: str = ""
    state: str = LOCKING

    @property
    def told(self) -> str:
        """Who, when, why in a few words."""
        why = f": {self.reason}" if self.reason else ""
        return f"locked by {self.actor or 'somebody'} at {self.time or 'an unknown time'}{why}"

    @property
    def refusal(self) -> str:
        """What whoever is refused is told."""
        return f"{self.bot} is {self.told}; to end that: {way_out(self.bot)}"

    def to_dict(self) -> dict[str, str]:
        """As plain data, with the refusal."""
        return {
            "actor": self.actor,
            "time": self.time,
            "reason": self.reason,
            "scope": self.scope,
            "state": self.state,
            "refusal": self.refusal,
        }


def way_out(bot: str) -> str:
    """The command that unlocks."""
    return f"ansible-playbook playbooks/unlock.yml -l {bot}"


def lock_path(root: Path, bot: str) -> Path:
    """Where a bot's lock is."""
    return root / "locks" / bot


def is_locked(root: Path, bot: str) -> bool:
    """Whether a lock is there, whatever it is."""
    return os.path.lexists(lock_path(root, bot))


def locked_bots(root: Path) -> list[str]:
    """Bots that are locked on this machine, deployed or not."""
    try:
        return sorted(name for name in os.listdir(root / "locks") if BOT_NAME.fullmatch(name))
    except FileNotFoundError:
        return []


def read_lock(root: Path, bot: str) -> Lock | None:
    """The lock of a bot; one that cannot be understood is a lock all the same."""
    return read_lock_at(lock_path(root, bot), bot)


def read_lock_at(path: Path, bot: str) -> Lock | None:
    """The lock in a file, see :func:`read_lock`."""
    if not os.path.lexists(path):
        return None
    data = read_data(path)

    def text(key: str) -> str:
        return _shown(data[key]) if isinstance(data.get(key), str) else ""

    time = text("time") or _changed(path)
    state = LOCKED if data.get("state") == LOCKED else LOCKING
    return Lock(bot, text("actor"), time, text("reason"), text("scope"), state)


def read_data(path: Path) -> dict[str, Any]:
    """The JSON object in a lock's file; empty if it has none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        found = json.loads(os.read(descriptor, _READ_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    finally:
        os.close(descriptor)
    return found if isinstance(found, dict) else {}


def check_unlocked(root: Path, bot: str) -> None:
    """:raises Conflict: the bot is locked; the text says by whom, when, why, and how to end it."""
    lock = read_lock(root, bot)
    if lock is not None:
        raise Conflict(lock.refusal)


def _changed(path: Path) -> str:
    try:
        seconds = os.lstat(path).st_mtime
    except OSError:
        return ""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _shown(text: str) -> str:
    """A text that goes to terminals and logs: one line, nothing that steers them."""
    return "".join(character if character.isprintable() else " " for character in text)[:_SHOWN]
