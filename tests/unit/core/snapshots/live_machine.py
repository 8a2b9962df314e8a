"""A deployed bot with settings, a key on the machine, and snapshots that were really made."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clawfactory_core.adapters.age import make_key_pair
from clawfactory_core.snapshots.chains import list_snapshots
from clawfactory_core.snapshots.create import apply_snapshot
from clawfactory_core.snapshots.settings import snapshot_request
from tests.unit.core.promotion.promotion_machine import BOT
from tests.unit.core.promotion.promotion_machine import Machine as PromotionMachine

_SETTINGS: dict[str, Any] = {
    "controller_uid": os.geteuid(), "gateway_uid": os.geteuid(), "recipients": [], "exclude": [], "include": [],
    "keep": {"last": 7, "daily": 7, "weekly": 4, "monthly": 6}, "max_chain": 30, "max_delta_percent": 10000,
    "min_free_mb": 1, "max_entries": 1000, "max_mb": 100, "max_file_mb": 10, "max_minutes": 5, "agent_per_hour": 4,
}  # fmt: skip


@dataclass
class Gateway:
    """A gateway that runs on what the state says: one with a file ``broken`` never gets ready."""

    state: Path
    runs: bool = True
    did: list[str] = field(default_factory=list)

    def running(self) -> bool:
        return self.runs

    def stop(self) -> None:
        self.did.append("stop")
        self.runs = False

    def start(self) -> None:
        self.did.append("start")
        self.runs = True

    def ready(self, seconds: float) -> bool:
        self.did.append("ready")
        return self.runs and not (self.state / "broken").exists()


class LiveMachine(PromotionMachine):
    """Its state is one file, ``memory``."""

    def __init__(self, top: Path) -> None:
        super().__init__(top)
        self.state = self.repositories / "state"
        self.directory = self.root / "snapshots" / BOT
        self.directory.mkdir(parents=True)
        (self.root / "snapshots" / f"{BOT}.json").write_text(json.dumps(_SETTINGS))
        self.key = self.root / "secrets" / BOT / "snapshot.key"
        identity, recipient = make_key_pair()
        self.key.write_text(f"{identity}\n")
        self.key.with_name("snapshot.pub").write_text(f"{recipient}\n")
        self.live = Gateway(self.state)

    def snapshot(self, memory: str, label: str = "", *, kind: str = "auto") -> str:
        """Remember something, and make a snapshot; its id."""
        (self.state / "memory").write_text(memory)
        return apply_snapshot(snapshot_request(self.root, BOT, label=label, kind=kind)).record.id

    def ids(self) -> list[str]:
        return [record.id for record in list_snapshots(self.directory)]

    def audited(self) -> list[dict[str, Any]]:
        lines = (self.root / "audit" / f"{BOT}.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]
