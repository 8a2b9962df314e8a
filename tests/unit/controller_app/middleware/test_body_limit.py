from __future__ import annotations

from urllib.parse import urlencode

import pytest

from controller_app.middleware.body_limit import LARGEST_BODY

pytestmark = pytest.mark.anyio

FORM = "application/x-www-form-urlencoded"


def form_of(size: int, token: str) -> bytes:
    body = urlencode({"token": token, "filler": ""}).encode()
    return body + b"x" * (size - len(body))


async def test_largest_body_is_read(client, same_origin, token):
    body = form_of(LARGEST_BODY, token)
    response = await client.post("/login", content=body, headers={**same_origin, "Content-Type": FORM})
    assert response.status_code == 303


@pytest.mark.parametrize("announced", [True, False])
async def test_larger_body_is_refused(client, same_origin, token, announced):
    body = form_of(LARGEST_BODY + 1, token)

    async def chunks():
        yield body[:1000]
        yield body[1000:]

    content = body if announced else chunks()
    response = await client.post("/login", content=content, headers={**same_origin, "Content-Type": FORM})
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"
    assert "content-security-policy" in response.headers


async def test_nonsense_length_is_refused(client, same_origin):
    response = await client.post("/login", headers={**same_origin, "Content-Length": "many"})
    assert response.status_code == 413
