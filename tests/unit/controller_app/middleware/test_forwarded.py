from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.anyio

PREFIX = {"X-Forwarded-Prefix": "/bots/bot1"}


@pytest.mark.parametrize("path", ["/login", "/bots/bot1/login"])  # a proxy may or may not cut the prefix off
async def test_page_stays_below_the_prefix(client, path):
    page = await client.get(path, headers=PREFIX)
    assert page.status_code == 200
    addresses = re.findall(r'(?:href|src|action)="([^"#]+)"', page.text)
    assert addresses
    assert [address for address in addresses if not address.startswith("/bots/bot1/")] == []


@pytest.mark.parametrize("path", ["/static/app.css", "/bots/bot1/static/app.css"])
async def test_static_files_below_the_prefix(client, path):
    assert (await client.get(path, headers=PREFIX)).status_code == 200


@pytest.mark.parametrize("path", ["/", "/bots/bot1", "/bots/bot1/", "/controller"])
async def test_redirect_stays_below_the_prefix(client, path):
    response = await client.get(path, headers=PREFIX)
    assert (response.status_code, response.headers["location"]) == (303, "/bots/bot1/login")


@pytest.mark.parametrize("prefix", ["", "/", "/bots/bot1/"])
async def test_harmless_spellings_of_the_prefix(client, prefix):
    response = await client.get("/", headers={"X-Forwarded-Prefix": prefix})
    assert response.headers["location"] == f"{prefix.rstrip('/')}/login"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Forwarded-Prefix", "//evil.test"),
        ("X-Forwarded-Prefix", "http://evil.test"),
        ("X-Forwarded-Prefix", "/a/../b"),
        ("X-Forwarded-Prefix", "/a/."),
        ("X-Forwarded-Prefix", "/a\\b"),
        ("X-Forwarded-Prefix", '/a"onload=x'),
        ("X-Forwarded-Prefix", "/a, /b"),
        ("X-Forwarded-Prefix", "relative"),
        ("X-Forwarded-Prefix", "/a" * 9),
        ("X-Forwarded-Host", "evil.test/x"),
        ("X-Forwarded-Host", "a.test, b.test"),
        ("X-Forwarded-Host", "user@evil.test"),
        ("X-Forwarded-Proto", "javascript"),
        ("X-Forwarded-Proto", "https, http"),
        ("Host", "evil.test/x"),
    ],
)
async def test_malformed_header_is_refused(client, name, value):
    response = await client.get("/login", headers={name: value})
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert "evil" not in response.text


async def test_repeated_header_is_refused(client):
    response = await client.get("/login", headers=[("X-Forwarded-Proto", "http"), ("X-Forwarded-Proto", "https")])
    assert response.status_code == 400


async def test_forwarded_host_is_the_address_of_the_request(client, token):
    headers = {"X-Forwarded-Host": "bot.test:9000", "Origin": "http://bot.test:9000"}
    assert (await client.post("/login", data={"token": token}, headers=headers)).status_code == 303


async def test_headers_are_not_believed_over_tcp(make_client, token):
    async with make_client(("192.0.2.7", 40000)) as client:
        response = await client.get("/", headers={**PREFIX, "X-Forwarded-Proto": "https"})
        assert response.headers["location"] == "/login"
        headers = {"X-Forwarded-Host": "evil.test", "Origin": "http://evil.test"}
        assert (await client.post("/login", data={"token": token}, headers=headers)).status_code == 403
        headers = {"Origin": "http://127.0.0.1:8080", "X-Forwarded-Proto": "https"}
        response = await client.post("/login", data={"token": token}, headers=headers)
        assert "secure" not in response.headers["set-cookie"].lower()
