"""Promotions as a controller asks for them: the real service, the real core and git, a gateway that is a file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clawfactory_core.jobs import service
from clawfactory_core.jobs.child import Children
from clawfactory_core.jobs.client import JobsClient, JobsUnavailable
from clawfactory_core.jobs.protocol import Refusal
from clawfactory_core.promotion.records import read_denials, read_history
from tests.unit.core.promotion.promotion_machine import BOT, BROKEN, Machine, same_user

from .conftest import until

WORKER = Path(__file__).parents[3] / "support" / "promotion_worker.py"
UNKNOWN = "0123456789abcdef0123456789abcdef01234567"
_SERVICE = """
import os, sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from clawfactory_core import allocation
from clawfactory_core.jobs.child import Children
from clawfactory_core.jobs.service import JobsService
allocation._UIDS = dict.fromkeys(allocation._UIDS, os.geteuid())
root = Path(sys.argv[3])
JobsService(root, Children((sys.executable, sys.argv[2], str(root))), threading.Event()).run()
"""


class Controller:
    """What a controller can do: ask."""

    def __init__(self, root: Path) -> None:
        self.client = JobsClient(root / "run" / BOT / "jobs" / "jobs.sock")

    def answers(self) -> bool:
        try:
            return "jobs" in self.client.ask("jobs")
        except JobsUnavailable:
            return False

    def done(self, op: str, **fields: str) -> dict[str, Any]:
        job_id = self.client.ask(op, **{"actor": "octocat", **fields})["job"]["id"]
        return list(self.client.follow(job_id))[-1]


@pytest.fixture
def machine(monkeypatch) -> Iterator[Machine]:
    same_user(monkeypatch)
    monkeypatch.setattr(service, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(service, "PATIENCE", 0.3)
    # Not tmp_path: an address of a socket has 108 bytes.
    with tempfile.TemporaryDirectory(prefix="cfp-") as directory:
        found = Machine(Path(directory))
        (found.root / "run" / BOT / "jobs").mkdir(parents=True)
        (found.root / "jobs").mkdir()
        yield found


@pytest.fixture
def start(machine) -> Iterator[Any]:
    stops: list[Any] = []

    def begin() -> Controller:
        ending = threading.Event()
        served = service.JobsService(machine.root, Children((sys.executable, str(WORKER), str(machine.root))), ending)
        thread = threading.Thread(target=served.run)
        thread.start()
        stops.append(lambda: (ending.set(), thread.join(60)))
        controller = Controller(machine.root)
        until(controller.answers)
        return controller

    begin.stop = lambda: stops.pop()()  # type: ignore[attr-defined]
    yield begin
    for stop in stops:
        stop()


@pytest.fixture
def controller(start) -> Controller:
    found: Controller = start()
    return found


def test_a_proposal_is_seen_merged_and_live(machine, controller):
    proposed = machine.propose("kinder", {"workspace/SOUL.md": "kinder\n"})
    info = controller.client.ask("promotion_info")["promotion"]
    assert [(one["name"], one["commit"], one["state"]) for one in info["proposals"]] == [("kinder", proposed, "open")]
    assert str(machine.root) not in str(info)
    job = controller.done("promotion", source="dashboard", proposal="kinder", expected_sha=proposed)
    assert (job["state"], job["result"]["result"]) == ("done", "promoted"), job
    assert job["result"]["to"] == machine.consistent() == machine.gateway.seen()["commit"] == machine.main
    assert (machine.approved / "workspace" / "SOUL.md").read_text() == "kinder\n"
    entry = read_history(machine.bot)[0]
    assert (entry.actor, entry.source, entry.result) == ("octocat", "dashboard", "promoted")


def test_a_proposal_that_changed_after_the_look_is_not_merged(machine, controller):
    seen = machine.propose("kinder", {"workspace/SOUL.md": "kinder\n"})
    machine.git(machine.work, "push", "-q", str(machine.bot.proposals), ":refs/heads/proposal/kinder")
    machine.propose("kinder", {"workspace/SOUL.md": "evil\n"})
    before = machine.main
    job = controller.done("promotion", source="dashboard", proposal="kinder", expected_sha=seen)
    assert (job["state"], job["error"]["status"]) == ("failed", 409)
    assert machine.main == before == machine.consistent()


def test_a_webhook_promotes_what_it_names_once_also_when_the_jobs_are_forgotten(machine, start):
    controller = start()
    before, target = machine.main, machine.commit({"workspace/SOUL.md": "new\n"})
    machine.commit({"workspace/SOUL.md": "newer\n"})
    fields = {"source": "webhook", "sha": target, "delivery": "d-1"}
    assert controller.done("promotion", **fields)["result"]["to"] == target == machine.consistent()
    assert controller.done("rollback", sha=before)["result"]["to"] == before
    with pytest.raises(Refusal) as caught:
        controller.client.ask("promotion", actor="octocat", **fields)
    assert caught.value.status == 409
    start.stop()
    shutil.rmtree(machine.root / "jobs" / BOT)
    job = start().done("promotion", **fields)
    assert (job["error"]["status"], machine.consistent()) == (409, before)


def test_a_commit_that_is_not_on_the_branch_is_refused(machine, controller):
    before = machine.main
    aside = machine.propose("aside", {"workspace/SOUL.md": "aside\n"})
    for sha in (aside, UNKNOWN):
        job = controller.done("promotion", source="webhook", sha=sha, delivery=f"d-{sha}")
        assert (job["state"], job["error"]["status"]) == ("failed", 422), job
    assert machine.consistent() == before


def test_a_gateway_that_does_not_get_ready_gets_the_old_tree_and_the_job_says_so(machine, controller):
    before = machine.main
    machine.commit({f"workspace/{BROKEN}": "x"})
    job = controller.done("promotion", source="polling")
    assert (job["state"], job["error"]["status"], job["error"]["title"]) == ("failed", 422, "Restored")
    assert before in job["error"]["detail"]
    assert machine.consistent() == before == machine.gateway.seen()["commit"]


def test_a_denied_proposal_has_its_reason(machine, controller):
    proposed = machine.propose("worse", {"workspace/SOUL.md": "worse\n"})
    job = controller.done("deny", proposal="worse", reason="no\nthanks")
    assert job["result"] == {"proposal": "worse", "commit": proposed}
    assert read_denials(machine.bot)["worse"].reason == "no\nthanks"
    refused = controller.done("promotion", source="dashboard", proposal="worse", expected_sha=proposed)
    assert refused["error"]["status"] == 409


@pytest.mark.skipif(os.geteuid() != 0, reason="a service of another process listens for the controller's user alone")
def test_a_service_that_is_killed_in_a_promotion_settles_it_at_the_next_start(machine, start):
    target = machine.commit({"workspace/SOUL.md": "new\n"})
    (machine.root / "hold").touch()
    core = Path(service.__file__).parents[2]
    killed = subprocess.Popen([sys.executable, "-c", _SERVICE, str(core), str(WORKER), str(machine.root)])
    controller = Controller(machine.root)
    until(controller.answers)
    job_id = controller.client.ask("promotion", actor="octocat", source="dashboard", sha=target)["job"]["id"]
    until((machine.root / "waiting").exists)
    killed.kill()
    killed.wait()
    assert (machine.root / "promotion" / BOT / "journal.json").exists()
    (machine.root / "hold").unlink()
    job = list(start().client.follow(job_id))[-1]
    assert (job["state"], job["error"]["title"]) == ("failed", "Interrupted")
    assert "finished afterwards" in job["error"]["detail"]
    assert machine.consistent() == target == machine.gateway.seen()["commit"]
    assert [entry.actor for entry in read_history(machine.bot)] == ["octocat"]
