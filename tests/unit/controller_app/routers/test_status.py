from __future__ import annotations

import asyncio

import httpx
import pytest

import clawfactory_core
from clawfactory_core.jobs.protocol import Refusal
from tests.support.git_repositories import make_repositories
from tests.support.jobs_server import MACHINE

pytestmark = pytest.mark.anyio


@pytest.fixture
def repositories(settings):
    return make_repositories(settings.repositories_dir, {"workspace/SOUL.md": "I am a bot.\n"})


async def test_status_by_token(client, bearer, commit, repositories):
    status = (await client.get("/status", headers=bearer)).json()
    latency = status["gateway"].pop("latency_ms")
    assert 0 <= latency < 1000
    assert status == {
        "bot": "bot1",
        "version": clawfactory_core.__version__,
        "build": "sha256-4d1f0a9c",
        "gateway": {"state": "ready", "reachable": True, "live": True, "ready": True, "reason": None},
        "approved": {"commit": commit, "branch": "main", "reason": None},
        "machine": {
            "locked": False, "key": True, "free_bytes": 8 << 30, "total_bytes": 64 << 30, "promotion": "", "drift": [],
            "behind": 0, "denials": [], "schedule": None,
        },
        "proposals_open": 0,
        "snapshot": None,
        "problems": [],
        "time": "2027-01-15T08:00:00Z",
    }  # fmt: skip


async def test_status_tells_the_newest_snapshot_and_what_was_refused(client, bearer, jobs, repositories):
    snapshot = {
        "id": "a--2027-01-15T07-59-00Z", "time": "2027-01-15T07:59:00Z", "kind": "full", "size": 5, "label": "a",
        "parent": None, "verified": None, "problem": "",
    }  # fmt: skip
    older = {**snapshot, "id": "a--2027-01-14T07-59-00Z", "time": "2027-01-14T07:59:00Z", "size": 7}
    jobs.answers["snapshots"] = {"snapshots": [snapshot, older]}
    denied = {"time": "2027-01-15T07:00:00Z", "from": "gateway", "host": "evil.example", "port": "443", "count": 2}
    jobs.answers["egress_info"] = {"egress": {"lines": 1, "denied": [denied]}}
    status = (await client.get("/status", headers=bearer)).json()
    assert status["snapshot"]["id"] == snapshot["id"]
    assert (status["snapshot"]["age"], status["snapshot"]["total_size"]) == (60.0, 12)
    assert status["machine"]["denials"] == [denied]


async def test_what_does_not_answer_is_named_and_the_rest_is_told(client, bearer, jobs, commit):
    jobs.path.unlink()
    response = await client.get("/status", headers=bearer)  # there are no repositories either
    status = response.json()
    assert response.status_code == 200
    assert status["approved"]["commit"] == commit
    assert set(status["machine"].values()) == {None}
    assert {problem.partition(":")[0] for problem in status["problems"]} == {
        "machine", "promotions", "egress", "snapshots", "proposals",
    }  # fmt: skip
    assert "clawfactory-jobs has to run" in " ".join(status["problems"])


async def test_many_at_once_are_one_look_and_each_has_to_have_the_token(client, bearer, jobs, gateway, repositories):
    wrong = {"Authorization": f"Bearer {'0' * 32}"}
    asked = [client.get(path, headers=bearer) for path in ("/status", "/controller", "/metrics") for _ in range(10)]
    asked += [client.get("/status"), client.get("/status", headers=wrong), client.get("/controller")]
    *found, without, refused, sent_away = await asyncio.gather(*asked)
    assert {answer.status_code for answer in found} == {200}
    assert (without.status_code, refused.status_code, sent_away.status_code) == (401, 401, 303)
    assert "not locked" in found[10].text
    assert len(jobs.asked("machine_info")) <= 2  # who comes while a look goes on shares the next one
    for op in ("snapshots", "promotion_info", "egress_info"):
        assert len(jobs.asked(op)) == 1
    assert len(gateway.requests) == 3


async def test_a_lock_is_told_by_the_next_answer(client, bearer, jobs, repositories):
    assert (await client.get("/status", headers=bearer)).json()["machine"]["locked"] is False
    jobs.answers["machine_info"] = {"machine": {**MACHINE, "locked": True}}  # by somebody on the machine
    assert (await client.get("/status", headers=bearer)).json()["machine"]["locked"] is True
    assert "is locked" in (await client.get("/controller", headers=bearer)).text


async def test_what_the_machine_did_not_answer_is_asked_again(client, bearer, jobs, repositories):
    jobs.answers["machine_info"] = Refusal(503, "Too many", "ask again in a moment")
    assert (await client.get("/status", headers=bearer)).json()["machine"]["locked"] is None
    jobs.answers["machine_info"] = {"machine": dict(MACHINE)}
    assert (await client.get("/status", headers=bearer)).json()["machine"]["locked"] is False


