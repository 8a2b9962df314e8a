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
