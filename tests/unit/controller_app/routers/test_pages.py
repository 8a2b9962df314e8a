from __future__ import annotations

import pytest

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ["/", "/controller"])
async def test_stranger_is_sent_to_the_login(client, path):
    response = await client.get(path)
    assert (response.status_code, response.headers["location"]) == (303, "/login")


@pytest.mark.parametrize("path", ["/", "/controller"])
async def test_operator_sees_the_state(operator, path, commit):
    page = (await operator.get(path)).text
    assert '<span class="name">bot1</span> is running' in page
    assert commit in page


async def test_page_tells_what_to_do_when_the_gateway_is_not_ready(operator, gateway):
    gateway.set_state(503, "started")
    page = (await operator.get("/")).text
    assert "is running, but not ready" in page
    assert 'href="/pages/logs"' in page


@pytest.mark.parametrize("path", ["/", "/controller", "/login"])
async def test_link_with_token_logs_in_and_loses_it(client, token, path):
    response = await client.get(path, params={"token": token})
    assert (response.status_code, response.headers["location"]) == (303, path)
    assert "samesite=strict" in response.headers["set-cookie"].lower()
    assert (await client.get("/")).status_code == 200


async def test_link_keeps_the_rest_of_its_query(client, token):
    response = await client.get(f"/controller?a=1&token={token}&b=%26x&a=2")
    assert response.headers["location"] == "/controller?a=1&b=%26x&a=2"


async def test_link_below_a_prefix_stays_there(client, token):
    response = await client.get("/", params={"token": token}, headers={"X-Forwarded-Prefix": "/bots/bot1"})
    assert response.headers["location"] == "/bots/bot1/"


async def test_link_with_a_wrong_token_shows_the_login(client):
    response = await client.get("/", params={"token": "wrong"})
    assert response.status_code == 401
    assert 'role="alert"' in response.text
    assert "set-cookie" not in response.headers


async def test_link_with_a_wrong_token_is_refused_although_a_session_is_open(operator):
    assert (await operator.get("/", params={"token": ""})).status_code == 401
