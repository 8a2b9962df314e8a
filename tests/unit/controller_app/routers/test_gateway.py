"""Restart, logs and security audit, over a broker that answers as the test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from clawfactory_core.jobs.protocol import Refusal
from controller_app.dependencies import get_app_services
from controller_app.main import create_app
from controller_app.services import log_stream
from tests.support.broker_socket import BrokerSocket, piece, reply

pytestmark = pytest.mark.anyio
RESTART = "POST /containers/clawfactory-bot1-gateway/restart"
REPORT = {
    "ts": 1795893640140,
    "summary": {"critical": 0, "warn": 1, "info": 0},
    "findings": [
        {"checkId": "gateway.auth_no_rate_limit", "severity": "warn", "title": "No rate limit", "detail": "one\ntwo"}
    ],
    "secretDiagnostics": [],
}


@pytest.fixture
async def broker(settings) -> AsyncIterator[BrokerSocket]:
    server = BrokerSocket(settings.broker_socket)
    await server.start()
    yield server
    await server.stop()


async def test_restart(client, bearer, broker, jobs):
    broker.answers[RESTART] = reply(204)
    response = await client.post("/gateway/restart", headers=bearer)
    assert (response.status_code, response.json()) == (200, {"state": "starting"})
    assert [request[0] for request in broker.requests] == [RESTART]
    said = {"actor": "operator", "decision": "gateway.restart"}
    assert jobs.asked("decided") == [{**said, "outcome": "asked"}, {**said, "outcome": "done"}]


async def test_restart_that_cannot_be_written_down_is_not_done(client, bearer, broker, jobs):
    jobs.answers["decided"] = Refusal(500, "Failed", "No space left on device")
    response = await client.post("/gateway/restart", headers=bearer)
    assert response.status_code == 502 and "nothing was done" in response.json()["detail"]
    assert broker.requests == []


async def test_one_restart_at_a_time(app, client, bearer, broker):
    broker.answers[RESTART] = None
    service = get_app_services(app).restart
    service.begin()
    service.begin()
    response = await client.post("/gateway/restart", headers=bearer)
    assert response.status_code == 409 and "already" in response.json()["detail"]
    await until(lambda: broker.requests)
    await broker.stop()
    assert len(broker.requests) == 1
    service._task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await service.settle()
    assert service.last.state == "failed"
    await broker.start()  # for the fixture's end


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_broker_gone_is_told(client, bearer):
    for method, path in (("POST", "/gateway/restart"), ("GET", "/gateway/logs")):
        response = await client.request(method, path, headers=bearer)
        assert response.status_code == 503 and "broker has to run" in response.json()["detail"]
    assert (await client.get("/status", headers=bearer)).status_code == 200


async def test_logs(client, bearer, broker):
    broker.log(piece(b"".join(b"line %d\n" % number for number in range(20))))
    response = await client.get("/gateway/logs", params={"tail": 5}, headers=bearer)
    assert response.json() == {"part": "gateway", "lines": [f"line {number}" for number in range(15, 20)]}


@pytest.mark.parametrize("query", ["tail=0", "tail=2001", "tail=x", "part=controller", "part=../gateway", "part="])
async def test_logs_are_bounded(client, bearer, broker, query):
    for path in ("/gateway/logs", "/gateway/logs/events"):
        assert (await client.get(f"{path}?{query}", headers=bearer)).status_code == 422
    assert broker.requests == []


async def test_log_is_followed_to_its_end(client, bearer, broker):
    broker.log(piece(b'one "quoted"\n') + piece(b"two\n", 2))
    response = await client.get("/gateway/logs/events", headers=bearer)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [block.split("\n") for block in response.text.strip().split("\n\n")]
    assert [event[0] for event in events] == ["event: line", "event: line", "event: end"]
    assert [json.loads(event[1].removeprefix("data: ")) for event in events[:2]] == [
        {"text": 'one "quoted"'},
        {"text": "two"},
    ]
    assert "follow=1" in broker.requests[0][1]


async def test_a_log_that_breaks_off_ends_with_a_problem(client, bearer, broker):
    broker.log(piece(b"one\n") + b"\x09\x00\x00\x00\x00\x00\x00\x01x")
    text = (await client.get("/gateway/logs/events", headers=bearer)).text
    assert "event: problem" in text and '"status": 502' in text


async def test_a_quiet_log_has_a_heartbeat_and_gives_its_place_back(app, broker, monkeypatch):
    monkeypatch.setattr(log_stream, "HEARTBEAT_SECONDS", 0.05)
    broker.answers["GET /containers/clawfactory-bot1-gateway/logs"] = None
    streams = get_app_services(app).logs
    follower = streams.follow("gateway", 10)
    assert (await anext(follower)).startswith(": ")
    await follower.aclose()
    assert streams._followers == 0


async def test_only_so_many_follow(app, client, bearer, broker, monkeypatch):
    monkeypatch.setattr(log_stream, "MOST_FOLLOWERS", 1)
    monkeypatch.setattr(log_stream, "HEARTBEAT_SECONDS", 0.05)
    broker.answers["GET /containers/clawfactory-bot1-gateway/logs"] = None
    follower = get_app_services(app).logs.follow("gateway", 10)
    await anext(follower)
    response = await client.get("/gateway/logs/events", headers=bearer)
    assert response.status_code == 429 and "close some" in response.json()["detail"]
    await follower.aclose()


async def test_security_audit_is_made_once_and_kept(app, client, bearer, broker, clock):
    broker.command(piece(json.dumps(REPORT).encode()))
    first = await client.get("/gateway/security-audit", headers=bearer)
    assert first.status_code == 202 and first.json()["state"] == "running" and first.json()["report"] is None
    await get_app_services(app).audit.settle()
    for _ in range(3):
        response = await client.get("/gateway/security-audit", headers=bearer)
        assert response.status_code == 200 and response.json()["state"] == "done"
    (finding,) = response.json()["report"]["findings"]
    assert (finding["check"], finding["severity"], finding["detail"]) == (
        "gateway.auth_no_rate_limit", "warn", "one\ntwo",
    )  # fmt: skip
    assert len(broker.requests) == 3  # create, start, inspect
    clock.now += 3601
    again = await client.get("/gateway/security-audit", headers=bearer)
    assert again.status_code == 202 and again.json()["report"] is not None
    await get_app_services(app).audit.settle()


async def test_security_audit_is_still_there_after_a_restart(app, settings, client, bearer, gateway, broker, clock):
    broker.command(piece(json.dumps(REPORT).encode()))
    await client.get("/gateway/security-audit", headers=bearer)
    await get_app_services(app).audit.settle()
    kept = settings.socket.with_name("security-audit.json")
    assert kept.stat().st_mode & 0o777 == 0o600
    again = get_app_services(create_app(settings, gateway_transport=gateway, clock=clock)).audit
    assert again.read(3600) == get_app_services(app).audit.last()
    assert again.read(3600).state == "done" and len(broker.requests) == 3


async def test_an_audit_that_a_restart_cut_short_has_failed_and_the_report_before_is_kept(
    app, settings, client, bearer, gateway, broker, clock
):
    broker.command(piece(json.dumps(REPORT).encode()))
    await client.get("/gateway/security-audit", headers=bearer)
    await get_app_services(app).audit.settle()
    kept = settings.socket.with_name("security-audit.json")
    kept.write_text(kept.read_text().replace('"done"', '"running"'))
    again = get_app_services(create_app(settings, gateway_transport=gateway, clock=clock)).audit.last()
    assert again.state == "failed" and "restarted in the middle" in again.problem and len(again.report.findings) == 1


@pytest.mark.parametrize("left", [b"", b"{", b'{"state": "done"}', b"\xff", b"[" * 100_000])
async def test_a_kept_audit_that_is_none_is_as_if_there_were_none(settings, gateway, clock, left):
    settings.socket.with_name("security-audit.json").write_bytes(left)
    assert get_app_services(create_app(settings, gateway_transport=gateway, clock=clock)).audit.last() is None


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense",
        b"[]",
        b"[" * 100_000,
        b'{"ts": 5, "findings": [{"checkId": "x", "severity": "fatal", "title": "t"}]}',
        b'{"ts": 5, "findings": 7}',
    ],
)
async def test_audit_that_is_none(app, client, bearer, broker, said):
    broker.command(piece(said))
    await client.get("/gateway/security-audit", headers=bearer)
    await get_app_services(app).audit.settle()
    response = await client.get("/gateway/security-audit", headers=bearer)
    assert (response.status_code, response.json()["state"]) == (200, "failed") and response.json()["problem"]


async def test_audits_do_not_pile_up(app, client, bearer, broker):
    broker.command(piece(json.dumps(REPORT).encode()))
    params = {"max_age": 0}
    await asyncio.gather(*(client.get("/gateway/security-audit", params=params, headers=bearer) for _ in range(5)))
    await get_app_services(app).audit.settle()
    assert len(broker.requests) == 3
