"""The bot of the end-to-end tests: deployed by ``site.yml`` on this machine's engine, with a model next door."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.bots import Bot
from tests.support.chromium import chromium, is_complaint
from tests.support.lan_host import LAN_IPV4, LanHost
from tests.support.playbooks import REPOSITORY, ansible_playbook
from tests.support.polling import wait_for

INVENTORY = Path(__file__).resolve().parent / "inventory" / "hosts.yml"
ROOT = Path("/srv/clawfactory")
MODEL_PORT, FORBIDDEN_PORT = 8000, 8001
MODEL_KEY = "only-the-stand-in-takes-this-one"


@pytest.fixture(scope="session", autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.exit("the end-to-end tests make network namespaces and read the bot's tokens: run them as root", 2)


@pytest.fixture(scope="session")
def lan() -> Iterator[LanHost]:
    """A computer in the machine's neighbourhood: the model on one port, and a service that nobody allowed."""
    with LanHost() as host:
        model = str(REPOSITORY / "tests" / "support" / "model_server.py")
        for port, key in ((MODEL_PORT, MODEL_KEY), (FORBIDDEN_PORT, "another")):
            host.start([sys.executable, model, "--listen", LAN_IPV4, "--port", str(port)], {"STANDIN_API_KEY": key})
            wait_for(f"an answer at port {port}", partial(_answers, host, port), 20)
        yield host


def _answers(host: LanHost, port: int) -> bool:
    return host.run(["curl", "--silent", "--fail", f"http://{LAN_IPV4}:{port}/health"]).returncode == 0


@pytest.fixture(scope="session")
def bot(lan: LanHost) -> Iterator[Bot]:
    """e2e, deployed by the command of the README. ``CLAWFACTORY_KEEP=1`` leaves it running, for a look at it."""
    command = [str(REPOSITORY / "clawfactory"), "up", "e2e", "-i", str(INVENTORY)]
    up = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert up.returncode == 0, up.stdout + up.stderr
    image = ["docker", "inspect", "--format", "{{.Config.Image}}", "clawfactory-e2e-gateway"]
    found = subprocess.run(image, check=True, capture_output=True, text=True).stdout.strip()
    # For tests/images, which come when this bot is gone.
    subprocess.run(["docker", "tag", found, "clawfactory-test/gateway:latest"], check=True)
    slot = json.loads((ROOT / "allocations.json").read_text())["bots"]["e2e"]
    bot = Bot("e2e", ROOT, slot["gateway_port"], slot["controller_port"], 20001 + slot["slot"])
    for said in (f"{bot.gateway_url}/#token=", f"{bot.controller_url}/", "secrets/tokens.env"):
        assert said in up.stdout, up.stdout
    assert bot.token not in up.stdout + up.stderr
    yield bot
    if not os.environ.get("CLAWFACTORY_KEEP"):
        purge = ("--extra-vars", "remove_purge=true remove_confirm=e2e")
        ansible_playbook("playbooks/remove.yml", INVENTORY, "--limit", "e2e", *purge).succeeded()


@pytest.fixture(scope="module")
def operator(bot: Bot) -> dict[str, str]:
    """Headers by which the controller knows the operator."""
    return {"authorization": f"Bearer {bot.secret('controller.env', 'CONTROLLER_TOKEN')}"}


@pytest.fixture(scope="module")
def page(bot: Bot) -> Iterator[Page]:
    """An operator who has logged in by the form. What the browser complains about fails the test."""
    complaints: list[str] = []
    with chromium() as browser:
        context = browser.new_context(base_url=bot.controller_url)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if is_complaint(said, restarts=True) else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto("/")
        page.get_by_label("Controller token").fill(bot.secret("controller.env", "CONTROLLER_TOKEN"))
        page.get_by_role("button", name="Log in").click()
        # A bot that was restarted a moment ago has a page, too; it asks again by itself.
        expect(page.get_by_role("heading", level=1)).to_have_text(f"{bot.name} is running", timeout=120_000)
        yield page
        context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def second(bot: Bot) -> Iterator[Bot]:
    """A second bot on the same engine whose sessions each have a sandbox and a workspace of their own."""
    try:
        ansible_playbook("site.yml", INVENTORY, "--limit", "e2e-sessions").succeeded()
        slot = json.loads((ROOT / "allocations.json").read_text())["bots"]["e2e-sessions"]
        yield Bot("e2e-sessions", ROOT, slot["gateway_port"], slot["controller_port"], 20001 + slot["slot"])
    finally:
        purge = ("--extra-vars", "remove_purge=true remove_confirm=e2e-sessions")
        ansible_playbook("playbooks/remove.yml", INVENTORY, "--limit", "e2e-sessions", *purge).succeeded()


@pytest.fixture(autouse=True)
def _logs_on_failure(request: pytest.FixtureRequest) -> Iterator[None]:
    """Show what the bot's containers said last when a test fails."""
    before = request.session.testsfailed
    yield
    if request.session.testsfailed > before:
        for part in ("gateway", "broker", "egress", "proxy", "controller"):
            sys.stdout.write(f"--- clawfactory-e2e-{part}\n")
            subprocess.run(["docker", "logs", "--tail", "20", f"clawfactory-e2e-{part}"], check=False)
