from __future__ import annotations

import httpx
import pytest

import clawfactory_core
from tests.support.git_repositories import make_repositories

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
            "behind": 0, "denials": [],
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
