from __future__ import annotations

import asyncio
import logging

import pytest

from clawfactory_core.jobs.protocol import REFUSALS, Refusal, parse_request
from controller_app.services import audit, webhook
from controller_app.services.audit import Refusals
from controller_app.services.jobs import JobsClient

pytestmark = pytest.mark.anyio


@pytest.fixture
def refusals(jobs):
    return Refusals(JobsClient(jobs.path))


async def test_machine_is_told_once_for_what_is_the_same(refusals, jobs):
    for number in range(5000):
        refusals.record("webhook", "signature", f"{number}", {"delivery": "a stranger's text"})
    refusals.record("push", "content", "a secret")
    assert await refusals.tell()
    assert jobs.asked("refused") == [
        {"what": "webhook", "code": "signature", "count": "5000"},
        {"what": "push", "code": "content", "count": "1"},
    ]
    assert await refusals.tell()
    assert len(jobs.requests) == 2


async def test_what_the_machine_did_not_take_is_told_later(refusals, jobs, caplog):
    jobs.answers["refused"] = Refusal(503, "Ending", "ask again")
    refusals.record("webhook", "replay", "again")
    assert not await refusals.tell()
    assert "was not told of 1 refusals" in caplog.text
    refusals.record("webhook", "replay", "again")
    jobs.answers["refused"] = {"written": True}
    assert await refusals.tell()
    assert jobs.asked("refused")[-1]["count"] == "2"


async def test_it_goes_on_by_itself(refusals, jobs, monkeypatch, caplog):
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr(audit, "_PAUSE_SECONDS", 0.01)
    task = asyncio.create_task(refusals.run())
    for count in (1, 2, 3):
        refusals.record("push", "limit", "too many")
        async with asyncio.timeout(10):
            while len(jobs.asked("refused")) < count:
                await asyncio.sleep(0.01)
    task.cancel()


@pytest.mark.parametrize("what", REFUSALS)
async def test_every_reason_is_one_that_the_machine_knows(what):
    for code in REFUSALS[what]:
        parse_request(f'{{"op":"refused","what":"{what}","code":"{code}","count":"1"}}'.encode())


async def test_webhook_has_no_reason_of_its_own():
    """Each is a word in the source of the service; one that the machine did not know would be lost."""
    import inspect
    import re

    used = set(re.findall(r'WebhookRefused\(\s*\d+,\s*"(\w+)"', inspect.getsource(webhook)))
    assert used | {"machine"} == set(REFUSALS["webhook"])
