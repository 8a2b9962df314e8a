"""The controller and the real OpenClaw: devices over the kept connection, logs and restart over the broker."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from typing import Any

from nacl.signing import SigningKey

from tests.support.bots import Answer, Bot, http
from tests.support.polling import wait_for
from tests.support.websocket import WebSocket


def call(bot: Bot, operator: dict[str, str], method: str, path: str, body: Any = None, **headers: str) -> Answer:
    data = None if body is None else json.dumps(body).encode()
    sent = {**operator, "content-type": "application/json", **headers}
    return http(bot.controller_url + path, method=method, headers=sent, body=data)


def ask_in(bot: Bot, key: SigningKey) -> dict[str, Any]:
    """Connect as a new device does, through the proxy; the gateway's answer."""
    public = bytes(key.verify_key)
    device = hashlib.sha256(public).hexdigest()
    with WebSocket(bot.host, bot.gateway_port) as socket:
        challenge = socket.receive()["payload"]
        parts = (
            "v3", device, "cli", "cli", "operator", "operator.read,operator.write", str(challenge["ts"]), bot.token,
            challenge["nonce"], "linux", "",
        )  # fmt: skip
        params = {
            "minProtocol": 4, "maxProtocol": 4, "role": "operator", "scopes": ["operator.read", "operator.write"],
            "client": {"id": "cli", "mode": "cli", "version": "1", "platform": "linux", "displayName": "e2e"},
            "auth": {"token": bot.token},
            "device": {
                "id": device, "publicKey": encode(public), "nonce": challenge["nonce"], "signedAt": challenge["ts"],
                "signature": encode(key.sign("|".join(parts).encode()).signature),
            },
        }  # fmt: skip
        socket.send({"type": "req", "id": "connect", "method": "connect", "params": params})
        while True:
            answer = socket.receive()
            if answer.get("type") == "res":
                return answer


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TestDevices:
    def test_the_controller_is_let_in_by_itself(self, bot: Bot, operator: dict[str, str]) -> None:
        def listed() -> Any:
            answer = call(bot, operator, "GET", "/gateway/devices")
            return answer.json()["paired"] if answer.status == 200 else []

        wait_for("the controller among the devices", lambda: any(device["own"] for device in listed()), 60, every=1)
        assert [device["name"] for device in listed() if device["own"]] == ["ClawFactory controller"]

    def test_a_device_asks_is_approved_and_gets_in(self, bot: Bot, operator: dict[str, str]) -> None:
        key = SigningKey(os.urandom(32))
        refused = ask_in(bot, key)
        request = refused["error"]["details"]["requestId"]
        pending = call(bot, operator, "GET", "/gateway/devices").json()["pending"]
        assert [entry["name"] for entry in pending if entry["request"] == request] == ["e2e"]
        assert call(bot, operator, "POST", "/gateway/devices/approve", {"request": request}).status == 200
        assert ask_in(bot, key)["ok"]
        again = call(bot, operator, "POST", "/gateway/devices/approve", {"request": request})
        assert again.status == 404, again

    def test_a_device_that_is_rejected_stays_out(self, bot: Bot, operator: dict[str, str]) -> None:
        key = SigningKey(os.urandom(32))
        request = ask_in(bot, key)["error"]["details"]["requestId"]
        assert call(bot, operator, "POST", "/gateway/devices/reject", {"request": request}).status == 200
        assert not ask_in(bot, key)["ok"]

    def test_channel_that_the_bot_has_not(self, bot: Bot, operator: dict[str, str]) -> None:
        assert call(bot, operator, "GET", "/gateway/pairing/telegram").status == 404


class TestContainer:
    def test_log(self, bot: Bot, operator: dict[str, str]) -> None:
        lines = call(bot, operator, "GET", "/gateway/logs?tail=1000").json()["lines"]
        assert any("[gateway] ready" in line for line in lines)
        assert bot.token not in "\n".join(lines)

    def test_the_gateway_has_no_way_to_the_operators_routes(self, bot: Bot) -> None:
        for path in ("/gateway/devices", "/gateway/logs", "/gateway/restart"):
            for address in ("controller:8090", "controller:8080", "proxy:8080", "proxy:18789"):
                command = f"curl -s -o /dev/null -m 3 -w '%{{http_code}}' http://{address}{path}"
                assert bot.sh(command).stdout not in ("200", "202", "401"), (address, path)


class TestConfiguration:
    """The operator's layer, on a bot whose gateway is started anew for each change."""

    def save(self, bot: Bot, operator: dict[str, str], text: str, etag: str = "") -> dict[str, Any]:
        """Save, and wait for what comes of it."""
        etag = etag or call(bot, operator, "GET", "/gateway/config").headers["etag"]
        answer = call(bot, operator, "POST", "/gateway/config", {"text": text}, **{"if-match": etag})
        assert answer.status == 202, answer
        return self.ended(bot, operator, answer.json()["id"])

    def ended(self, bot: Bot, operator: dict[str, str], job: str) -> dict[str, Any]:
        def look() -> Any:
            found = call(bot, operator, "GET", f"/jobs/{job}").json()
            return found if found["state"] in ("done", "failed") else None

        found: dict[str, Any] = wait_for(f"the end of job {job}", look, 300, every=1)
        return found

    def test_what_openclaw_refuses_is_named_with_its_line(self, bot: Bot, operator: dict[str, str]) -> None:
        answer = call(bot, operator, "POST", "/gateway/config/validate", {"text": "{\n\n  gateway: {nonsense: 1},\n}"})
        assert answer.status == 200, answer
        assert [(problem["path"], problem["line"]) for problem in answer.json()["problems"]] == [("gateway", 3)]
        before = call(bot, operator, "GET", "/gateway/config").json()["digest"]
        job = self.save(bot, operator, "{\n\n  gateway: {nonsense: 1},\n}")
        assert (job["state"], job["error"]["status"]) == ("failed", 422), job
        assert "line 3" in job["error"]["detail"], job
        assert call(bot, operator, "GET", "/gateway/config").json()["digest"] == before

    def test_a_change_is_saved_with_its_comments_and_seen_in_the_gateway(
        self, bot: Bot, operator: dict[str, str]
    ) -> None:
        before = call(bot, operator, "GET", "/gateway/config")
        text = "{\n  // by the e2e tests\n  logging: {level: 'debug'},\n}\n"
        job = self.save(bot, operator, text)
        assert job["state"] == "done", job
        after = call(bot, operator, "GET", "/gateway/config").json()
        assert (after["text"], after["known_good"]) == (text, before.json()["digest"])
        shown = bot.run("openclaw", "config", "get", "logging.level", timeout=90)
        assert "debug" in shown.stdout, shown
        assert any("config.saved" in line for line in (bot.root / "audit" / f"{bot.name}.jsonl").open())
        # Who loaded before that does not overwrite it.
        late = call(bot, operator, "POST", "/gateway/config", {"text": "{}"}, **{"if-match": before.headers["etag"]})
        assert late.status == 412, late

    def test_schema_is_the_running_openclaws(self, bot: Bot, operator: dict[str, str]) -> None:
        answer = wait_for(
            "a schema",
            lambda: (found := call(bot, operator, "GET", "/gateway/config/schema")).status == 200 and found,
            60,
            every=1,
        )
        assert "gateway" in answer.json()["schema"]["properties"]
