"""The real OpenClaw, as its operator meets it: through the proxy on 127.0.0.1."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest

from tests.support.bots import Bot, engine, http
from tests.support.lan_host import LAN_IPV4, LanHost
from tests.support.polling import wait_for
from tests.support.websocket import WebSocket

from .conftest import FORBIDDEN_PORT, MODEL_PORT

MODEL = f"http://{LAN_IPV4}:{MODEL_PORT}"
FORBIDDEN = f"http://{LAN_IPV4}:{FORBIDDEN_PORT}"
OPENCLAW = "2026.9.6"


def connect(socket: WebSocket, token: str, client: str = "cli", mode: str = "cli") -> dict[str, Any]:
    """Answer the gateway's challenge and return its verdict (docs/gateway/protocol/handshake.md)."""
    assert socket.receive()["event"] == "connect.challenge"
    who = {"id": client, "version": "1", "platform": "linux", "mode": mode}
    protocol = {"minProtocol": 4, "maxProtocol": 4}
    params = {**protocol, "client": who, "role": "operator", "scopes": ["operator.read"], "auth": {"token": token}}
    socket.send({"type": "req", "id": "1", "method": "connect", "params": params})
    return socket.receive()


def asked_of_the_model(lan: LanHost) -> list[dict[str, object]]:
    seen: list[dict[str, object]] = json.loads(lan.run(["curl", "-sf", f"{MODEL}/requests"]).stdout)["requests"]
    return seen


class TestChat:
    def test_turn_answers_through_proxy_and_egress(self, bot: Bot, lan: LanHost) -> None:
        before = len(asked_of_the_model(lan))
        assert "the answer is forty-two" in bot.chat("the answer is forty-two")
        (request,) = asked_of_the_model(lan)[before:]
        assert request["authorized"], "the provider's key from secrets_env did not reach the model"
        assert request["model"] == "parrot"
        assert request["proxy_headers"] == {}, "the egress tells the provider about the bot's network"

    def test_turn_fails_without_egress_and_works_again_with_it(self, bot: Bot, lan: LanHost) -> None:
        egress = bot.container("egress")
        before = len(asked_of_the_model(lan))
        try:
            engine("stop", egress)
            # OpenClaw tries again for minutes: no answer for so long is as good as a refusal.
            with contextlib.suppress(TimeoutError):
                answer = bot.ask("unheard", timeout=30)
                assert answer.status != 200 or "unheard" not in answer.body.decode()
            assert len(asked_of_the_model(lan)) == before
        finally:
            engine("start", egress)
        wait_for("an answer with egress back", lambda: "heard again" in bot.ask("heard again").body.decode(), 60)

    def test_wrong_token_gets_no_turn(self, bot: Bot, lan: LanHost) -> None:
        before = len(asked_of_the_model(lan))
        answer = http(
            f"{bot.gateway_url}/v1/chat/completions",
            headers={"authorization": f"Bearer {'0' * 32}", "content-type": "application/json"},
            body=b'{"model": "openclaw", "messages": [{"role": "user", "content": "let me in"}]}',
        )
        assert answer.status == 401
        assert len(asked_of_the_model(lan)) == before

    def test_command_line_in_the_container_answers(self, bot: Bot) -> None:
        turn = ("openclaw", "agent", "--agent", "main", "--session-id", "e2e", "--message", "RUN: echo from-the-tool")
        done = bot.run(*turn, "--json", timeout=120)
        assert done.returncode == 0, done.stderr
        assert [part["text"] for part in json.loads(done.stdout)["result"]["payloads"]] == ["from-the-tool"]


class TestReach:
    """What a tool can reach, and what a shell in the gateway can that an attacker has."""

    def test_tool_runs_as_the_bots_own_user(self, bot: Bot) -> None:
        assert bot.chat("RUN: id -u").strip() == str(bot.uid)

    def test_forbidden_service_is_there_for_everybody_else(self, lan: LanHost) -> None:
        assert '"ok"' in lan.run(["curl", "-sf", f"{FORBIDDEN}/health"]).stdout
        assert http(f"{FORBIDDEN}/health").status == 200

    def test_allowed_address_answers_through_egress(self, bot: Bot) -> None:
        assert '{"status": "ok"}' in bot.sh(f"curl -s -m 10 -x http://egress:3128 {MODEL}/health").stdout

    def test_tool_reaches_not_even_the_egress(self, bot: Bot) -> None:
        address = bot.inspect("egress")["NetworkSettings"]["Networks"][f"clawfactory-{bot.name}-inside"]["IPAddress"]
        said = bot.chat(f"RUN: curl -s -m 5 -x http://{address}:3128 -w '[%{{http_code}}]' {MODEL}/health")
        assert "[000]" in said, said

    def test_allowed_address_does_not_answer_directly(self, bot: Bot) -> None:
        said = bot.sh(f"curl -s -m 5 --noproxy '*' -w '[%{{http_code}}]' {MODEL}/health").stdout
        assert "[000]" in said
        assert "ok" not in said

    @pytest.mark.parametrize(
        "url",
        [f"{FORBIDDEN}/health", "http://example.com/", "https://example.com/", "http://169.254.169.254/latest/"],
    )
    def test_address_that_nobody_allowed_fails_through_egress(self, bot: Bot, url: str) -> None:
        codes = "[%{http_code}/%{http_connect}]"
        said = bot.sh(f"curl -s -m 10 -o /dev/null -w '{codes}' -x http://egress:3128 {url}").stdout
        assert "[403/000]" in said or "[000/403]" in said, said

    @pytest.mark.parametrize("url", [f"{FORBIDDEN}/health", "http://example.com/"])
    def test_address_that_nobody_allowed_fails_directly(self, bot: Bot, url: str) -> None:
        said = bot.sh(f"curl -s -m 5 --noproxy '*' -o /dev/null -w '[%{{http_code}}]' {url}").stdout
        assert "[000]" in said, said

    def test_openclaws_own_check_of_the_proxy_agrees(self, bot: Bot) -> None:
        done = bot.run("openclaw", "proxy", "validate", "--json", "--allowed-url", f"{MODEL}/health", timeout=120)
        report = json.loads(done.stdout)
        assert report["ok"], report
        assert [(check["kind"], check["ok"]) for check in report["checks"]] == [("allowed", True), ("denied", True)]


