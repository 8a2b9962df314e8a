from __future__ import annotations

import asyncio
import socket
import time

import httpx
import pytest

from controller_app.services.gateway import GatewayHealth, GatewayProbe, make_gateway_client

pytestmark = pytest.mark.anyio

URL = "http://gateway.test:18789"


async def check(gateway, **options) -> GatewayHealth:
    async with make_gateway_client(gateway) as client:
        return await GatewayProbe(client, URL, **options).check()


@pytest.mark.parametrize(
    ("live", "ready", "phase", "state", "reason"),
    [
        (200, 200, "started", "ready", None),
        (200, 200, "starting", "ready", None),
        (200, 503, "starting", "starting", "OpenClaw is still starting"),
        (200, 503, "draining", "draining", "OpenClaw finishes running work before it stops"),
        (200, 503, "started", "not_ready", "a channel or an agent database is not ready (/readyz answered 503)"),
        (200, 302, "started", "not_ready", "a channel or an agent database is not ready (/readyz answered 302)"),
        (500, 200, "started", "not_ready", "/healthz answered 500"),
    ],
)
async def test_answers_are_judged(gateway, live, ready, phase, state, reason):
    gateway.set_state(ready, phase, live=live)
    health = await check(gateway)
    assert (health.state, health.reason) == (state, reason)
    assert health.reachable
    assert health.live == (live == 200)
    assert health.ready == (state == "ready")
    assert health.latency_ms is not None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (httpx.ConnectError("refused"), f"nothing answers at {URL}"),
        (httpx.ConnectTimeout("late"), f"nothing answers at {URL}"),
        (httpx.ReadTimeout("late"), f"no answer from {URL}/healthz within 2 s"),
        (httpx.RemoteProtocolError("odd"), f"{URL}/healthz does not speak proper HTTP (RemoteProtocolError)"),
    ],
)
async def test_failures_are_told(gateway, error, reason):
    gateway.error = error
    assert await check(gateway) == GatewayHealth("down", False, False, False, None, reason)


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[" * 100_000, b'{"status": {}}', b'"starting"', b"null", b"x" * 100_000]
)
async def test_hostile_answer_does_no_harm(gateway, body):
    gateway.set_state(503, "started")
    gateway.answers["/startupz"] = (503, body)
    assert (await check(gateway)).state == "not_ready"


async def test_hanging_gateway_costs_no_more_than_the_timeout(gateway):
    async def hang():
        await asyncio.sleep(60)

    gateway.before_answer = hang
    started = time.perf_counter()
    health = await check(gateway, timeout=0.2)
    assert time.perf_counter() - started < 30, "it was waited for"
    assert health.reason == f"no answer from {URL}/healthz within 0.2 s"


async def test_only_the_readiness_hangs(gateway):
    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self):
            while True:
                await asyncio.sleep(0.01)
                yield b" "

    original = gateway.handle_async_request

    async def handle(request):
        if request.url.path == "/readyz":
            return httpx.Response(200, stream=Endless())
        return await original(request)

    gateway.handle_async_request = handle
    health = await check(gateway, timeout=0.2)
    assert (health.state, health.live, health.ready) == ("not_ready", True, False)
    assert health.reason == f"no answer from {URL}/readyz within 0.2 s"


async def test_no_proxy_and_no_redirect_is_followed(gateway, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    gateway.answers["/healthz"] = (302, b"")
    health = await check(gateway)
    assert health.reason == "/healthz answered 302"
    assert {str(request.url) for request in gateway.requests} == {
        f"{URL}{p}" for p in ("/healthz", "/readyz", "/startupz")
    }
    async with make_gateway_client() as client:
        assert client._mounts == {}, "a proxy of the environment is in use"


async def test_real_closed_port_is_down():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        async with make_gateway_client() as client:
            health = await GatewayProbe(client, url).check()
    assert (health.state, health.reason) == ("down", f"nothing answers at {url}")
