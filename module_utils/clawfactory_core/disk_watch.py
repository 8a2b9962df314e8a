"""Stops bots that use too much disk.

Also those with a project quota: the owner of a file may move it to another project, so a quota holds accidents back but
not a bot that is out to fill the disk.

Free space, and how many more files fit, is looked at every two seconds, also in the middle of measuring; trees are
measured every 15 to 30 seconds.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from .disk import (
    DiskLimit,
    free_room,
    judging,
    mark_file,
    measure,
    parse_limit,
    read_limit,
    read_mark,
    why_low,
    why_over,
    write_mark,
)
from .errors import CoreError

FREE_INTERVAL = 2.0
_SHORTEST, _LONGEST = 15.0, 30.0
#: A tree that takes a second to measure is measured every ten.
_REST = 10.0
_LOG = logging.getLogger("clawfactory.disk")


class _Stopping(Exception):
    """Raised inside a walk when the watcher has been told to end."""


class Watcher:
    """Looks after every ``<bot>.json`` of a directory.

    :param directory: ``<root>/disk``.
    :param stop: stops a bot's gateway for good and ends its sandboxes, which write to the same state; says whether any
        of them was there; may raise :class:`..errors.CoreError`.
    :param ending: set it to end :meth:`run`.
    """

    def __init__(
        self, directory: Path, stop: Callable[[DiskLimit], bool], ending: threading.Event | None = None
    ) -> None:
        self._directory = directory
        self._stop = stop
        self._ending = ending or threading.Event()
        self._limits: list[DiskLimit] = []
        #: Bytes, and files and directories.
        self._usage: dict[str, tuple[int, int]] = {}
        self._due: dict[str, float] = {}
        self._next_free = 0.0
        self._complaints: dict[str, str] = {}
        self.failed = False

    def run(self) -> None:
        """Watch until told to end."""
        while not self._ending.is_set():
            try:
                self._check_free()
                for limit in list(self._limits):
                    if time.monotonic() >= self._due.get(limit.bot, 0.0):
                        self._check_usage(limit)
                self._complain("this watch", "")
            except _Stopping:
                break
            except Exception as error:  # noqa: BLE001 - a watcher that ends watches nothing, and a bot must not end it
                self._next_free = time.monotonic() + FREE_INTERVAL
                self._complain("this watch", f"a look at the disk failed, trying again: {error!r}")
            self._ending.wait(max(0.0, self._next_free - time.monotonic()))

    def once(self) -> bool:
        """Check everything once; false if something could not be checked or stopped."""
        self._limits = self._read_limits()
        for limit in list(self._limits):
            self._check_usage(limit)
        self._next_free = 0.0
        self._check_free()
        return not self.failed

    def _tick(self) -> None:
        if self._ending.is_set():
            raise _Stopping
        if time.monotonic() >= self._next_free:
            self._check_free()

    def _check_free(self) -> None:
        self._next_free = time.monotonic() + FREE_INTERVAL
        self._limits = self._read_limits()
        for group in _by_file_system(self._limits, self._complain):
            self._check_group(group)
        for limit in self._limits:
            with judging(self._directory):
                if mark_file(self._directory, limit.bot).exists():
                    self._enforce(limit)

    def _check_group(self, group: list[DiskLimit]) -> None:
        """Stop one bot of a file system that is nearly full: the one that takes most of it.

        Stopping frees nothing, so the next one goes only when a quarter of the reserve more is gone: a bot that fills
        the disk shall not take all others down with it.
        """
        marks = {limit.bot: read_mark(self._directory, limit.bot) for limit in group}
        stopped = sum(1 for mark in marks.values() if mark is not None and mark["reason"] == "free")
        running = [limit for limit in group if marks[limit.bot] is None]
        if not running:
            return
        room = free_room(running[0])
        # By what is short: a bot that makes many empty files takes hardly a byte.
        kind = int(room.free_inodes < room.min_free_inodes)
        victim = max(running, key=lambda limit: self._usage.get(limit.bot, (0, 0))[kind])
        if room.share(victim) * 4 < max(4 - stopped, 1):
            self._judge(victim.bot, "free", lambda limit: why_low(limit, room))

    def _check_usage(self, limit: DiskLimit) -> None:
        started = time.monotonic()
        try:
            usage = measure(limit.path, self._tick, limit.limit_bytes)
        except OSError as error:
            self._complain(limit.bot, f"{limit.path} of {limit.bot} cannot be measured: {error}")
            self._due[limit.bot] = time.monotonic() + _SHORTEST
            return
        took = time.monotonic() - started
        self._due[limit.bot] = time.monotonic() + min(max(_REST * took, _SHORTEST), _LONGEST)
        self._usage[limit.bot] = usage.used_bytes, usage.entries
        self._complain(limit.bot, f"{limit.path}: {usage.problem}" if usage.problem else "")
        _LOG.debug("%s: %d bytes in %d entries, %.2f s", limit.bot, usage.used_bytes, usage.entries, took)
        self._judge(limit.bot, "limit", lambda limit: why_over(limit, usage))

    def _judge(self, bot: str, reason: str, problem: Callable[[DiskLimit], str | None]) -> None:
        """Mark and stop a bot that is over the limit it has now: it may have been given a higher one meanwhile."""
        with judging(self._directory):
            try:
                limit = read_limit(self._directory, bot)
            except (CoreError, OSError):
                return  # told of, and asked again, by the next look at the limits
            message = None if limit is None else problem(limit)
            if limit is None or message is None:
                return
            # The mark first: whoever starts bots looks for it, so nothing can start between mark and stop.
            try:
                if write_mark(self._directory, limit, reason, message):
                    _LOG.error("stopping %s: %s", limit.bot, message)
            except OSError as error:
                # A disk that is full to the last byte takes no mark: it is stopped all the same, at each look again.
                self._complain(f"mark of {limit.bot}", f"{limit.bot} is stopped without a mark ({error}): {message}")
            self._enforce(limit)

    def _enforce(self, limit: DiskLimit) -> None:
        """A marked bot does not run, whoever started it."""
        try:
            if self._stop(limit):
                _LOG.error("%s and its sandboxes were killed; its disk limit keeps it stopped", limit.container)
            self._complain(limit.container, "")
        except CoreError as error:
            self._complain(limit.container, f"{limit.container} cannot be stopped, trying again: {error}")

    def _read_limits(self) -> list[DiskLimit]:
        limits = []
        for path in sorted(self._directory.glob("*.json")):
            try:
                limit = parse_limit(path.read_text(encoding="utf-8", errors="replace"), str(path))
                if limit.bot != path.stem:
                    raise CoreError(f"{path} is the limit of {limit.bot}; run site.yml, which writes it again")
            except FileNotFoundError:
                continue
            except (CoreError, OSError) as error:
                self._complain(str(path), str(error))
                continue
            self._complain(str(path), "")
            limits.append(limit)
        return limits

    def _complain(self, about: str, text: str) -> None:
        """Log a problem once, not every two seconds; an empty text ends it."""
        if text:
            self.failed = True
            if self._complaints.get(about) != text:
                _LOG.error("%s", text)
            self._complaints[about] = text
        elif self._complaints.pop(about, None) is not None:
            _LOG.info("%s is fine again", about)


def _by_file_system(limits: Iterable[DiskLimit], complain: Callable[[str, str], None]) -> list[list[DiskLimit]]:
    groups: dict[int, list[DiskLimit]] = {}
    for limit in limits:
        try:
            groups.setdefault(os.stat(limit.path.parent).st_dev, []).append(limit)
        except OSError as error:
            complain(f"parent of {limit.path}", f"{limit.path.parent} of {limit.bot}: {error}")
        else:
            complain(f"parent of {limit.path}", "")
    return list(groups.values())
