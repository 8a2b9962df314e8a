from __future__ import annotations

import httpx
import pytest

from controller_app.services.gateway import make_gateway_client
from controller_app.services.github import make_github_client

pytestmark = pytest.mark.anyio

URL = "http://hostile.test"


@pytest.mark.parametrize(
    "make",
    [make_gateway_client, lambda transport: make_github_client(URL, token="", proxy="", transport=transport)],
    ids=["gateway", "github"],
)
async def test_what_a_hostile_server_sets_is_neither_kept_nor_sent_back(make):
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        cookies = [("Set-Cookie", f"c{len(seen)}-{number}=x; Max-Age=999999") for number in range(20)]
        return httpx.Response(200, headers=[*cookies, ("Set-Cookie2", 'd=x; Version="1"')])

    async with make(transport=httpx.MockTransport(answer)) as client:
        for _ in range(3):
            await client.get(f"{URL}/healthz")
        assert list(client.cookies.jar) == []
    assert len(seen) == 3 and not any("cookie" in request.headers for request in seen)
