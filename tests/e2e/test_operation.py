"""What the operator does to a running bot: a bad configuration, a gateway that goes away."""

from __future__ import annotations

import hashlib
import json

from tests.support.bots import Bot, engine, http
from tests.support.playbooks import ansible_playbook
from tests.support.polling import wait_for

from .conftest import INVENTORY


def configuration(bot: Bot) -> str:
    path = bot.root / "bot_repos" / bot.name / "config" / "openclaw.json"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_configuration_that_openclaw_refuses_changes_nothing(bot: Bot) -> None:
    before, container = configuration(bot), bot.inspect("gateway")
    bad = json.dumps({"gateway_config": {"gateway": {"controlUi": {"enabled": "perhaps"}}}})
    run = ansible_playbook("site.yml", INVENTORY, "--limit", "e2e", "--extra-vars", bad)
    assert run.returncode == 2
    message = run.failures["e2e"]
    assert "gateway.controlUi.enabled" in message, message
    assert "e2e" in message, message
    assert "gateway_config" in message, message
    assert configuration(bot) == before
    after = bot.inspect("gateway")
    assert (after["Id"], after["State"]["StartedAt"]) == (container["Id"], container["State"]["StartedAt"])
    assert "still here" in bot.chat("still here")


def test_proxy_survives_a_gateway_that_is_down(bot: Bot) -> None:
    proxy = bot.inspect("proxy")["State"]["StartedAt"]
    try:
        engine("kill", bot.container("gateway"))
        answer = http(f"{bot.gateway_url}/readyz", timeout=10)
        assert answer.status in (502, 503, 504), answer
        assert http(f"{bot.controller_url}/health").status == 200
    finally:
        engine("start", bot.container("gateway"))
    # At once, and not after the five minutes for which the dead gateway still holds its lease.
    wait_for("a ready gateway", lambda: http(f"{bot.gateway_url}/readyz", timeout=10).status == 200, 90, every=1)
    assert bot.inspect("proxy")["State"]["StartedAt"] == proxy
