"""An update to an OpenClaw that does not come up, on the real bot: image and state of before are back."""

from __future__ import annotations

import subprocess

from tests.support import broken_openclaw
from tests.support.bots import Bot, http
from tests.support.playbooks import PlaybookRun, ansible_playbook

from .conftest import INVENTORY

GATEWAY = "clawfactory-e2e-gateway"
CONTAINER = '{{.Image}} {{index .Config.Labels "clawfactory.spec"}}'


def docker(*arguments: str, text: str = "") -> str:
    command = ["docker", *arguments]
    return subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout.strip()


def test_bot_has_image_and_state_of_before_back(bot: Bot) -> None:
    image = docker("inspect", "--format", "{{.Config.Image}}", GATEWAY)
    broken = broken_openclaw.reference(image)
    before = docker("inspect", "--format", CONTAINER, GATEWAY)
    files = [
        bot.root / "promotion" / "e2e" / "gateway.json",
        bot.root / "bot_repos" / "e2e" / "config" / "openclaw.json",
    ]
    texts = [path.read_text() for path in files]
    docker("exec", GATEWAY, "sh", "-c", f"echo older > $OPENCLAW_STATE_DIR/{broken_openclaw.NOTE}")
    docker("build", "--tag", broken, "-", text=broken_openclaw.dockerfile(image))
    try:
        run = _update(broken_openclaw.VERSION)
        assert "ended and was started again 5 times" in run.failures["e2e"]
        assert "again, with its state of before the update" in run.failures["e2e"]
        assert docker("exec", GATEWAY, "sh", "-c", f"cat $OPENCLAW_STATE_DIR/{broken_openclaw.NOTE}") == "older"
        assert docker("inspect", "--format", CONTAINER, GATEWAY) == before
        assert [path.read_text() for path in files] == texts
        assert http(f"{bot.gateway_url}/readyz").status == 200
    finally:
        docker("image", "rm", "--force", broken)


def _update(version: str) -> PlaybookRun:
    run = ansible_playbook(
        "playbooks/update.yml", INVENTORY, "--limit", "e2e", "--extra-vars", f"gateway_version={version}"
    )
    assert run.returncode == 2
    return run
