from __future__ import annotations

import pytest

from clawfactory_core.jobs.protocol import Refusal

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (None, {"actor": "operator"}),
        ({}, {"actor": "operator"}),
        ({"reason": "It talks to strangers."}, {"actor": "operator", "reason": "It talks to strangers."}),
    ],
)
async def test_lock_is_asked_of_the_machine(operator, jobs, same_origin, body, asked):
    response = await operator.post("/killswitch", json=body, headers=same_origin)
    assert response.status_code == 202
    assert (response.json()["actor"], response.json()["state"]) == ("operator", "locking")
    assert jobs.asked("lock") == [asked]


async def test_lock_by_token(client, bearer, jobs):
    assert (await client.post("/killswitch", headers=bearer)).status_code == 202
    assert jobs.asked("lock") == [{"actor": "operator"}]


async def test_nobody_else_locks(client, jobs, same_origin):
    assert (await client.post("/killswitch", headers=same_origin)).status_code == 401
    assert jobs.asked("lock") == []


async def test_another_site_does_not_lock(operator, jobs):
    response = await operator.post("/killswitch", headers={"Origin": "https://evil.example"})
    assert response.status_code == 403
    assert jobs.asked("lock") == []


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH"])
async def test_there_is_no_way_back(operator, same_origin, method):
    assert (await operator.request(method, "/killswitch", headers=same_origin)).status_code == 405
    assert (await operator.post("/killswitch", json={"state": "unlocked"}, headers=same_origin)).status_code == 422


async def test_machine_that_does_not_answer_is_said(operator, jobs, same_origin):
    jobs.answers["lock"] = Refusal(503, "Nobody answers", "clawfactory-jobs has to run")
    response = await operator.post("/killswitch", headers=same_origin)
    assert response.status_code == 503 and "clawfactory-jobs" in response.json()["detail"]
