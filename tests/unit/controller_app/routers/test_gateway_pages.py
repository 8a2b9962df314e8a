"""Pages about the gateway: whatever a bot writes is text there, and what does not answer is said."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser

import pytest

from clawfactory_core.jobs.protocol import Refusal
from controller_app.dependencies import get_app_services
from controller_app.routers import gateway_pages
from tests.support.broker_socket import BrokerSocket, piece, reply
from tests.support.gateway_server import FRAMES

from ..test_pages_markup import assert_no_inline_code
from .test_devices import PAIRING, REQUEST

pytestmark = pytest.mark.anyio
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"
ORIGIN = {"Origin": "http://127.0.0.1:8080"}
EXEC = "POST /containers/clawfactory-bot1-gateway/exec"
RESTART = "POST /containers/clawfactory-bot1-gateway/restart"
PAGES = ("/pages/devices", "/pages/logs", "/pages/logs?follow=false", "/pages/security", "/pages/restart")
WRITES = ("/pages/devices/approve", "/pages/devices/reject", "/pages/devices/pairing", "/pages/security/run",
          "/pages/restart")  # fmt: skip


@pytest.fixture
async def broker(settings) -> AsyncIterator[BrokerSocket]:
    server = BrokerSocket(settings.broker_socket)
    server.work()
    await server.start()
    yield server
    await server.stop()


class Markup(HTMLParser):
    """What a browser takes for markup that does something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        own = (given.get("src") or "").startswith("/static/")
        if (tag in ("script", "img") and not own) or any(name.startswith("on") or name == "style" for name in given):
            self.found.append(f"{tag} {given}")


def assert_text(page: str) -> None:
    """What the bot wrote is there, and none of it is markup."""
    assert "alert(1)" in page
    assert Markup(page).found == []
    assert "\x1b" not in page


def test_markup_would_be_found():
    assert len(Markup(f"<main title='&lt;b'>{EVIL}</main><p onclick=x style=y>").found) == 3


@pytest.mark.parametrize("path", PAGES)
async def test_strangers_are_sent_away(client, path):
    response = await client.get(path)
    assert (response.status_code, response.headers["location"]) == (303, "/login")


async def test_the_stream_of_a_log_is_for_operators(client, broker):
    assert (await client.get("/pages/logs/events")).status_code == 303
    assert broker.requests == []


@pytest.mark.parametrize("path", WRITES)
async def test_strangers_and_other_pages_decide_nothing(client, operator, broker, jobs, path):
    form = {"device": REQUEST, "channel": "telegram", "account": "default", "sender": "b3b4"}
    assert (await operator.post(path, data=form, headers={"Origin": "http://127.0.0.1:18789"})).status_code == 403
    operator.cookies.clear()
    response = await client.post(path, data=form, headers=ORIGIN)
    assert (response.status_code, response.headers["location"]) == (303, "/login")
    assert broker.requests == [] and jobs.asked("decided") == []


async def test_devices_show_what_they_are_and_ask_for(talking, rpc):
    page = (await talking.get("/pages/devices")).text
    assert_no_inline_code(page)
    assert REQUEST in page and "operator.read, operator.write" in page
    assert "has no channel in which people have to ask" in page


