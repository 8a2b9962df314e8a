"""The disk limit of a bot: what is written down, how much is used, and why a bot was stopped.

``<root>/disk/<bot>.json`` holds a limit, ``<root>/disk/<bot>.stopped`` says that a bot may not run and why.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .errors import Conflict, InvalidInput
from .files import write_atomic
from .names import check_bot_name
from .tree import MAX_DEPTH, walk_tree

#: One in so many files that a file system can hold has to fit still.
_INODES_FREE = 50


@dataclass(frozen=True)
class DiskLimit:
    """What a bot may use.

    :param bot: its name.
    :param path: directory that is limited, absolute.
    :param limit_bytes: most bytes on disk below ``path``.
    :param min_free_bytes: least free bytes of the file system while the bot runs.
    :param container: name of the container that is stopped.
    :param method: ``quota`` if the file system enforces ``limit_bytes`` too, ``watch`` if the watcher alone does.
    """

    bot: str
    path: Path
    limit_bytes: int
    min_free_bytes: int
    container: str
    method: str = "watch"

    def to_json(self) -> str:
        """Text of the file."""
        return json.dumps({**asdict(self), "path": str(self.path)}, indent=2, sort_keys=True) + "\n"


@dataclass(frozen=True)
class Usage:
    """How much a tree takes.

    :param used_bytes: allocated blocks, each hard link with its share.
    :param entries: files and directories seen.
    :param too_deep: there is more below :data:`.tree.MAX_DEPTH` levels, which is not counted.
    :param problem: first error that was not a vanished file, empty if there was none.
    """

    used_bytes: int
    entries: int
    too_deep: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Room:
    """What is left on a file system.

    :param free_bytes: for whoever is not root.
    :param free_inodes: files and directories that can still be made.
    :param inodes: of the file system, 0 where it makes them as they are needed.
    """

    free_bytes: int
    free_inodes: int = 0
    inodes: int = 0

    @property
    def min_free_inodes(self) -> int:
        """How many have to stay free."""
        return self.inodes // _INODES_FREE

    def share(self, limit: DiskLimit) -> float:
        """How much of what has to stay free is: below 1 it is too little, of bytes or of inodes."""
        wanted = ((self.free_bytes, limit.min_free_bytes), (self.free_inodes, self.min_free_inodes))
        return min((free / least for free, least in wanted if least), default=math.inf)


def parse_limit(text: str, name: str) -> DiskLimit:
    """Read one ``<bot>.json``.

    :param name: what to call the text in messages.
    :raises InvalidInput: it is not JSON, or a value is missing or of the wrong kind.
    """
    try:
        raw: Any = json.loads(text)
        limit = DiskLimit(
            bot=check_bot_name(str(raw["bot"])),
            path=Path(raw["path"]),
            limit_bytes=int(raw["limit_bytes"]),
            min_free_bytes=int(raw["min_free_bytes"]),
            container=str(raw["container"]),
            method=str(raw.get("method", "watch")),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidInput(f"{name} is not a disk limit ({error!r}); run site.yml, which writes it again") from error
    return check_limit(limit)


def check_limit(limit: DiskLimit) -> DiskLimit:
    """:raises InvalidInput: a value makes no sense."""
    if limit.limit_bytes <= 0 or limit.min_free_bytes < 0:
        raise InvalidInput(
            f"disk limit of {limit.bot} is {limit.limit_bytes} bytes with {limit.min_free_bytes} kept free; "
            "the first must be positive, the second not negative"
        )
    if not limit.path.is_absolute() or ".." in limit.path.parts:
        raise InvalidInput(f"path {str(limit.path)!r} of the disk limit of {limit.bot} is not absolute")
    if not limit.container or limit.method not in ("quota", "watch"):
        raise InvalidInput(f"disk limit of {limit.bot} names container {limit.container!r} and method {limit.method!r}")
    return limit


def limit_file(directory: Path, bot: str) -> Path:
    """Where the limit of a bot is written down; ``directory`` is ``<root>/disk``."""
    return directory / f"{bot}.json"


def mark_file(directory: Path, bot: str) -> Path:
    """What is there while a bot may not run; ``directory`` is ``<root>/disk``."""
    return directory / f"{bot}.stopped"


def read_limit(directory: Path, bot: str) -> DiskLimit | None:
    """The limit of ``bot``, ``None`` if it has none.

    :raises InvalidInput: the file does not hold a limit.
    """
    path = limit_file(directory, bot)
    try:
        return parse_limit(path.read_text(encoding="utf-8", errors="replace"), str(path))
    except FileNotFoundError:
        return None


class _Enough(Exception):
    """Raised inside a walk when it has found more than was asked about."""


def measure(path: Path, tick: Callable[[], None] | None = None, most: int | None = None) -> Usage:
    """Bytes on disk below a directory, whatever is in it.

    :param tick: called every thousand entries or so; what it raises ends the walk.
    :param most: stop counting above so many bytes: whoever owns the tree could move it on before the walk for ever.
    :raises OSError: ``path`` itself cannot be looked at.
    """
    used, entries = os.lstat(path).st_blocks * 512, 0

    def add(_: str, found: os.stat_result, __: int) -> None:
        nonlocal used, entries
        # Each name of a file carries its share, so a file with many names counts once and nothing has to be remembered.
        links = 1 if stat.S_ISDIR(found.st_mode) else max(found.st_nlink, 1)
        used += found.st_blocks * 512 // links
        entries += 1
        if most is not None and used > most:
            raise _Enough

    try:
        report = walk_tree(path, add, tick)
    except _Enough:
        return Usage(used, entries)
    return Usage(used, report.entries, report.too_deep, report.problem)


def free_room(limit: DiskLimit) -> Room:
    """What is left on the file system; asked of the parent, which is not under the bot's quota."""
    seen = os.statvfs(limit.path.parent)
    return Room(seen.f_bavail * seen.f_frsize, seen.f_favail, seen.f_files)


