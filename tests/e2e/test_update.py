"""An update to an OpenClaw that does not come up, on the real bot: image and state of before are back."""

from __future__ import annotations

import subprocess

from tests.support.bots import Bot, http
from tests.support.playbooks import PlaybookRun, ansible_playbook

from .conftest import INVENTORY

GATEWAY = "clawfactory-e2e-gateway"
CONTAINER = '{{.Image}} {{index .Config.Labels "clawfactory.spec"}}'
NEXT = "2099.1.1"
PACKAGE = "/opt/openclaw/node_modules/openclaw/package.json"
# It changes the state as a new version may, and ends.
BROKEN = """FROM {image}
USER root
RUN sed -i '0,/"version": *"[^"]*"/s//"version": "{version}"/' {package} \\
 && start=/opt/clawfactory/bin/gateway-start \\
 && printf '#!/bin/sh\\necho newer > $OPENCLAW_STATE_DIR/workspace/kept.md\\nexit 1\\n' > $start
"""


def docker(*arguments: str, text: str = "") -> str:
    command = ["docker", *arguments]
    return subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout.strip()


def test_bot_has_image_and_state_of_before_back(bot: Bot) -> None:
    image = docker("inspect", "--format", "{{.Config.Image}}", GATEWAY)
    name, _, tag = image.rpartition(":")
    broken = f"{name}:{NEXT}-{tag.rpartition('-')[2]}"
    before = docker("inspect", "--format", CONTAINER, GATEWAY)
    files = [
        bot.root / "promotion" / "e2e" / "gateway.json",
        bot.root / "bot_repos" / "e2e" / "config" / "openclaw.json",
    ]
    texts = [path.read_text() for path in files]
    docker("exec", GATEWAY, "sh", "-c", "echo older > $OPENCLAW_STATE_DIR/workspace/kept.md")
    docker("build", "--tag", broken, "-", text=BROKEN.format(image=image, version=NEXT, package=PACKAGE))
    try:
        run = _update(NEXT)
        assert "ended and was started again 5 times" in run.failures["e2e"]
        assert "again, with its state of before the update" in run.failures["e2e"]
        assert docker("exec", GATEWAY, "sh", "-c", "cat $OPENCLAW_STATE_DIR/workspace/kept.md") == "older"
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
