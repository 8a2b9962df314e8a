"""The gateway's start command with a stand-in for OpenClaw: what runs beside it, and what that is given."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.agent_api import TOKEN
from tests.support.polling import wait_for

from .conftest import IMAGE

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="lays directories over /opt and /run in a namespace")

OPENCLAW = """
import { writeFileSync } from "node:fs";
writeFileSync(`${process.env.HOME}/openclaw.json`, JSON.stringify({ pid: process.pid, args: process.argv.slice(2) }));
setInterval(() => {}, 1000);
"""
#: As a container: its own processes and root, with the image's files and the secrets where they are there.
CONTAINER = """set -eu
mount -t tmpfs none /opt && mount -t tmpfs none /run && mkdir /run/secrets
cp -r "$1" /opt/clawfactory && cp -r "$2" /opt/openclaw && cp "$3" /run/secrets/gateway.env
exec /opt/clawfactory/bin/gateway-start
"""


@pytest.fixture
def start(gateway, tmp_path):
    """Starts the command; returns what the stand-in wrote."""
    program = tmp_path / "openclaw" / "node_modules" / "openclaw"
    program.mkdir(parents=True)
    (program / "openclaw.mjs").write_text(OPENCLAW)
    (tmp_path / "gateway.env").write_text(f"OPENCLAW_GATEWAY_TOKEN=x\nCLAWFACTORY_AGENT_TOKEN={TOKEN}\n")
    started = []

    def run() -> dict[str, object]:
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", CONTAINER, "sh"]
        environment = gateway.environment(CLAWFACTORY_RECORD_PLUGINS="no")
        environment["PATH"] = f"{Path(shutil.which('node')).parent}:{environment['PATH']}"
        arguments = [str(IMAGE), str(tmp_path / "openclaw"), str(tmp_path / "gateway.env")]
        started.append(subprocess.Popen([*command, *arguments], env=environment))
        told = gateway.home / "openclaw.json"
        return json.loads(wait_for("OpenClaw", lambda: told.exists() and told.read_text(), 30))

    yield run
    for process in started:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)


def test_openclaw_runs_and_proposals_are_carried_beside_it(gateway, start):
    told = start()
    assert told["pid"] == 1, "OpenClaw did not take the place of the start command"
    assert told["args"] == ["gateway", "--bind", "lan", "--port", "18789"]
    wait_for("the forwarder", (gateway.proposals / "status.json").exists, 30)
