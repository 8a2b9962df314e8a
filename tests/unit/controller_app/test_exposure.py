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


def fetched(site: str, mode: str = "no-cors", dest: str = "empty") -> dict[str, str]:
    """What a browser says of a request that a page made."""
    return {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}


@pytest.mark.parametrize("site", ["same-site", "cross-site", "", "Same-Origin"])
async def test_every_read_refuses_the_scripts_and_frames_of_other_pages(app, operator, site):
    """The session's cookie comes with what the bot's own pages ask for: they are on the same host."""
    protected = set(endpoints(app.routes)) - PUBLIC | {("GET", "/login")}
    reads = [(method, path) for method, path in protected if method in SAFE]
    assert {path for _, path in reads} >= {"/audit/verify", "/", "/pages/security", "/snapshot/contents/{name}"}
    for method, path in reads:
        for how in (("no-cors", "empty"), ("no-cors", "image"), ("navigate", "iframe")):
            response = await operator.request(method, path, headers=fetched(site, *how))
            assert response.status_code == 403, (method, path, how)


async def test_link_on_another_page_leads_to_a_page_and_to_nothing_that_works(operator):
    link = fetched("same-site", "navigate", "document")
    assert (await operator.get("/", headers=link)).status_code == 200
    assert (await operator.get("/login", headers=link)).status_code == 303
    work = {"/audit/verify", "/status", "/snapshot/contents/x", "/gateway/config/validate"}
    for path in work | {"/pages/audit", "/pages/memory", "/pages/logs/events", "/pages/snapshots/x"}:
        assert (await operator.get(path, headers=link)).status_code == 403, path
    for path in ("/", "/login"):
        assert (await operator.get(path, headers={**link, "Sec-Purpose": "prefetch"})).status_code == 403


async def test_link_on_another_site_leads_to_the_login(client):
    """A browser sends no cookie along."""
    answer = await client.get("/pages/proposals", headers=fetched("cross-site", "navigate", "document"))
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


async def test_link_on_another_site_leads_to_no_stream_and_to_no_data(operator):
    link = fetched("cross-site", "navigate", "document")
    for path in ("/audit/verify", "/pages/logs/events", "/pages/jobs/x/events"):
        assert (await operator.get(path, headers=link)).status_code == 403


@pytest.mark.parametrize("upgrade", [{}, {"Connection": "Upgrade", "Upgrade": "websocket"}])
async def test_read_that_names_another_origin_is_refused_whatever_else_it_says(operator, bearer, upgrade):
    """Not every browser says Sec-Fetch-Site, above all not of a WebSocket."""
    for origin in ("http://127.0.0.1:18789", "null", "http://evil.test"):
        answer = await operator.get("/audit/verify", headers={"Origin": origin, **upgrade})
        assert answer.status_code == 403, origin
        answer = await operator.get("/status", headers={"Origin": origin, "Sec-Fetch-Site": "same-origin"})
        assert answer.status_code == 403, origin
    assert (await operator.get("/status", headers={"Origin": "http://127.0.0.1:8080", **upgrade})).status_code == 200


async def test_own_pages_typed_addresses_and_programs_read(operator):
    for headers in (fetched("same-origin", "cors"), fetched("none", "navigate", "document"), {}):
        assert (await operator.get("/status", headers=headers)).status_code == 200


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