class TestProxy:
    def test_control_ui_is_served(self, bot: Bot) -> None:
        answer = http(f"{bot.gateway_url}/")
        assert answer.status == 200
        assert b"<openclaw-app" in answer.body

    def test_websocket_upgrade_reaches_the_gateway(self, bot: Bot) -> None:
        with WebSocket("127.0.0.1", bot.gateway_port) as socket:
            verdict = connect(socket, bot.token)
        assert verdict["ok"], verdict
        assert verdict["payload"]["server"]["version"] == OPENCLAW

    def test_wrong_token_is_refused_on_the_websocket(self, bot: Bot) -> None:
        with WebSocket("127.0.0.1", bot.gateway_port) as socket:
            verdict = connect(socket, "0" * 32)
        assert not verdict["ok"]
        assert "AUTH" in json.dumps(verdict["error"])

    def test_page_of_another_origin_cannot_use_the_websocket(self, bot: Bot) -> None:
        origin = {"Origin": "http://evil.example"}
        with WebSocket("127.0.0.1", bot.gateway_port, origin) as socket:
            verdict = connect(socket, bot.token, "openclaw-control-ui", "webchat")
        assert verdict["error"]["details"]["code"] == "CONTROL_UI_ORIGIN_NOT_ALLOWED"

    def test_published_origin_may_use_the_websocket(self, bot: Bot) -> None:
        """The token alone is not enough for a browser: the gateway goes on to ask for the device's identity."""
        origin = {"Origin": bot.gateway_url}
        with WebSocket("127.0.0.1", bot.gateway_port, origin) as socket:
            verdict = connect(socket, bot.token, "openclaw-control-ui", "webchat")
        assert verdict["error"]["details"]["code"] == "CONTROL_UI_DEVICE_IDENTITY_REQUIRED"

    def test_health_needs_no_token(self, bot: Bot) -> None:
        assert http(f"{bot.gateway_url}/readyz").json()["ready"] is True


class TestController:
    def test_health_names_bot_and_version(self, bot: Bot) -> None:
        answer = http(f"{bot.controller_url}/health")
        assert (answer.status, answer.json()["status"], answer.json()["bot"]) == (200, "ok", "e2e")

    def test_status_sees_the_gateway_and_the_approved_commit(self, bot: Bot) -> None:
        token = bot.secret("controller.env", "CONTROLLER_TOKEN")
        status = http(f"{bot.controller_url}/status", headers={"authorization": f"Bearer {token}"}).json()
        assert status["gateway"]["state"] == "ready", status
        assert len(status["approved"]["commit"]) == 40

    def test_status_needs_the_token(self, bot: Bot) -> None:
        assert http(f"{bot.controller_url}/status").status == 401
        # The bot's own tokens are not the operator's.
        assert http(f"{bot.controller_url}/status", headers={"authorization": f"Bearer {bot.token}"}).status == 401

    def test_browser_logs_in_and_sees_the_status_page(self, bot: Bot) -> None:
        token = bot.secret("controller.env", "CONTROLLER_TOKEN")
        form = {"content-type": "application/x-www-form-urlencoded", "origin": bot.controller_url}
        login = http(f"{bot.controller_url}/login", headers=form, body=f"token={token}".encode())
        assert login.status == 303
        cookie = login.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert token not in cookie
        page = http(f"{bot.controller_url}/", headers={"cookie": cookie.split(";")[0]})
        assert page.status == 200
        assert b"e2e" in page.body

    def test_gateway_cannot_reach_the_operator_routes(self, bot: Bot) -> None:
        places = [f"{part}:{port}" for part in ("controller", "proxy") for port in (80, 8000, 8080)]
        ask = "curl -s -m 3 --noproxy '*' -o /dev/null -w '%{http_code}'"
        said = bot.sh("".join(f"echo {place} $({ask} http://{place}/health) & " for place in places) + "wait").stdout
        assert sorted(said.splitlines()) == sorted(f"{place} 000" for place in places)
