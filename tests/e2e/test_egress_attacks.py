"""Attacks on the egress, by somebody who has a shell in the gateway container.

Allowed is exactly one service: the model at its address and port. The same computer has another that nobody allowed.
"""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.support.bots import Bot
from tests.support.lan_host import LAN_IPV4, LanHost
from tests.support.raw_http import RawAnswer, request, send_from, tunnel

from .conftest import FORBIDDEN_PORT, MODEL_PORT

ALLOWED, FORBIDDEN = f"{LAN_IPV4}:{MODEL_PORT}", f"{LAN_IPV4}:{FORBIDDEN_PORT}"
REACHED = '{"status": "ok"}'
SMUGGLED = request(f"http://{FORBIDDEN}/health")
FIVE = "Content-Length: 5\r\n"
PORT = 3128

# The forbidden service, and the machine, in every spelling of their addresses; each is tried plain and as a tunnel.
PLACES = {
    "the address": FORBIDDEN,
    "decimal": f"3325256706:{FORBIDDEN_PORT}",
    "hexadecimal": f"0xc6336402:{FORBIDDEN_PORT}",
    "octal": f"0306.063.0144.02:{FORBIDDEN_PORT}",
    "short": f"198.51.25602:{FORBIDDEN_PORT}",
    "IPv4-mapped": f"[::ffff:{LAN_IPV4}]:{FORBIDDEN_PORT}",
    "IPv4-mapped, hexadecimal": f"[::ffff:c633:6402]:{FORBIDDEN_PORT}",
    "NAT64": f"[64:ff9b::{LAN_IPV4}]:{FORBIDDEN_PORT}",
    "IPv4-compatible": f"[::{LAN_IPV4}]:{FORBIDDEN_PORT}",
    "trailing dot": f"{LAN_IPV4}.:{FORBIDDEN_PORT}",
    "allowed host as user": f"{LAN_IPV4}@{FORBIDDEN}",
    "no port": LAN_IPV4,
    "ssh": f"{LAN_IPV4}:22",
    "https of the model": f"{LAN_IPV4}:443",
    "loopback": "127.0.0.1:3128",
    "loopback, short": "127.1:3128",
    "loopback, decimal": "2130706433:3128",
    "loopback, IPv6": "[::1]:3128",
    "any address": "0.0.0.0:3128",
    "any address, short": "0:3128",
    "localhost": "localhost:3128",
    "egress itself": f"egress:{PORT}",
    "metadata": "169.254.169.254:80",
    "metadata, IPv6": "[fd00:ec2::254]:80",
    "the machine": "host.docker.internal:80",
    "the bot's own gateway": "gateway:18789",
    "the controller": "controller:443",
    "somewhere": "example.com:443",
}
ATTACKS = {
    **{f"plain: {name}": request(f"http://{place}/health") for name, place in PLACES.items()},
    **{f"tunnel: {name}": tunnel(place) for name, place in PLACES.items()},
    "userinfo that looks like the model": request(f"http://{ALLOWED}@{FORBIDDEN}/health"),
    "fragment that looks like the model": request(f"http://{FORBIDDEN}#@{ALLOWED}/health"),
    "query that looks like the model": request(f"http://{FORBIDDEN}?@{ALLOWED}/health"),
    "NUL behind the model": request(f"http://{LAN_IPV4}\0.example.com:{MODEL_PORT}/health"),
    "percent NUL behind the model": request(f"http://{LAN_IPV4}%00.example.com:{MODEL_PORT}/health"),
    "blank behind the model": request(f"http://{LAN_IPV4} .example.com:{MODEL_PORT}/health"),
    "tab behind the model": request(f"http://{LAN_IPV4}\t.example.com:{MODEL_PORT}/health"),
    "negative port": tunnel(f"{LAN_IPV4}:-1"),
    "ftp": request(f"ftp://{ALLOWED}/health"),
    "https without a tunnel": request(f"https://{ALLOWED}/health"),
    "urn": request("urn:clawfactory:health"),
    "TRACE": request(f"http://{ALLOWED}/health", method="TRACE"),
    "origin form": request("/health", host=FORBIDDEN),
    "manager": request("/squid-internal-mgr/info"),
    "manager by name": request(f"http://egress:{PORT}/squid-internal-mgr/info"),
    "manager by old scheme": request("cache_object://localhost/info"),
    "manager behind the model": request(f"http://{ALLOWED}/squid-internal-mgr/info"),
}