async def test_what_was_asked_for_and_what_came_of_it_show_at_once(client, bearer, jobs, repositories):
    async def count() -> int:
        return int((await client.get("/status", headers=bearer)).json()["snapshot"]["count"])

    made = {
        "id": "a--2027-01-15T07-59-00Z", "time": "2027-01-15T07:59:00Z", "kind": "full", "size": 5, "label": "a",
        "parent": None, "verified": None, "problem": "",
    }  # fmt: skip
    jobs.answers["snapshots"] = {"snapshots": [made]}
    assert await count() == 1
    jobs.answers["snapshots"] = {"snapshots": [made, {**made, "id": "b--2027-01-15T07-59-00Z"}]}
    job = (await client.post("/snapshot", headers=bearer)).json()["id"]
    assert await count() == 2
    jobs.answers["snapshots"] = {"snapshots": [made]}
    jobs.jobs[job]["state"] = "done"
    assert (await client.get(f"/jobs/{job}", headers=bearer)).json()["state"] == "done"
    assert await count() == 1


RUN = {"state": "failed", "time": "2027-01-15T07:00:00Z", "snapshot": "", "problem": "no room <b>"}


@pytest.mark.parametrize(
    ("run", "ok", "age", "words"),
    [
        (RUN, "0", "3600", "The last scheduled one failed"),
        ({**RUN, "time": ""}, "0", None, "The last scheduled one failed"),
        ({**RUN, "state": "verified", "problem": ""}, "1", "3600", "was made and verified"),
        ({**RUN, "state": "made", "problem": ""}, "1", "3600", "was made,"),
        ({**RUN, "state": "running", "problem": ""}, None, "3600", "is being made"),
        ({}, None, None, None),
    ],
)
async def test_the_last_scheduled_snapshot_is_told(operator, jobs, repositories, run, ok, age, words):
    jobs.answers["machine_info"] = {"machine": {**MACHINE, "schedule": run}}
    found = (await operator.get("/status")).json()["machine"]["schedule"]
    assert found == ({**run, "time": run["time"] or None} if run else None)
    figures = dict(line.split(" ") for line in (await operator.get("/metrics")).text.splitlines() if line[0] != "#")
    assert figures.get('clawfactory_snapshot_schedule_ok{bot="bot1"}') == ok
    assert figures.get('clawfactory_snapshot_schedule_age_seconds{bot="bot1"}') == age
    for page in ("/", "/pages/snapshots"):
        text = (await operator.get(page)).text
        assert (words or "The last scheduled one") in text if run else "The last scheduled one" not in text
        assert ("no room &lt;b&gt;" in text) is bool(run and run["problem"])


async def test_metrics(client, bearer, commit, repositories):
    response = await client.get("/metrics", headers=bearer)
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = response.text.splitlines()
    assert 'clawfactory_gateway_state{bot="bot1",state="ready"} 1' in lines
    assert f'clawfactory_approved_info{{bot="bot1",commit="{commit}"}} 1' in lines
    assert 'clawfactory_locked{bot="bot1"} 0' in lines
    assert "clawfactory_snapshot_age_seconds" not in response.text  # there is none: no figure rather than a wrong one
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names))


async def test_status_by_session(operator):
    assert (await operator.get("/status")).json()["bot"] == "bot1"


async def test_status_while_the_gateway_is_down(client, bearer, gateway):
    gateway.error = httpx.ConnectError("refused")
    response = await client.get("/status", headers=bearer)
    assert response.status_code == 200
    assert response.json()["gateway"] == {
        "state": "down",
        "reachable": False,
        "live": False,
        "ready": False,
        "latency_ms": None,
        "reason": "nothing answers at http://gateway.test:18789",
    }


async def test_status_without_a_repository(client, bearer, approved_dir):
    (approved_dir / ".git" / "HEAD").unlink()
    approved = (await client.get("/status", headers=bearer)).json()["approved"]
    assert approved == {"commit": None, "branch": None, "reason": f"there is no Git repository at {approved_dir}"}


@pytest.mark.parametrize("authorization", ["Bearer wrong", "bearer ", "Bearer"])
async def test_wrong_token_is_refused(client, authorization):
    assert (await client.get("/status", headers={"Authorization": authorization})).status_code == 401


async def test_token_of_another_scheme_is_no_token(client, token):
    assert (await client.get("/status", headers={"Authorization": f"Basic {token}"})).status_code == 401


async def test_agent_token_is_refused(client, secret_values):
    headers = {"Authorization": f"Bearer {secret_values['CONTROLLER_AGENT_TOKEN']}"}
    assert (await client.get("/status", headers=headers)).status_code == 401


async def test_wrong_token_counts_although_a_session_is_open(operator):
    assert (await operator.get("/status", headers={"Authorization": "Bearer wrong"})).status_code == 401


async def test_token_in_the_address_is_for_pages_only(client, token):
    response = await client.get("/status", params={"token": token})
    assert response.status_code == 401
    assert "set-cookie" not in response.headers


async def test_guessing_is_slowed_down(client, bearer):
    for _ in range(5):
        assert (await client.get("/status", headers={"Authorization": "Bearer wrong"})).status_code == 401
    response = await client.get("/status", headers=bearer)
    assert response.status_code == 429
    assert response.headers["content-type"] == "application/problem+json"
    assert 1 <= int(response.headers["retry-after"]) <= 60
