"""The machine of scenario ``stack``, with bot1 and bot2 on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

from tests.support.playbooks import REPOSITORY, PlaybookRun, ansible_playbook

MACHINE = "clawfactory-test-stack"
INVENTORY = REPOSITORY / "molecule" / "stack" / "inventory" / "hosts.yml"
BOTS = ("bot1", "bot2")
PARTS = ("gateway", "proxy", "controller", "broker", "egress")
ROOT = Path("/srv/clawfactory")

Inspect = Callable[[str, str], dict[str, Any]]
Play = Callable[..., PlaybookRun]


@pytest.fixture(scope="session")
def machine() -> Host:
    return testinfra.get_host(f"docker://{MACHINE}")


@pytest.fixture(scope="session")
def inspect(machine: Host) -> Inspect:
    """What the machine's engine says about a bot's container."""

    def run(bot: str, part: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(machine.check_output("docker inspect clawfactory-%s-%s", bot, part))
        return found[0]

    return run


@pytest.fixture(scope="session")
def play() -> Play:
    """Run a playbook against the machine, as the operator would."""

    def run(playbook: str, *arguments: str) -> PlaybookRun:
        return ansible_playbook(playbook, INVENTORY, *arguments)

    return run


def of_processes(machine: Host, bot: str, part: str, command: str) -> str:
    """What a shell command prints for each process ``$pid`` of a container; one that has just ended prints nothing."""
    each = f"for pid in $(docker top clawfactory-{bot}-{part} -eo pid | tail -n +2); do {command}; done"
    text: str = machine.run(f"{{ {each}; }} 2>/dev/null").stdout
    return text.strip()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Look first, then change: what stops and removes bots comes after everything that wants them running."""
    order = ("test_bad_input", "test_lifecycle", "test_killswitch", "test_removal")

    def late(item: pytest.Item) -> int:
        name = item.path.stem
        return order.index(name) + 1 if name in order else 0

    items.sort(key=late)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add what the bots' containers and the machine's journal said last to a failure."""
    if report.failed and report.when == "call":
        host = testinfra.get_host(f"docker://{MACHINE}")
        logs = "for c in $(docker ps -aq); do docker logs --tail 8 $c 2>&1; done"
        script = f"docker ps -a; {logs}; journalctl -n 20 --no-pager"
        report.sections.append(("machine", host.run(script).stdout))
