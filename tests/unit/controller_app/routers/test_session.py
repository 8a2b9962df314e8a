from __future__ import annotations

import pytest

pytestmark = pytest.mark.anyio

COOKIE = "clawfactory-bot1"


def cookie_flags(response) -> set[str]:
    flags = response.headers["set-cookie"].split("; ")[1:]
    return {flag.lower() for flag in flags if not flag.lower().startswith("expires=")}


async def test_login_opens_a_session(client, token, same_origin):
    response = await client.post("/login", data={"token": token}, headers=same_origin)
    assert (response.status_code, response.headers["location"]) == (303, "/")
    assert cookie_flags(response) == {"httponly", "max-age=43200", "path=/", "samesite=strict"}
    assert (await client.get("/")).status_code == 200


async def test_cookie_is_not_the_token(operator, token):
    assert token not in operator.cookies[COOKIE]


async def test_pasted_token_may_have_blanks_around_it(client, token, same_origin):
    response = await client.post("/login", data={"token": f" {token}\n"}, headers=same_origin)
    assert response.status_code == 303


async def test_cookie_is_secure_behind_tls(client, token):
    headers = {"Origin": "https://bot.test", "X-Forwarded-Host": "bot.test", "X-Forwarded-Proto": "https"}
    response = await client.post("/login", data={"token": token}, headers=headers)
    assert "secure" in cookie_flags(response)


async def test_cookie_belongs_to_the_prefix(client, token, same_origin):
    headers = {**same_origin, "X-Forwarded-Prefix": "/bots/bot1"}
    response = await client.post("/login", data={"token": token}, headers=headers)
    assert response.headers["location"] == "/bots/bot1/"
    assert "path=/bots/bot1" in cookie_flags(response)


@pytest.mark.parametrize("wrong", ["", "wrong", "5f2a9c0e7b1d48f6a3c9e0b7d2f4186", "\N{CRAB}"])
async def test_wrong_token_shows_the_form_again(client, same_origin, wrong):
    response = await client.post("/login", data={"token": wrong}, headers=same_origin)
    assert response.status_code == 401
    assert 'role="alert"' in response.text
    assert "not this controller&#39;s token" in response.text
    assert "set-cookie" not in response.headers


async def test_agent_token_does_not_open_the_operators_door(client, secret_values, same_origin):
    data = {"token": secret_values["CONTROLLER_AGENT_TOKEN"]}
    assert (await client.post("/login", data=data, headers=same_origin)).status_code == 401


async def test_sixth_attempt_has_to_wait(client, token, same_origin):
    for _ in range(5):
        assert (await client.post("/login", data={"token": "wrong"}, headers=same_origin)).status_code == 401
    response = await client.post("/login", data={"token": token}, headers=same_origin)
    assert response.status_code == 429
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert "set-cookie" not in response.headers
    assert "Too many wrong tokens" in response.text


async def test_clients_wait_separately(client, token, same_origin):
    for _ in range(5):
        headers = {**same_origin, "X-Forwarded-For": "192.0.2.7"}
        await client.post("/login", data={"token": "wrong"}, headers=headers)
    headers = {**same_origin, "X-Forwarded-For": "192.0.2.7, 192.0.2.8"}
    assert (await client.post("/login", data={"token": token}, headers=headers)).status_code == 303


async def test_wrong_links_do_not_lock_the_form(client, token, same_origin):
    for _ in range(6):
        response = await client.get("/", params={"token": "wrong"})
    assert response.status_code == 429
    assert (await client.post("/login", data={"token": token}, headers=same_origin)).status_code == 303


async def test_open_session_is_not_slowed_down(operator, same_origin):
    for _ in range(6):
        response = await operator.post("/login", data={"token": "wrong"}, headers=same_origin)
    assert response.status_code == 429
    assert (await operator.get("/status")).status_code == 200


async def test_login_page_sends_the_operator_on(operator):
    response = await operator.get("/login")
    assert (response.status_code, response.headers["location"]) == (303, "/")


async def test_login_from_the_bots_own_page_is_refused(client, token):
    headers = {"Origin": "http://127.0.0.1:18789", "Sec-Fetch-Site": "same-site"}
    response = await client.post("/login", data={"token": token}, headers=headers)
    assert response.status_code == 403
    assert "set-cookie" not in response.headers


async def test_referer_stands_in_for_a_missing_origin(client, token):
    headers = {"Referer": "http://127.0.0.1:8080/login"}
    assert (await client.post("/login", data={"token": token}, headers=headers)).status_code == 303


async def test_right_referer_does_not_excuse_a_wrong_origin(client, token):
    headers = {"Referer": "http://127.0.0.1:8080/login", "Origin": "http://evil.test"}
    assert (await client.post("/login", data={"token": token}, headers=headers)).status_code == 403


async def test_logout_ends_the_session_for_copies_too(operator, same_origin, make_client):
    copy = operator.cookies[COOKIE]
    response = await operator.post("/logout", headers=same_origin)
    assert (response.status_code, response.headers["location"]) == (303, "/login")
    assert COOKIE not in operator.cookies
    async with make_client(cookies={COOKIE: copy}) as thief:
        assert (await thief.get("/status")).status_code == 401


async def test_logout_needs_a_session(client, same_origin):
    response = await client.post("/logout", headers=same_origin)
    assert (response.status_code, response.headers["location"]) == (303, "/login")


async def test_session_expires(operator, clock):
    clock.now += 12 * 60 * 60 - 1
    assert (await operator.get("/status")).status_code == 200
    clock.now += 1
    assert (await operator.get("/status")).status_code == 401