@pytest.fixture(scope="module")
def answers(bot: Bot, lan: LanHost) -> dict[str, RawAnswer]:
    return send_from(bot, "egress", PORT, ATTACKS)


def test_forbidden_service_answers_everybody_else(lan: LanHost) -> None:
    assert REACHED in lan.run(["curl", "-sf", f"http://{FORBIDDEN}/health"]).stdout


@pytest.mark.parametrize("text", [request(f"http://{ALLOWED}/health"), tunnel(ALLOWED)], ids=["plain", "tunnel"])
def test_allowed_service_answers(bot: Bot, lan: LanHost, text: str) -> None:
    answer = send_from(bot, "egress", PORT, {"": text})[""]
    assert answer.status == 200
    assert REACHED in answer.text


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_refused_by_squid(answers: dict[str, RawAnswer], name: str) -> None:
    answer = answers[name]
    assert answer.status in {400, 403}, answer.text
    assert "X-Squid-Error: ERR_" in answer.text
    assert REACHED not in answer.text


def test_host_header_does_not_decide(bot: Bot, lan: LanHost) -> None:
    """What is connected to is the target, and the Host header that arrives is the target's, not the client's."""
    targets = {
        "to the model": request(f"http://{ALLOWED}/health", host=FORBIDDEN),
        "to the other": request(f"http://{FORBIDDEN}/health", host=ALLOWED),
    }
    found = send_from(bot, "egress", PORT, targets)
    assert {name: answer.status for name, answer in found.items()} == {"to the model": 200, "to the other": 403}


@pytest.mark.parametrize(
    "first",
    [
        f"GET http://{ALLOWED}/health HTTP/1.1\r\nHost: x\r\n\r\n",
        f"POST http://{ALLOWED}/health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n{FIVE}\r\n",
        f"POST http://{ALLOWED}/health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{FIVE}\r\n0\r\n\r\n",
        f"GET http://{ALLOWED}/health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n{FIVE}\r\n0\r\n\r\n",
    ],
    ids=["pipelined", "two lengths", "chunked with length", "blank in the name"],
)
def test_second_request_behind_an_allowed_one_is_judged_by_itself(bot: Bot, lan: LanHost, first: str) -> None:
    answer = send_from(bot, "egress", PORT, {"": first + SMUGGLED})[""]
    # The model may answer the first one; nothing but a refusal may answer for the second.
    assert answer.statuses
    assert answer.text.count(REACHED) <= 1
    assert answer.statuses[-1] in {400, 403, 411, 501}, answer.text


def test_egress_answers_the_gateway_on_its_inside_address_alone(bot: Bot) -> None:
    attached = bot.inspect("egress")["NetworkSettings"]["Networks"]
    reached = {
        network.rpartition("-")[2]: send_from(bot, entry["IPAddress"], PORT, {"": request("/")})[""].status
        for network, entry in attached.items()
    }
    assert reached == {"inside": 400, "control": 0, "edge": 0}


@pytest.mark.parametrize(
    ("part", "network"), [("proxy", "inside"), ("controller", "inside"), ("controller", "control")]
)
def test_other_parts_do_not_get_what_the_gateway_gets(bot: Bot, lan: LanHost, part: str, network: str) -> None:
    """The controller has a list of its own, which is empty here; the proxy has none."""
    address = bot.inspect("egress")["NetworkSettings"]["Networks"][f"clawfactory-{bot.name}-{network}"]["IPAddress"]
    ask = f"printf 'GET http://{ALLOWED}/health HTTP/1.0\\r\\n\\r\\n' >&3"
    script = f"exec 3<>/dev/tcp/{address}/{PORT} && {ask} && head -1 <&3"
    assert " 403 " in bot.run("bash", "-c", script, part=part).stdout


def test_log_has_the_refusal_but_nothing_secret(bot: Bot) -> None:
    secret = "c0ffee-in-the-query"
    marker = "log-marker.example"
    attempt = request(f"http://user:{secret}@{marker}/{secret}?token={secret}", f"Authorization: Bearer {secret}")
    assert send_from(bot, "egress", PORT, {"": attempt})[""].status == 403
    done = subprocess.run(["docker", "logs", bot.container("egress")], capture_output=True, text=True, check=True)
    assert secret not in done.stdout + done.stderr
    (line,) = [json.loads(line) for line in done.stdout.splitlines() if marker in line][-1:]
    assert (line["from"], line["method"], line["host"], line["port"], line["status"]) == (
        "gateway", "GET", marker, "80", 403,
    )  # fmt: skip
