"""The lock's file: who, when, why, and what came of it.

It is there from the moment the network is cut, so that everybody refuses; it says ``locked`` when everything is done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .. import audit as audit_log
from ..errors import InvalidInput
from ..files import sync_directory, write_atomic
from ..locks import LOCKED, LOCKING, lock_path, read_data, read_lock

SCHEMA = 1
AUDIT_BYTES = 64 << 20
MAX_REASON = 500
MAX_ACTOR = 100
#: What a record may still wait for.
PENDING = ("policies", "audit")
_MODE = 0o600
_UNLOCKING = ".unlocking."


@dataclass(frozen=True)
class Record:
    """What stands in a lock's file.

    :param source: ``playbook``, ``script``, ``dashboard`` or ``guard``.
    :param scope: ``bot``, or ``machine`` if the rest of the machine was cut off with it.
    :param state: ``locking`` or ``locked``.
    :param policies: restart policies to give back, by name of the container.
    :param pending: what the guard still has to do.
    :param happened: how each step went.
    """

    bot: str
    actor: str = ""
    time: str = ""
    reason: str = ""
    source: str = ""
    scope: str = "bot"
    state: str = LOCKING
    policies: dict[str, str] = field(default_factory=dict)
    pending: tuple[str, ...] = ()
    happened: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Content of the file."""
        return (json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n").encode()

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.state == LOCKED and not self.pending


def now() -> str:
    """The time as records have it."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def check_words(actor: str, reason: str) -> None:
    """:raises InvalidInput: who or why cannot be written down."""
    if not actor or len(actor) > MAX_ACTOR or not actor.isprintable():
        raise InvalidInput(f"actor {actor!r} is not 1 to {MAX_ACTOR} printable characters; say who locks")
    if len(reason) > MAX_REASON or not reason.isprintable():
        raise InvalidInput(
            f"the reason has {len(reason)} characters; give at most {MAX_REASON} printable ones on one line"
        )


def printable(text: str, most: int) -> str:
    """A text as :func:`check_words` takes it: a lock is not refused for an odd character in its reason."""
    return "".join(char if char.isprintable() else "?" for char in text)[:most]


def read(root: Path, bot: str) -> Record | None:
    """The record of a bot; of a lock that nobody can understand, one that says nothing."""
    return _read(lock_path(root, bot), root, bot)


def read_unlocking(root: Path, bot: str) -> Record | None:
    """The record of a lock whose end was begun."""
    path = _unlocking(root, bot)
    return _read(path, root, bot) if os.path.lexists(path) else None


def _read(path: Path, root: Path, bot: str) -> Record | None:
    if not os.path.lexists(path):
        return None
    data = read_data(path)
    lock = read_lock(root, bot)
    policies, pending, happened = (data.get(key) for key in ("policies", "pending", "happened"))
    return Record(
        bot=bot,
        actor=_text(data, "actor"),
        time=_text(data, "time") or (lock.time if lock else ""),
        reason=_text(data, "reason"),
        source=_text(data, "source"),
        scope=_text(data, "scope") or "bot",
        state=LOCKED if data.get("state") == LOCKED else LOCKING,
        policies={str(name): str(policy) for name, policy in policies.items()} if isinstance(policies, dict) else {},
        pending=tuple(item for item in PENDING if isinstance(pending, list) and item in pending),
        happened=happened if isinstance(happened, dict) else {},
    )


def mark(root: Path, record: Record) -> bool:
    """Let a lock be there, at once and without waiting for the disk; one that is there stays as it is.

    On a full disk it is an empty file, which locks as well.

    :returns: whether it was not there before.
    :raises OSError: there is none.
    """
    path = lock_path(root, record.bot)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
    except FileExistsError:
        return False
    try:
        os.write(descriptor, record.to_json())
    except OSError:
        pass  # no space: the file itself is the lock, and what belongs into it is written when everything is dead
    finally:
        os.close(descriptor)
    return True


def write(root: Path, record: Record) -> None:
    """Replace a lock's file.

    :raises OSError: the old one is still there.
    """
    write_atomic(lock_path(root, record.bot), record.to_json(), mode=_MODE)


def finish(root: Path, record: Record, event: str = "lock") -> Record:
    """Write a record down for good, then the line of the audit.

    :raises OSError: the disk does not take it; the lock that is there stays.
    """
    path = lock_path(root, record.bot)
    if not path.is_file() or path.is_symlink():
        _make_room(path)
    ended = replace(record, state=LOCKED, pending=tuple({*record.pending, "audit"}))
    write(root, ended)
    audit(root, event, record)
    ended = replace(ended, pending=tuple(sorted({*record.pending} - {"audit"})))
    write(root, ended)
    return ended


def audit(root: Path, event: str, record: Record, more: Mapping[str, Any] | None = None) -> None:
    """Add a line to the bot's log of decisions.

    :raises OSError: it is not there.
    """
    directory = root / "audit"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    fields = {
        "actor": record.actor,
        "source": record.source,
        "reason": record.reason,
        "scope": record.scope,
        **record.happened,
        **(more or {}),
    }
    audit_log.append(directory / f"{record.bot}.jsonl", event, record.bot, fields, max_bytes=AUDIT_BYTES)


def begin_unlocking(root: Path, bot: str) -> None:
    """Take a lock away; what it said stays until :func:`end_unlocking`.

    :raises OSError: it is still there.
    """
    path = lock_path(root, bot)
    if os.path.lexists(path):
        os.replace(path, _unlocking(root, bot))
        sync_directory(path.parent)


def end_unlocking(root: Path, bot: str) -> None:
    """Forget what a lock that is gone said."""
    _unlocking(root, bot).unlink(missing_ok=True)


def _unlocking(root: Path, bot: str) -> Path:
    return root / "locks" / f"{_UNLOCKING}{bot}"


def _make_room(path: Path) -> None:
    """What somebody put there by hand may be a directory or a link."""
    if path.is_dir() and not path.is_symlink():
        os.replace(path, path.with_name(f".{path.name}.{os.urandom(4).hex()}.was"))


def _text(data: Mapping[str, Any], key: str) -> str:
    return data[key] if isinstance(data.get(key), str) else ""
