from __future__ import annotations

import asyncio

import pytest

from clawfactory_core.jobs.protocol import Refusal
from controller_app.services.jobs import JobsClient

pytestmark = pytest.mark.anyio
SHA = "3f786850e387550fdab836ed7e6dc881de23001b"


@pytest.fixture
def client(jobs) -> JobsClient:
    return JobsClient(jobs.path, timeout=20)


async def test_request_and_answer(client, jobs):
    answer = await client.ask("promotion", actor="octocat", source="polling", sha=SHA, delivery=None)
    assert (answer["job"]["kind"], answer["job"]["state"]) == ("promotion", "queued")
    assert jobs.requests == [{"op": "promotion", "actor": "octocat", "source": "polling", "sha": SHA}]


async def test_a_job_is_told_of_when_it_is_new_and_when_it_is_over_and_not_by_looking_at_it(client, jobs):
    told = []
    client.on_change(lambda: told.append(len(told)))
    job = (await client.ask("rollback", actor="operator"))["job"]
    assert len(told) == 1
    for state, times in (("queued", 1), ("running", 1), ("done", 2), ("done", 2)):
        jobs.jobs[job["id"]]["state"] = state
        await client.ask("job", id=job["id"])
        assert len(told) == times
    async for _ in client.follow(job["id"]):  # from its beginning to its end again
        pass
    assert len(told) == 4
    await client.ask("snapshots")
    assert len(told) == 4
    await client.ask("lock", actor="operator")
    assert len(told) == 5


async def test_a_refused_job_is_not_told_of(client, jobs):
    told = []
    client.on_change(lambda: told.append(True))
    jobs.answers["rollback"] = Refusal(429, "Too many", "ask later")
    with pytest.raises(Refusal):
        await client.ask("rollback", actor="operator")
    assert told == []


async def test_refusal_keeps_its_status(client, jobs):
    jobs.answers["rollback"] = Refusal(423, "Locked", "bot1 is locked; run playbooks/unlock.yml")
    with pytest.raises(Refusal, match=r"unlock\.yml") as refusal:
        await client.ask("rollback", actor="operator")
    assert refusal.value.status == 423


async def test_large_answer(client, jobs):
    jobs.answers["snapshots"] = {"snapshots": [{"label": "x" * 1000}] * 3000}
    assert len((await client.ask("snapshots"))["snapshots"]) == 3000


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"", 503),
        (b'{"job"', 503),
        (b"nonsense\n", 502),
        (b"[]\n", 502),
        (b"\xff\n", 502),
        (b"x" * (5 << 20) + b"\n", 502),
    ],
)
async def test_broken_answer_is_a_refusal(client, jobs, answer, status):
    jobs.answers["jobs"] = answer
    with pytest.raises(Refusal) as refusal:
        await client.ask("jobs")
    assert refusal.value.status == status


async def test_nobody_there_is_named(tmp_path):
    with pytest.raises(Refusal, match=r"absent\.sock: No such file.*clawfactory-jobs") as refusal:
        await JobsClient(tmp_path / "absent.sock").ask("jobs")
    assert refusal.value.status == 503


async def test_silence_ends(tmp_path):
    async def say_nothing(reader, writer):
        await asyncio.sleep(10)

    path = tmp_path / "silent.sock"
    server = await asyncio.start_unix_server(say_nothing, path)
    try:
        with pytest.raises(Refusal, match=r"within 0\.1 s") as refusal:
            await JobsClient(path, timeout=0.1).ask("jobs")
        assert refusal.value.status == 504
    finally:
        server.close()


async def test_following_ends_with_the_job(client, jobs):
    job = jobs.add_job("snapshot", actor="operator")
    assert [state["state"] async for state in client.follow(job["id"])] == ["queued", "running", "done"]


async def test_service_that_ends_meanwhile_is_told(client, jobs):
    job = jobs.add_job("snapshot", actor="operator")
    jobs.answers["follow"] = b'{"job":{"state":"running"}}\n'
    states = client.follow(job["id"])
    assert (await anext(states))["state"] == "running"
    with pytest.raises(Refusal, match="ask again"):
        await anext(states)
