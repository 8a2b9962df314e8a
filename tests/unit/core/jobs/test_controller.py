"""The controller's client against the real service."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from clawfactory_core import audit
from clawfactory_core.jobs import service
from clawfactory_core.jobs.protocol import Refusal
from clawfactory_core.snapshots.settings import read_settings
from controller_app.services.audit import Refusals
from controller_app.services.decisions import Decisions
from controller_app.services.jobs import JobsClient

from .conftest import until


def test_the_controller_asks_and_follows(machine, serving):
    async def converse() -> None:
        client = JobsClient(machine.socket())
        job = (await client.ask("snapshot", actor="operator", label="wait"))["job"]
        states = []
        async for one in client.follow(job["id"]):
            states.append(one["state"])
            machine.let_go()
        assert states[-1] == "done"
        assert (await client.ask("job", id=job["id"]))["job"]["result"]["label"] == "wait"
        assert (await client.ask("promotion_info"))["promotion"]["label"] == ""
        with pytest.raises(Refusal) as caught:
            await client.ask("job", id="0" * 24)
        assert caught.value.status == 404

    asyncio.run(converse())


def test_the_controller_hears_why_it_is_turned_away(machine, serving):
    held = [socket.socket(socket.AF_UNIX) for _ in range(service.MAX_CONNECTIONS)]
    for connection in held:
        connection.connect(str(machine.socket()))
    until(lambda: serving.service._bots["bot1"].connections == len(held))

    async def ask() -> str:
        with pytest.raises(Refusal) as caught:
            await JobsClient(machine.socket()).ask("jobs")
        return caught.value.title

    # Whatever comes first, what the controller says or that nobody listens to it any more.
    assert {asyncio.run(ask()) for _ in range(200)} == {"Too many"}
    for connection in held:
        connection.close()


def test_settings_of_before_bots_could_ask_allow_what_the_role_does(machine):
    path = machine.root / "snapshots" / "bot1.json"
    found = json.loads(path.read_text())
    del found["agent_per_hour"]
    path.write_text(json.dumps(found))
    assert read_settings(machine.root, "bot1").agent_per_hour == 4


def test_what_the_controller_refuses_is_in_the_log_of_decisions(machine, serving):
    (machine.root / "audit").mkdir()
    refusals = Refusals(JobsClient(machine.socket()))
    for _ in range(500):
        refusals.record("webhook", "signature", "wrong", {"delivery": "a stranger's text"})
    refusals.record("push", "content", "a secret")
    assert asyncio.run(refusals.tell())
    log = machine.root / "audit" / "bot1.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["event"], line["code"], line["count"]) for line in lines] == [
        ("webhook.refused", "signature", 500),
        ("push.refused", "content", 1),
    ]
    assert "stranger" not in log.read_text()
    assert audit.verify(log).problems == ()


def test_what_an_operator_decides_is_in_the_log_before_it_is_done(machine, serving):
    decisions = Decisions(JobsClient(machine.socket()))
    (machine.root / "audit").mkdir(exist_ok=True)

    async def decide(refusal: Refusal | None = None) -> None:
        async with decisions.written("device.approve", request="r1", subject="Ä\n\x1b"):
            assert audit_lines(machine)[-1]["outcome"] == "asked"
            if refusal:
                raise refusal

    asyncio.run(decide())
    for refusal in (Refusal(404, "Not found", "gone"), Refusal(503, "No answer", "late")):
        with pytest.raises(Refusal, match=refusal.detail):
            asyncio.run(decide(refusal))
    lines = audit_lines(machine)
    assert [line["outcome"] for line in lines] == ["asked", "done", "asked", "failed", "asked", "unknown"]
    assert {(line["event"], line["actor"], line["subject"]) for line in lines} == {
        ("device.approve", "operator", "\\xc4??")
    }
    assert audit.verify(machine.root / "audit" / "bot1.jsonl").problems == ()


def test_nothing_is_done_that_cannot_be_written_down(machine, serving):
    audit_directory = machine.root / "audit"
    if audit_directory.exists():
        audit_directory.rmdir()

    async def decide() -> None:
        async with Decisions(JobsClient(machine.socket())).written("gateway.restart"):
            pytest.fail("it was done")

    with pytest.raises(Refusal, match="nothing was done, because it cannot be written down"):
        asyncio.run(decide())


def audit_lines(machine) -> list[dict]:
    return [json.loads(line) for line in (machine.root / "audit" / "bot1.jsonl").read_text().splitlines()]