@pytest.mark.parametrize("time", ["2026-11-22T11:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_odd_times_of_devices_do_no_harm(talking, rpc, time):
    answer = copy.deepcopy(FRAMES["device.pair.list"])
    for device in (*answer["payload"]["pending"], *answer["payload"]["paired"]):
        device.update(ts=time, approvedAtMs=time, lastSeenAtMs=time)
    rpc.answers["device.pair.list"] = answer
    response = await talking.get("/pages/devices")
    assert response.status_code == 200 and REQUEST in response.text


async def test_what_devices_and_people_call_themselves_is_text(talking, rpc):
    answer = copy.deepcopy(FRAMES["device.pair.list"])
    for device in (*answer["payload"]["pending"], *answer["payload"]["paired"]):
        device.update(displayName=f"{EVIL}\x1b[31m", platform=EVIL, clientId=EVIL, role=EVIL, remoteIp=EVIL)
    rpc.answers["device.pair.list"] = answer
    account = {"channel": "telegram", "channelLabel": EVIL, "accountId": EVIL, "notifySupported": True}
    asking = {**PAIRING, "accountId": EVIL, "senderId": f"{EVIL}\x1b[2J", "senderLabel": EVIL}
    payload = {"accounts": [account], "requests": [asking]}
    rpc.answers["channels.pairing.list"] = {"type": "res", "ok": True, "payload": payload}
    page = (await talking.get("/pages/devices")).text
    assert_text(page)
    assert "Nobody asks." not in page


async def test_a_device_is_let_in_and_turned_away(talking, rpc, jobs):
    for verb, said in (("approve", "is let in"), ("reject", "is turned away")):
        response = await talking.post(f"/pages/devices/{verb}", data={"device": REQUEST}, headers=ORIGIN)
        assert response.status_code == 200 and said in response.text
        assert jobs.asked("decided")[-1]["decision"] == f"device.{verb}"
        assert f"device.pair.{verb}" in [request["method"] for request in rpc.requests]


@pytest.mark.parametrize("device", ["", "--all", "a b", "x" * 200, EVIL])
async def test_malformed_decision_is_a_page_that_says_so(talking, rpc, device):
    response = await talking.post("/pages/devices/approve", data={"device": device}, headers=ORIGIN)
    assert response.status_code == 422 and "<main" in response.text and "<script>alert" not in response.text
    assert rpc.requests == []


async def test_somebody_in_a_chat_is_let_in(talking, rpc, jobs):
    account = {"channel": "telegram", "channelLabel": "Telegram", "accountId": "default", "notifySupported": True}
    payload = {"accounts": [account], "requests": [PAIRING]}
    rpc.answers["channels.pairing.list"] = {"type": "res", "ok": True, "payload": payload}
    page = (await talking.get("/pages/devices")).text
    assert "123456789" in page and "Tell them in the chat" in page
    form = {"channel": "telegram", "account": "default", "sender": "b3b4ab1b1f0d4c7f", "notify": "true"}
    response = await talking.post("/pages/devices/pairing", data=form, headers=ORIGIN)
    assert response.status_code == 200 and "may talk to bot1 in telegram now" in response.text
    approved = [one["params"] for one in rpc.requests if one["method"] == "channels.pairing.approve"]
    assert approved == [
        {"channel": "telegram", "accountId": "default", "requestId": "b3b4ab1b1f0d4c7f", "notify": True}
    ]


async def test_devices_while_the_gateway_is_down(operator):
    response = await operator.get("/pages/devices")
    assert response.status_code == 200
    assert "Devices cannot be shown now" in response.text and "The gateway does not answer" in response.text


async def test_log_is_text(operator, broker):
    line = f"2026-11-22T10:00:00.123456789Z {EVIL}\x1b[31mred\x07\u202e &amp; \r\n".encode()
    broker.log(piece(line))
    page = (await operator.get("/pages/logs", params={"follow": "false"})).text
    assert_text(page)
    assert "<time>2026-11-22 10:00:00</time>" in page and "&amp;amp;" in page
    stream = (await operator.get("/pages/logs/events")).text
    assert_text(stream)
    events = [block.split("\n")[0] for block in stream.strip().split("\n\n")]
    assert events == ["event: start", "event: lines", "event: ended", "event: end"]
    assert all(re.match("(event|data): |data:$", text) for text in stream.splitlines() if text)


@pytest.mark.parametrize("query", ["tail=0", "tail=2001", "part=controller", "part=../gateway", "part=%3Cscript%3E"])
async def test_logs_are_bounded(operator, broker, query):
    for path in ("/pages/logs", "/pages/logs/events"):
        assert (await operator.get(f"{path}?{query}")).status_code == 422
    assert broker.requests == []


async def test_a_page_that_follows_ends_before_a_browser_is_full(operator, broker, monkeypatch):
    monkeypatch.setattr(gateway_pages, "_MOST_LINES", 5)
    broker.log(piece(b"".join(b"line %d\n" % number for number in range(50))))
    stream = (await operator.get("/pages/logs/events")).text
    assert "enough lines for one browser" in stream and stream.rstrip().endswith("data:")


async def test_log_while_the_broker_is_gone(operator):
    page = (await operator.get("/pages/logs", params={"follow": "false"})).text
    assert "clawfactory-bot1-broker has to run" in page
    assert "clawfactory-bot1-broker has to run" in (await operator.get("/pages/logs/events")).text


async def test_below_a_prefix_everything_stays_there(operator, broker):
    headers = {"X-Forwarded-Prefix": "/bots/bot1"}
    pages = [(await operator.get(path, headers=headers)).text for path in PAGES]
    pages.append((await operator.get("/pages/logs/events", headers=headers)).text)
    for page in pages:
        for address in re.findall('(?:href|src|action|hx-get|sse-connect)="([^"#]*)"', page):
            assert address.startswith("/bots/bot1/"), address
    response = await operator.post("/pages/security/run", headers={**headers, **ORIGIN})
    assert response.headers["location"] == "/bots/bot1/pages/security"


async def test_security_audit_runs_on_and_its_findings_are_text(app, operator, broker):
    assert "It was not looked at yet" in (await operator.get("/pages/security")).text
    assert broker.requests == [], "looking at the page begins nothing"
    finding = {"checkId": EVIL, "severity": "critical", "title": EVIL, "detail": f"{EVIL}\x1b[31m\nmore",
               "remediation": EVIL}  # fmt: skip
    broker.command(piece(json.dumps({"ts": 1795893640140, "findings": [finding]}).encode()))
    broker.held.add(EXEC)
    response = await operator.post("/pages/security/run", headers=ORIGIN)
    assert (response.status_code, response.headers["location"]) == (303, "/pages/security")
    running = (await operator.get("/pages/security")).text
    assert "It is looked at" in running and "<progress" in running and 'hx-trigger="every 2s"' in running
    broker.held.clear()
    await get_app_services(app).audit.settle()
    page = (await operator.get("/pages/security")).text
    assert_text(page)
    assert "critical 1" in page and "What to do:" in page and "hx-trigger" not in page


async def test_a_failed_audit_is_said_and_the_last_report_stays(app, operator, broker):
    for said in (
        b'{"ts": 1795893640140, "findings": [{"checkId": "a.b", "severity": "warn", "title": "No limit"}]}',
        b"x",
    ):
        broker.command(piece(said))
        await operator.post("/pages/security/run", headers=ORIGIN)
        await get_app_services(app).audit.settle()
    page = (await operator.get("/pages/security")).text
    assert "The last look failed" in page and "did not print a report" in page
    assert "What was found before" in page and "No limit" in page


async def test_restart_says_what_came_of_it(app, operator, broker, gateway, jobs):
    page = (await operator.get("/pages/restart")).text
    assert "Turns that go on get twenty seconds to end" in page and broker.requests == []
    broker.held.add(RESTART)
    response = await operator.post("/pages/restart", headers=ORIGIN)
    assert (response.status_code, response.headers["location"]) == (303, "/pages/restart")
    assert "is being restarted" in (await operator.get("/pages/restart")).text
    broker.held.clear()
    await get_app_services(app).restart.settle()
    gateway.set_state(503, "starting")
    page = (await operator.get("/pages/restart")).text
    assert "The gateway was restarted" in page and "OpenClaw is still starting" in page
    gateway.set_state(200, "started")
    page = (await operator.get("/pages/restart")).text
    assert "and OpenClaw is ready" in page and "hx-trigger" not in page
    assert [line["outcome"] for line in jobs.asked("decided")] == ["asked", "done"]


@pytest.mark.parametrize("written", [True, False])
async def test_a_restart_that_fails_says_why(app, operator, broker, jobs, written):
    broker.answers[RESTART] = reply(409, {"message": f"{EVIL} is paused"})
    if not written:
        jobs.answers["decided"] = Refusal(500, "Failed", f"No space left {EVIL}")
    await operator.post("/pages/restart", headers=ORIGIN)
    await get_app_services(app).restart.settle()
    page = (await operator.get("/pages/restart")).text
    assert "It was not restarted" in page
    assert_text(page)
    assert (RESTART in [request[0] for request in broker.requests]) is written
