from __future__ import annotations

import asyncio

import pytest

import clawfactory_core

pytestmark = pytest.mark.anyio


async def test_health_needs_no_token(client):
    response = await client.get("/health")
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "version": clawfactory_core.__version__, "bot": "bot1"}


async def test_health_does_not_ask_the_gateway(client, gateway):
    async def hang():
        await asyncio.sleep(60)

    gateway.before_answer = hang
    async with asyncio.timeout(1):
        await client.get("/health")
    assert gateway.requests == []
