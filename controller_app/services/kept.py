"""Keeps answers that take long to find for some seconds, so that a page that is looked at costs nothing."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from clawfactory_core.errors import CoreError

T = TypeVar("T")


class Kept(Generic[T]):
    """One answer.

    A young one is given as it is. One that is older is given as well, and found anew meanwhile; a stale one is waited
    for. A failure is kept for as long as it is young, no longer: what does not answer is not asked again by every
    request, and nobody hears of a failure that may be over.

    :param find: finds it; may raise :class:`CoreError`.
    :param fresh: seconds for which it is young.
    :param stale: seconds after which nobody is given it any more.
    """

    def __init__(
        self,
        find: Callable[[], Awaitable[T]],
        *,
        fresh: float,
        stale: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find = find
        self._fresh = fresh
        self._stale = stale
        self._clock = clock
        self._task: asyncio.Task[T | CoreError] | None = None
        self._found: tuple[float, T | CoreError] | None = None

    async def get(self) -> T:
        """Return the answer.

        :raises CoreError: it could not be found.
        """
        known = self._found
        age = self._clock() - known[0] if known else math.inf
        if age > self._fresh and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._renew())
        if known is not None and age <= (self._fresh if isinstance(known[1], CoreError) else self._stale):
            found = known[1]
        elif self._task is not None:
            # Who asked may leave; the others go on waiting.
            found = await asyncio.shield(self._task)
        else:
            raise RuntimeError("nothing was found, and nobody looks for it")
        if isinstance(found, CoreError):
            raise found
        return found

    def forget(self) -> None:
        """Have the next one wait for a new answer: something was done that changes it."""
        self._found = None
        self._task = None

    async def _renew(self) -> T | CoreError:
        found: T | CoreError
        try:
            found = await self._find()
        except CoreError as error:
            found = error
        if self._task is asyncio.current_task():  # else it was begun before what was done since
            self._found = (self._clock(), found)
        return found


class Joined(Generic[T]):
    """One look for all who ask at the same time. Nothing is kept: whoever asks gets what was looked at after that.

    While a look goes on, those who come are too late for it, and share the next one.

    :param look: looks.
    """

    def __init__(self, look: Callable[[], Awaitable[T]]) -> None:
        self._look = look
        self._going: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """Look; raises what looking raises, to all who share it."""
        if self._next is None:
            self._next = asyncio.create_task(self._run(self._going))
        # Who asked may leave; the others go on waiting.
        return await asyncio.shield(self._next)

    async def _run(self, before: asyncio.Task[T] | None) -> T:
        if before is not None and not before.done():
            await asyncio.wait([before])
        self._going, self._next = self._next, None
        return await self._look()
