"""What the browser is told, and that the pages keep to it."""

from __future__ import annotations

import re

import httpx
import pytest

from controller_app.main import create_app

pytestmark = pytest.mark.anyio

EXPECTED = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@pytest.mark.parametrize("path", ["/", "/login", "/health", "/status", "/nothing", "/static/app.css", "/static/none"])
@pytest.mark.parametrize("forwarded", [{}, {"X-Forwarded-Proto": "ftp"}])
async def test_every_response_has_the_security_headers(operator, path, forwarded):
    response = await operator.get(path, headers=forwarded)
    assert {name: response.headers.get(name) for name in EXPECTED} == EXPECTED


@pytest.mark.parametrize("path", ["/", "/login", "/health", "/status", "/nothing"])
async def test_nothing_but_static_files_is_stored(operator, path):
    assert (await operator.get(path)).headers["cache-control"] == "no-store"


async def test_static_files_are_revalidated(client):
    response = await client.get("/static/app.css")
    assert response.headers["content-type"].startswith("text/css")
    assert response.headers["cache-control"] == "no-cache"
    again = await client.get("/static/app.css", headers={"If-None-Match": response.headers["etag"]})
    assert again.status_code == 304


async def test_icon_is_an_image(client):
    response = await client.get("/static/icon.svg")
    assert response.headers["content-type"] == "image/svg+xml"


@pytest.mark.parametrize("state", ["ready", "starting", "draining", "not_ready", "down"])
async def test_status_page_keeps_to_the_policy(operator, gateway, state):
    gateway.set_state(200 if state == "ready" else 503, state if state in ("starting", "draining") else "started")
    gateway.error = httpx.ConnectError("refused") if state == "down" else None
    response = await operator.get("/")
    assert response.status_code == 200
    assert f'class="card hero {state}"' in response.text
    assert_no_inline_code(response.text)


async def test_login_page_keeps_to_the_policy(client):
    assert_no_inline_code((await client.get("/login")).text)


async def test_login_form_is_labelled_for_screen_readers(client):
    page = (await client.get("/login")).text
    assert '<html lang="en">' in page
    assert '<label for="token">' in page
    assert re.search(r'<input id="token"[^>]*type="password"[^>]*autocomplete="current-password"', page)


async def test_text_from_outside_is_escaped(settings, gateway, bearer, tmp_path):
    hostile = settings.model_copy(update={"approved_dir": tmp_path / "<img src=x>"})
    transport = httpx.ASGITransport(create_app(hostile, gateway_transport=gateway))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        page = (await client.get("/", headers=bearer)).text
    assert "&lt;img src=x&gt;" in page
    assert "<img src=x>" not in page


def assert_no_inline_code(page: str) -> None:
    assert not re.search(
        r"<script(?! src=\"[^\"]+\" defer></script>)|<style|javascript:|\sstyle=|\son[a-z]+=", page, re.IGNORECASE
    )
    assert not re.search(r"(?:href|src|action)=\"(?:https?:)?//", page), "nothing may be loaded from elsewhere"
