"""Updates of the real bot: to an image that works, and to an OpenClaw that does not come up."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import broken_openclaw, pinned_openclaw
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
        run = _update(gateway_version=broken_openclaw.VERSION)
        assert run.returncode == 2
        assert "ended and was started again 5 times" in run.failures["e2e"]
        assert "again, with its state of before the update" in run.failures["e2e"]
        assert docker("exec", GATEWAY, "sh", "-c", f"cat $OPENCLAW_STATE_DIR/{broken_openclaw.NOTE}") == "older"
        assert docker("inspect", "--format", CONTAINER, GATEWAY) == before
        assert [path.read_text() for path in files] == texts
        assert http(f"{bot.gateway_url}/readyz").status == 200
    finally:
        docker("image", "rm", "--force", broken)


@pytest.fixture
def pinned(bot: Bot) -> Iterator[set[str]]:
    """Names of another image that works. Afterwards the bot has the one that other tests expect."""
    image = bot.inspect("gateway")["Config"]["Image"]
    # The machine may have base images of other checkouts: which one is this checkout's is in no name.
    bases = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "clawfactory-base").split()
    names = {pinned_openclaw.reference(base) for base in bases}
    docker("build", *(f"--tag={name}" for name in names), "-", text=pinned_openclaw.dockerfile(image))
    try:
        yield names
    finally:
        ansible_playbook("site.yml", INVENTORY, "--limit", "e2e").succeeded()
        docker("image", "rm", "--force", *names)
        assert bot.inspect("gateway")["Config"]["Image"] == image


def test_bot_gets_another_image_and_keeps_its_state(bot: Bot, pinned: set[str]) -> None:
    before = bot.inspect("gateway")
    written = bot.sh("cd ~/.openclaw/workspace && mkdir -p memory && echo remembered > memory/before-update.md")
    assert written.returncode == 0, written.stderr

    run = _update(
        gateway_image_source="pull",
        gateway_image_digest=pinned_openclaw.DIGEST,
        # So that OpenClaw is asked with both options; the other checks are still made.
        update_doctor_skip=["core/doctor/workspace-suggestions"],
    ).succeeded()

    after = bot.inspect("gateway")
    assert after["Config"]["Image"] in pinned
    assert after["Image"] != before["Image"]
    assert bot.sh("cat ~/.openclaw/workspace/memory/before-update.md").stdout == "remembered\n"
    assert http(f"{bot.gateway_url}/readyz").status == 200

    snapshot = _result(run, "Create | Snapshot")["snapshot"]
    assert snapshot["label"] == "before-update"
    assert list((bot.root / "snapshots" / "e2e").glob(f"*{snapshot['id']}*"))
    doctor = _result(run, "Check | OpenClaw's doctor")
    assert doctor["rc"] == 0, doctor
    assert json.loads(doctor["stdout"])["checksRun"] > 0
    assert _result(run, "Verify | Let it run a tool, and look from outside where that runs")["verified"]


def _update(**variables: object) -> PlaybookRun:
    return ansible_playbook("playbooks/update.yml", INVENTORY, "--limit", "e2e", "--extra-vars", json.dumps(variables))


def _result(run: PlaybookRun, task: str) -> dict[str, Any]:
    """Of the one task of that name that was not skipped."""
    (result,) = [result for _, name, result in run._results() if name.endswith(task) and not result.get("skipped")]
    return result
