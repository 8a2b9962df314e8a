"""What the machine says about the bot, over its jobs socket. It may be away; then whoever asks is told so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ..schemas.snapshots import Snapshot, SnapshotContents, SnapshotEntry
from .jobs import JobsClient
from .kept import Joined, Kept

_FRESH = 5.0
_STALE = 60.0
#: Processes of their own answer these; the proxy's log is read by the engine.
_SLOW = {"promotion_info": "promotion", "egress_info": "egress"}

#: The last second that a datetime can be; a file may claim to be of a later one.
_END_OF_TIME = 253402300799
_KINDS = {"f": "file", "d": "directory", "l": "link"}


class MachineService:
    """Asks the machine, once for all who want to know the same, and keeps for some seconds what it takes long to find.

    :param jobs: asks it.
    """

    def __init__(self, jobs: JobsClient) -> None:
        self._jobs = jobs
        self._kept = {op: self._keep(op, name) for op, name in _SLOW.items()}
        self._machine = Joined(self._read)
        self._snapshots = Joined(self._list_snapshots)

    async def read(self) -> dict[str, Any]:
        """Return whether the bot is locked, whether the key is there, and the room on the disk, as they are now.

        :raises Refusal: the machine does not answer.
        """
        return await self._machine.get()

    async def read_promotion(self) -> dict[str, Any]:
        """Return drift, history and what is promoted now, some seconds old at most.

        :raises Refusal: the machine does not answer, or the bot is not deployed there.
        """
        return await self._kept["promotion_info"].get()

    async def read_egress(self) -> dict[str, Any]:
        """Return what the egress proxy refused lately, some seconds old at most.

        :raises Refusal: the machine does not answer, or has no proxy.
        """
        return await self._kept["egress_info"].get()

    async def list_snapshots(self) -> list[Snapshot]:
        """Return the snapshots as they are now, the newest last.

        :raises Refusal: the machine does not answer.
        """
        return await self._snapshots.get()

    async def read_contents(self, snapshot: str, path: str) -> SnapshotContents:
        """Return a directory of a snapshot, of which all is decrypted and verified for that.

        :param path: escaped, empty for the state itself.
        :raises Refusal: there is no such directory or snapshot, or no key on the machine, or the snapshot is broken.
        """
        found = (await self._jobs.ask("snapshot_contents", snapshot=snapshot, path=path or None))["contents"]
        listing = found["listing"]
        return SnapshotContents(
            path=found["path"],
            entries=[_entry(one) for one in listing["entries"]],
            count=listing["count"],
            total_count=found["count"],
            total_bytes=found["bytes"],
        )

    def forget(self) -> None:
        """Look again the next time: something was asked for that changes it."""
        for kept in self._kept.values():
            kept.forget()

    async def _read(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self._jobs.ask("machine_info"))["machine"]
        return found

    async def _list_snapshots(self) -> list[Snapshot]:
        found = [Snapshot.model_validate(entry) for entry in (await self._jobs.ask("snapshots"))["snapshots"]]
        return sorted(found, key=lambda one: (one.time, one.id))

    def _keep(self, op: str, name: str) -> Kept[dict[str, Any]]:
        async def find() -> dict[str, Any]:
            found: dict[str, Any] = (await self._jobs.ask(op))[name]
            return found

        return Kept(find, fresh=_FRESH, stale=_STALE)


def _entry(found: dict[str, Any]) -> SnapshotEntry:
    time = datetime.fromtimestamp(min(max(found["mtime_ns"] // 10**9, 0), _END_OF_TIME), tz=UTC)
    return SnapshotEntry.model_validate({**found, "kind": _KINDS[found["kind"]], "time": time})
