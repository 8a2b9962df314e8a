from __future__ import annotations

import httpx
import pytest

import clawfactory_core

pytestmark = pytest.mark.anyio


async def test_status_by_token(client, bearer, commit):
    status = (await client.get("/status", headers=bearer)).json()
    latency = status["gateway"].pop("latency_ms")
    assert 0 <= latency < 1000
    assert status == {
        "bot": "bot1",
        "version": clawfactory_core.__version__,
        "build": "sha256-4d1f0a9c",
        "gateway": {"state": "ready", "reachable": True, "live": True, "ready": True, "reason": None},
        "approved": {"commit": commit, "branch": "main", "reason": None},
        "time": "2027-01-15T08:00:00Z",
    }


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
