from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clawfactory_core.jobs import service
from clawfactory_core.jobs.child import Children
from clawfactory_core.jobs.client import JobsClient, JobsUnavailable

WORKER = Path(__file__).parents[3] / "support" / "jobs_worker.py"


class Machine:
    """A machine with bots as far as jobs need it; work behaves as its label says (tests/support/jobs_worker.py)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bots: dict[str, dict[str, int]] = {}
        for name in ("jobs", "locks", "promotion", "snapshots"):
            (root / name).mkdir()

    def add(self, bot: str, per_hour: int = 1000) -> None:
        slot = len(self.bots)
        self.bots[bot] = {"slot": slot, "gateway_port": 18789 + slot, "controller_port": 8080 + slot}
        self._write()
        directory = self.root / "run" / bot / "jobs"
        directory.mkdir(parents=True)
        directory.chmod(0o2750)
        if os.geteuid() == 0:
            os.chown(directory, 0, self.uid(bot))
            directory.chmod(0o2750)
        (self.root / "promotion" / bot).mkdir()
        (self.root / "promotion" / bot / "settings.json").write_text("{}")
        (self.root / "snapshots" / bot).mkdir()
        self.settle_snapshots(bot, per_hour)

    def settle_snapshots(self, bot: str, per_hour: int, many: int = 1) -> None:
        numbers = "controller_uid gateway_uid max_chain max_delta_percent min_free_mb max_entries max_mb max_file_mb"
        settings: dict[str, Any] = dict.fromkeys([*numbers.split(), "max_minutes"], many)
        settings |= {"controller_uid": self.uid(bot), "min_free_mb": 1}
        settings |= {"recipients": [], "exclude": [], "include": [], "agent_per_hour": per_hour}
        settings["keep"] = dict.fromkeys(("last", "daily", "weekly", "monthly"), 1)
        (self.root / "snapshots" / f"{bot}.json").write_text(json.dumps(settings))

    def remove(self, bot: str) -> None:
        del self.bots[bot]
        self._write()

    def uid(self, bot: str) -> int:
        return 30001 + self.bots[bot]["slot"] if os.geteuid() == 0 else os.geteuid()

    def socket(self, bot: str = "bot1") -> Path:
        return self.root / "run" / bot / "jobs" / "jobs.sock"

    def client(self, bot: str = "bot1") -> JobsClient:
        return JobsClient(self.socket(bot), timeout=20)

    def answers(self, bot: str = "bot1") -> bool:
        try:
            return self.client(bot).ask("jobs")["jobs"] is not None
        except JobsUnavailable:
            return False

    def worked(self) -> list[str]:
        log = self.root / "worked"
        return log.read_text().splitlines() if log.exists() else []

    def let_go(self, bot: str = "bot1") -> None:
        (self.root / f"go-{bot}").touch()

    def finished(self, job_id: str, bot: str = "bot1") -> dict[str, Any]:
        return list(self.client(bot).follow(job_id))[-1]

    def _write(self) -> None:
        (self.root / "allocations.json").write_text(json.dumps({"schema": 1, "bots": self.bots}))


def until(what: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def talk(path: Path, data: bytes, *, close: bool = False) -> dict[str, Any]:
    """Say it and read what comes until the other side closes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.settimeout(20)
        with contextlib.suppress(BrokenPipeError):  # turned away before it was said; the answer is there
            connection.sendall(data)
        if close:
            connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.endswith(b"\n")
    found: dict[str, Any] = json.loads(answer)
    return found


class Running:
    """A service in this process."""

    def __init__(self, root: Path) -> None:
        self.ending = threading.Event()
        children = Children((sys.executable, str(WORKER), str(root)))
        self.service = service.JobsService(root, children, self.ending)
        self.thread = threading.Thread(target=self.service.run)
        self.thread.start()

    def stop(self) -> None:
        self.ending.set()
        self.thread.join(60)
        assert not self.thread.is_alive()


@pytest.fixture
def machine(monkeypatch) -> Iterator[Machine]:
    if os.geteuid() != 0:
        monkeypatch.setattr(service, "describe", lambda *_: {"controller_uid": os.geteuid()})
    monkeypatch.setattr(service, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(service, "PATIENCE", 0.3)
    # Not tmp_path: an address of a socket has 108 bytes.
    with tempfile.TemporaryDirectory(prefix="cfj-") as directory:
        os.chmod(directory, 0o755)  # noqa: S103 - other users are to come as far as the socket
        found = Machine(Path(directory))
        found.add("bot1")
        yield found


@pytest.fixture
def start(machine) -> Iterator[Callable[[], Running]]:
    started: list[Running] = []

    def begin() -> Running:
        running = Running(machine.root)
        started.append(running)
        until(machine.answers)
        return running

    yield begin
    for running in started:
        running.stop()


@pytest.fixture
def serving(start) -> Running:
    running: Running = start()
    return running
