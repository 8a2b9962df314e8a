"""Attacks on the way in: by a page in the operator's browser, by a client of the published port, from the gateway."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.bots import Bot, engine, http
from tests.support.chromium import chromium
from tests.support.polling import wait_for
from tests.support.raw_http import request, send, send_from

# Answers with the request as it arrived, to show what the proxy makes of it; WebSockets get their bytes back.
ECHO = """
const server = require("http").createServer((request, answer) => {
  answer.setHeader("content-type", "application/json");
  if (request.url.includes("own-headers")) answer.setHeader("x-frame-options", "DENY");
  answer.end(JSON.stringify({url: request.url, headers: request.rawHeaders}));
});
server.on("upgrade", (request, socket) => {
  socket.write("HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n\\r\\n");
  socket.pipe(socket);
});
server.listen(18789);
"""
FORGED = {
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Port": "443",
    "X-Forwarded-User": "operator",
    "X-Forwarded-Email": "operator@example.com",
    "X_Forwarded_For": "127.0.0.1",
    "Forwarded": "for=127.0.0.1",
    "X-Real-IP": "127.0.0.1",
    "True-Client-IP": "127.0.0.1",
    "CF-Connecting-IP": "127.0.0.1",
    "CF-Access-Authenticated-User-Email": "operator@example.com",
    "CF-Access-Jwt-Assertion": "forged",
    "Tailscale-User-Login": "operator@example.com",
    "X-Auth-Request-Email": "operator@example.com",
    "X-WebAuth-User": "operator",
    "Remote-User": "operator",
    "X-Original-URL": "/admin",
    "Proxy": "http://evil.example",
}
UNKNOWN_HOSTS = (
    "evil.example", "evil.example:{port}", "localhost", "127.0.0.1", "127.1:{port}", "2130706433:{port}", "0:{port}",
    "localhost.:{port}", "localhost:{port}.evil.example", "localhost:{port}@evil.example", "[::ffff:127.0.0.1]:{port}",
    "localhost:{other}", "{edge}:{inner}",
)  # fmt: skip


@pytest.fixture(params=["gateway", "controller"])
def service(request: pytest.FixtureRequest, bot: Bot) -> dict[str, Any]:
    """A published service: its port, the other one's, and where nginx itself listens."""
    networks = bot.inspect("proxy")["NetworkSettings"]["Networks"]
    ports = {
        "gateway": (bot.gateway_port, bot.controller_port, 18789),
        "controller": (bot.controller_port, bot.gateway_port, 8080),
    }
    port, other, inner = ports[request.param]
    return {"port": port, "other": other, "inner": inner, "edge": networks[f"clawfactory-{bot.name}-edge"]["IPAddress"]}


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}", "LOCALHOST:{port}"])
def test_host_of_the_operator_is_answered(service: dict[str, Any], host: str) -> None:
    answer = send("127.0.0.1", service["port"], request("/health", host=host.format(**service)))
    assert answer.status in {200, 404}


@pytest.mark.parametrize("host", UNKNOWN_HOSTS)
def test_page_whose_name_leads_here_is_refused(service: dict[str, Any], host: str) -> None:
    assert send("127.0.0.1", service["port"], request("/health", host=host.format(**service))).status == 421


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("GET http://evil.example/ HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n", 421),
        ("GET http://localhost:{port}/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        ("GET / HTTP/1.1\r\nHost: localhost:{port}\r\nHost: evil.example\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\n\r\n", 421),
    ],
    ids=["in the request line", "in the header", "twice", "none", "none, HTTP/1.0"],
)
def test_host_in_two_places_has_to_be_known_in_both(service: dict[str, Any], text: str, status: int) -> None:
    assert send("127.0.0.1", service["port"], text.format(**service)).statuses[0] == status