def why_over(limit: DiskLimit, usage: Usage) -> str | None:
    """What to tell the operator if the limit is exceeded, else ``None``."""
    way_out = f"delete files below {limit.path}, or raise gateway_disk_mb and run site.yml"
    if usage.too_deep:
        return f"{limit.path} is nested deeper than {MAX_DEPTH} directories and cannot be measured; {way_out}"
    if usage.used_bytes > limit.limit_bytes:
        return f"{limit.path} takes {_mib(usage.used_bytes)}, the limit is {_mib(limit.limit_bytes)}; {way_out}"
    return None


def why_low(limit: DiskLimit, room: Room) -> str | None:
    """What to tell the operator if too little is free, else ``None``."""
    if room.free_bytes < limit.min_free_bytes:
        return (
            f"{_mib(room.free_bytes)} are free on the file system of {limit.path}, {_mib(limit.min_free_bytes)} have "
            "to stay free; free some space on the machine, or lower host_disk_reserve_mb and run site.yml"
        )
    if room.free_inodes < room.min_free_inodes:
        return (
            f"{room.free_inodes} more files fit on the file system of {limit.path}, of {room.inodes}, and "
            f"{room.min_free_inodes} have to; delete files, the many small ones first"
        )
    return None


@contextmanager
def judging(directory: Path) -> Iterator[None]:
    """Who stops a bot and who lets it run again wait for each other, so that neither acts on what was true before."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_mark(directory: Path, limit: DiskLimit, reason: str, message: str) -> bool:
    """Note that a bot may not run; false if that is noted already.

    :param reason: ``limit`` or ``free``.
    """
    path = mark_file(directory, limit.bot)
    if path.exists():
        return False
    stopped_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    mark = {"bot": limit.bot, "reason": reason, "message": message, "stopped_at": stopped_at}
    write_atomic(path, (json.dumps(mark, indent=2, sort_keys=True) + "\n").encode(), mode=0o644)
    return True


def read_mark(directory: Path, bot: str) -> dict[str, str] | None:
    """``bot``, ``reason`` (``limit`` or ``free``), ``message`` and ``stopped_at`` (UTC); ``None`` if it may run.

    A file that cannot be understood stands for a stopped bot too.
    """
    path = mark_file(directory, bot)
    try:
        mark = json.loads(path.read_text(encoding="utf-8"))
        return {key: str(mark[key]) for key in ("bot", "reason", "message", "stopped_at")}
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        return {"bot": bot, "reason": "limit", "message": f"{path} is damaged", "stopped_at": ""}


def release(directory: Path, bot: str) -> bool:
    """Let a stopped bot run again if it is back below its limits; to be called before it is started.

    :returns: whether it was stopped.
    :raises Conflict: it is stopped and still over a limit; the message says by how much and what to do.
    :raises InvalidInput: its limit cannot be read.
    """
    mark = read_mark(directory, bot)
    if mark is None:
        return False
    limit = read_limit(directory, bot)
    if limit is not None:
        usage = measure(limit.path)
        problem = why_over(limit, usage) or why_low(limit, free_room(limit))
        if problem is not None:
            raise Conflict(f"{bot} was stopped by its disk limit and stays so: {problem}")
    # A kill that has begun ends first: it must not hit what is started after this.
    with judging(directory):
        mark_file(directory, bot).unlink(missing_ok=True)
    return True


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
