"""What the operator does to a running bot: a configuration that OpenClaw refuses."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests.support.bots import Bot
from tests.support.playbooks import ansible_playbook

from .conftest import INVENTORY


def configuration(bot: Bot) -> str:
    path = bot.root / "bot_repos" / bot.name / "config" / "openclaw.json"
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("mode", [[], ["--check", "--diff"]], ids=["run", "check"])
def test_configuration_that_openclaw_refuses_changes_nothing(bot: Bot, mode: list[str]) -> None:
    before, container = configuration(bot), bot.inspect("gateway")
    bad = json.dumps({"gateway_config": {"gateway": {"controlUi": {"enabled": "perhaps"}}}})
    run = ansible_playbook("site.yml", INVENTORY, "--limit", "e2e", "--extra-vars", bad, *mode)
    assert run.returncode == 2
    message = run.failures["e2e"]
    assert "gateway.controlUi.enabled" in message, message
    assert "e2e" in message, message
    assert "gateway_config" in message, message
    assert configuration(bot) == before
    after = bot.inspect("gateway")
    assert (after["Id"], after["State"]["StartedAt"]) == (container["Id"], container["State"]["StartedAt"])
    assert "still here" in bot.chat("still here")