@pytest.mark.parametrize(
    "head",
    [
        "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        "GET / HTTP/1.1\r\nHost: {host}\r\nX: a\r\n X-Real-IP: 127.0.0.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\nX: " + "a" * 70000 + "\r\n\r\n",
        "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=[
        "chunked with length", "unknown coding", "blank in the name", "two lengths", "folded", "large", "CONNECT",
        "TRACE", "HTTP/2",
    ],
)  # fmt: skip
def test_request_that_two_servers_read_differently_is_refused(bot: Bot, head: str) -> None:
    host = f"localhost:{bot.gateway_port}"
    answer = send("127.0.0.1", bot.gateway_port, head.format(host=host) + request("/healthz", host=host))
    assert answer.status in {400, 405, 501}
    assert 200 not in answer.statuses


def test_client_that_never_finishes_its_headers_is_dropped(bot: Bot) -> None:
    with socket.create_connection(("127.0.0.1", bot.gateway_port), timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        begin = time.monotonic()
        assert connection.recv(100) == b""
        assert 5 < time.monotonic() - begin < 20


def test_body_beyond_the_limit_is_refused(bot: Bot) -> None:
    head = f"POST / HTTP/1.1\r\nHost: localhost:{bot.gateway_port}\r\nContent-Length: {33 * 2**20}\r\n\r\n"
    assert send("127.0.0.1", bot.gateway_port, head).status == 413


def test_more_cookies_than_fit_do_not_keep_the_operator_out(bot: Bot) -> None:
    """Cookies have no port: the gateway's pages can set them for the controller, too."""
    bomb = (
        "() => { for (let n = 0; n < 30; n++) document.cookie = `bomb${n}=${'x'.repeat(3000)}; path=/; max-age=9999` }"
    )
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{bot.gateway_url}/healthz")
        page.evaluate(bomb)
        refused = page.goto(f"{bot.controller_url}/login")
        assert refused is not None and refused.status == 400
        answered = page.goto(f"{bot.controller_url}/login")
        assert answered is not None and answered.status == 200


def test_log_has_the_refusal_without_the_query(bot: Bot) -> None:
    secret = "c0ffee-in-the-query"
    text = request(f"/log-marker?token={secret}", f"Authorization: Bearer {secret}", host="evil.example")
    assert send("127.0.0.1", bot.gateway_port, text).status == 421
    done = subprocess.run(["docker", "logs", bot.container("proxy")], capture_output=True, text=True, check=True)
    assert secret not in done.stdout + done.stderr
    line = [json.loads(line) for line in done.stdout.splitlines() if "/log-marker" in line][-1]
    assert (line["service"], line["path"], line["status"]) == ("gateway", "/log-marker", 421)


def test_published_ports_are_on_loopback_alone(bot: Bot) -> None:
    published = bot.inspect("proxy")["HostConfig"]["PortBindings"]
    assert published == {
        "18789/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(bot.gateway_port)}],
        "8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(bot.controller_port)}],
    }


def test_gateway_reaches_the_proxy_on_none_of_its_addresses(bot: Bot) -> None:
    """Operator routes have no address it can reach, whatever Host it writes."""
    asked = {"": request("/health", host=f"localhost:{bot.controller_port}")}
    addresses = [entry["IPAddress"] for entry in bot.inspect("proxy")["NetworkSettings"]["Networks"].values()]
    assert len(addresses) == 2
    places = [(each, port) for each in addresses for port in (18789, 8080, bot.gateway_port, bot.controller_port)]
    with ThreadPoolExecutor(len(places)) as crowd:
        statuses = list(crowd.map(lambda place: send_from(bot, *place, asked)[""].status, places))
    reached = dict(zip(places, statuses, strict=True))
    assert set(reached.values()) == {0}, reached


@pytest.fixture(scope="class")
def echo(bot: Bot) -> Iterator[None]:
    """The gateway killed, and an echo at its address; then the gateway again."""
    name, inside = f"clawfactory-{bot.name}-echo", f"clawfactory-{bot.name}-inside"
    gateway = bot.inspect("gateway")
    address = gateway["NetworkSettings"]["Networks"][inside]["IPAddress"]
    place = ["--detach", "--rm", "--name", name, "--network", inside, "--ip", address]
    proxy = bot.inspect("proxy")["State"]["StartedAt"]
    engine("kill", bot.container("gateway"))
    try:
        assert http(f"{bot.controller_url}/health").status == 200
        down = http(f"{bot.gateway_url}/")
        assert (down.status, down.headers["retry-after"], b"is down" in down.body) == (503, "5", True)
        program = ["--entrypoint", "node", gateway["Image"], "-e", ECHO]
        subprocess.run(["docker", "run", *place, *program], check=True, capture_output=True)
        # The same nginx, not restarted, finds who came back.
        wait_for("the echo", lambda: http(f"{bot.gateway_url}/").status == 200, 20)
        yield
    finally:
        subprocess.run(["docker", "rm", "--force", name], check=True, capture_output=True)
        engine("start", bot.container("gateway"))
        # At once, and not after the five minutes for which the dead gateway still holds its lease.
        wait_for("the gateway", lambda: http(f"{bot.gateway_url}/readyz").status == 200, 90)
    assert bot.inspect("proxy")["State"]["StartedAt"] == proxy, "the proxy did not survive it"


class TestGatewayReplaced:
    """What arrives at the gateway's address, with an echo in the gateway's place."""

    @pytest.fixture
    def arrived(self, bot: Bot, echo: None) -> dict[str, str]:
        headers = {**FORGED, "Connection": "Upgrade, X-Forwarded-For", "Upgrade": "h2c", "Authorization": "Bearer mine"}
        raw = http(f"{bot.gateway_url}/", headers=headers).json()["headers"]
        return dict(zip((name.lower() for name in raw[::2]), raw[1::2], strict=True))

    def test_forged_headers_are_replaced_or_removed(self, bot: Bot, arrived: dict[str, str]) -> None:
        edge = bot.inspect("proxy")["NetworkSettings"]["Networks"][f"clawfactory-{bot.name}-edge"]
        set_by_proxy = {
            "x-forwarded-for": edge["Gateway"], "x-forwarded-proto": "http", "x-forwarded-port": str(bot.gateway_port),
            "x-forwarded-host": f"127.0.0.1:{bot.gateway_port}",
        }  # fmt: skip
        forged = {name.lower() for name in FORGED}
        assert {name: value for name, value in arrived.items() if name in forged} == set_by_proxy

    def test_no_other_protocol_is_switched_to(self, arrived: dict[str, str]) -> None:
        assert "upgrade" not in arrived
        assert "upgrade" not in arrived.get("connection", "").lower()

    def test_what_the_client_may_say_arrives(self, bot: Bot, arrived: dict[str, str]) -> None:
        assert arrived["authorization"] == "Bearer mine"
        assert arrived["host"] == f"127.0.0.1:{bot.gateway_port}"

    @pytest.mark.parametrize("cookie", ["clawfactory-e2e=session", "theme=dark; CLAWFACTORY-e2e=session; a=b"])
    def test_controllers_session_never_arrives_at_the_gateway(self, bot: Bot, echo: None, cookie: str) -> None:
        arrived = [text.lower() for text in http(f"{bot.gateway_url}/", headers={"Cookie": cookie}).json()["headers"]]
        assert "host" in arrived and "cookie" not in arrived, arrived

    def test_security_headers_are_added_where_there_are_none(self, bot: Bot, echo: None) -> None:
        plain, own = http(f"{bot.gateway_url}/").headers, http(f"{bot.gateway_url}/own-headers").headers
        assert (plain["x-frame-options"], own["x-frame-options"]) == ("SAMEORIGIN", "DENY")
        assert plain["x-content-type-options"] == "nosniff"
        assert plain["server"] == "nginx"

    def test_websocket_passes_bytes_both_ways_after_a_pause(self, bot: Bot, echo: None) -> None:
        upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket"
        with socket.create_connection(("127.0.0.1", bot.gateway_port), timeout=10) as connection:
            connection.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{bot.gateway_port}\r\n{upgrade}\r\n\r\n".encode())
            assert b" 101 " in connection.recv(1000)
            for message in (b"first", b"second"):
                connection.sendall(message)
                assert connection.recv(100) == message
                time.sleep(2)
