"""Nothing is open by mistake: these tests find the routes themselves, so a new one is covered the day it is added."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from fastapi import APIRouter

pytestmark = pytest.mark.anyio

PUBLIC = {("GET", "/health"), ("GET", "/login"), ("POST", "/login"), ("GET", "/static")}
#: Its authority is a signature, which no browser can make for somebody else's page.
SIGNED = "/webhook/github"
SAFE = {"GET", "HEAD", "OPTIONS"}


def endpoints(routes: Iterable[Any]) -> Iterator[tuple[str, str]]:
    for route in routes:
        if hasattr(route, "original_router"):  # an included router; none of ours has a prefix
            yield from endpoints(route.original_router.routes)
        else:
            for method in sorted(getattr(route, "methods", None) or {"GET"}):
                yield method, route.path


async def find_open(app, client) -> set[tuple[str, str]]:
    """Every endpoint that serves a stranger."""
    found = set()
    for method, path in endpoints(app.routes):
        response = await client.request(method, path, headers={"Origin": "http://127.0.0.1:8080"})
        sent_away = response.status_code == 303 and response.headers["location"] == "/login"
        if response.status_code != 401 and not sent_away:
            found.add((method, path))
    return found


def test_the_search_finds_known_routes(app):
    assert PUBLIC | {("GET", "/status"), ("GET", "/"), ("POST", "/logout")} <= set(endpoints(app.routes))


async def test_strangers_reach_only_public_routes(app, client):
    # POST /login answers 401 to a stranger: it is public, and refuses the empty token.
    assert await find_open(app, client) == PUBLIC - {("POST", "/login")}


async def test_an_unprotected_route_would_be_found(app, client):
    router = APIRouter()
    router.add_api_route("/leak", lambda: "secret", methods=["GET"])
    app.include_router(router)
    assert ("GET", "/leak") in await find_open(app, client)


async def test_every_write_refuses_a_foreign_origin(app, operator):
    writes = [(method, path) for method, path in endpoints(app.routes) if method not in SAFE and path != SIGNED]
    assert {path for _, path in writes} >= {"/login", "/logout", "/controller", "/snapshot"}
    for method, path in writes:
        for headers in ({"Origin": "http://127.0.0.1:18789"}, {"Origin": "null"}, {"Referer": "http://evil.test/"}, {}):
            response = await operator.request(method, path, headers=headers)
            assert response.status_code == 403, (method, path, headers)


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/docs/oauth2-redirect"])
async def test_no_documentation_pages(operator, path):
    assert (await operator.get(path)).status_code == 404


async def test_openapi_document_is_for_operators(client, bearer):
    assert (await client.get("/openapi.json")).status_code == 401
    document = (await client.get("/openapi.json", headers=bearer)).json()
    assert set(document["paths"]) == {
        "/health", "/status", "/branches", "/branches/{name}/diff", "/branches/{name}/merge", "/branches/{name}/deny",
        "/controller", "/controller/promote-main", "/controller/history", "/controller/rollback", "/snapshot",
        "/snapshot/verify", "/snapshot/restore", "/snapshot/rename", "/snapshot/delete", "/snapshot/download/{name}",
        "/snapshot/contents/{name}",
        "/memory/status", "/memory/backup", "/jobs", "/jobs/{job}", "/jobs/{job}/events", "/audit", "/audit/verify",
        "/killswitch", "/webhook/github",
        "/metrics",
        "/gateway/devices", "/gateway/devices/approve", "/gateway/devices/reject", "/gateway/pairing/{channel}",
        "/gateway/pairing/approve", "/gateway/restart", "/gateway/logs", "/gateway/logs/events",
        "/gateway/security-audit", "/gateway/config", "/gateway/config/validate", "/gateway/config/known-good",
        "/gateway/config/revert", "/gateway/config/schema", "/gateway/config/format", "/gateway/config/ollama",
    }  # fmt: skip
