"""Ends what keeps a paused container of a bot paused for good.

The broker pauses a bot for the moment in which a sandbox starts. Where Docker 20.10 pauses a container just while a
``docker exec`` in it begins (its health check, say), the engine waits for the new process, which is frozen like all
others, and holds what ``docker unpause`` needs. The process is killed where it is frozen: the command fails, the engine
goes on, and nothing in the container has run meanwhile, so that the pause is worth what it was to the broker.
"""

from __future__ import annotations

import logging
import time

from .world import World

#: Seconds for which a process may be in the making in a paused container; a pause of the broker's takes about one.
PATIENCE_SECONDS = 5.0
_LOG = logging.getLogger("clawfactory.killswitch")


class FrozenExecs:
    """:param world: the machine."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._since: dict[tuple[int, str], float] = {}

    def once(self) -> list[int]:
        """Look once, and end those that have been seen for as long as they may be.

        :returns: the numbers of the processes that were killed.
        """
        processes = self._world.processes
        frozen = [process for process in processes.being_made() if processes.is_frozen(process)]
        now = time.monotonic()
        self._since = {(one.pid, one.cgroups): self._since.get((one.pid, one.cgroups), now) for one in frozen}
        late = [one for one in frozen if now - self._since[one.pid, one.cgroups] >= PATIENCE_SECONDS]
        ended = []
        names = {one.id: one.name for one in self._world.files.containers() if one.bot} if late else {}
        for process in late:
            for number in process.innermost & set(names):
                processes.end_frozen(process)
                ended.append(process.pid)
                _LOG.warning("%s: ended a command that was being started while it was paused", names[number])
        return ended
