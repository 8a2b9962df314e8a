"""Asks the gateway how it is. The gateway counts as taken over: nothing it answers may hurt or hang the controller."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Literal

import httpx

from .cookies import make_closed_jar

TIMEOUT_SECONDS = 2.0
# On the inside network a connection takes well under a millisecond; an address nobody has must not cost two seconds.
_CONNECT_SECONDS = 0.5
_LARGEST_ANSWER = 4096  # bytes

GatewayState = Literal["ready", "not_ready", "starting", "draining", "down"]


@dataclass(frozen=True)
class GatewayHealth:
    """What the gateway's three probes say, judged.

    :param latency_ms: milliseconds until ``/healthz`` was answered; ``None`` without an answer.
    :param reason: why the state is not ``ready``, for the operator.
    """

    state: GatewayState
    reachable: bool
    live: bool
    ready: bool
    latency_ms: float | None
    reason: str | None


@dataclass(frozen=True)
class _Answer:
    status: int | None = None
    body: bytes = b""
    latency_ms: float | None = None
    failure: str | None = None


class GatewayProbe:
    """Asks ``/healthz``, ``/readyz`` and ``/startupz`` at once, each with a deadline.

    :param client: used for every question; must not follow redirects or use a proxy.
    :param url: ``http://host:port`` of the gateway.
    :param timeout: seconds that one check may take in all.
    """

    def __init__(self, client: httpx.AsyncClient, url: str, *, timeout: float = TIMEOUT_SECONDS) -> None:
        self._client = client
        self._url = url
        self._timeout = timeout

    async def check(self) -> GatewayHealth:
        """Return the health of the gateway now; a gateway that is down or misbehaves is a result, not an error."""
        live, ready, startup = await asyncio.gather(self._ask("/healthz"), self._ask("/readyz"), self._ask("/startupz"))
        if live.status is None:
            return GatewayHealth("down", False, False, False, None, live.failure)
        is_live = live.status == httpx.codes.OK
        is_ready = is_live and ready.status == httpx.codes.OK
        state, reason = _judge(live, ready, startup)
        return GatewayHealth(state, True, is_live, is_ready, live.latency_ms, reason)

    async def _ask(self, path: str) -> _Answer:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout):
                async with self._client.stream("GET", self._url + path) as response:
                    latency = round((time.perf_counter() - started) * 1000, 1)
                    return _Answer(response.status_code, await _read_bounded(response), latency)
        except (TimeoutError, httpx.ReadTimeout):
            return _Answer(failure=f"no answer from {self._url}{path} within {self._timeout:g} s")
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return _Answer(failure=f"nothing answers at {self._url}")
        except httpx.HTTPError as error:
            return _Answer(failure=f"{self._url}{path} does not speak proper HTTP ({type(error).__name__})")


def make_gateway_client(transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """Make the client of :class:`GatewayProbe`.

    :param transport: replaces the network, in tests.
    """
    return httpx.AsyncClient(
        transport=transport,
        timeout=httpx.Timeout(TIMEOUT_SECONDS, connect=_CONNECT_SECONDS),
        follow_redirects=False,
        trust_env=False,  # a proxy variable must not send this through egress
        headers={"Accept-Encoding": "identity"},
        cookies=make_closed_jar(),
    )


async def _read_bounded(response: httpx.Response) -> bytes:
    body = b""
    async for chunk in response.aiter_raw():
        body += chunk[: _LARGEST_ANSWER - len(body)]
        if len(body) >= _LARGEST_ANSWER:
            break
    return body


def _judge(live: _Answer, ready: _Answer, startup: _Answer) -> tuple[GatewayState, str | None]:
    if live.status != httpx.codes.OK:
        return "not_ready", f"/healthz answered {live.status}"
    if ready.status == httpx.codes.OK:
        return "ready", None
    phase = _startup_phase(startup.body)
    if phase == "starting":
        return "starting", "OpenClaw is still starting"
    if phase == "draining":
        return "draining", "OpenClaw finishes running work before it stops"
    if ready.status is None:
        return "not_ready", ready.failure
    return "not_ready", f"a channel or an agent database is not ready (/readyz answered {ready.status})"


def _startup_phase(body: bytes) -> str | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    phase = document.get("status") if isinstance(document, dict) else None
    return phase if isinstance(phase, str) else None
