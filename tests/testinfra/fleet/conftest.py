"""The machines of scenario ``fleet``, reached by SSH, with two bots each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import testinfra
from testinfra.host import Host

from tests.support.playbooks import REPOSITORY, PlaybookRun, ansible_playbook

INVENTORY = REPOSITORY / "molecule" / "fleet" / "inventory" / "hosts.yml"
BOTS = {"north": ("north1", "north2"), "south": ("south1", "south2")}
PARTS = {"gateway", "proxy", "controller", "broker", "egress"}

Play = Callable[..., PlaybookRun]


def machine(name: str) -> Host:
    """What is seen on a machine itself, not by way of SSH."""
    return testinfra.get_host(f"docker://clawfactory-test-{name}")


@pytest.fixture(scope="session")
def play() -> Play:
    """Run a playbook against the fleet, as the operator would."""

    def run(playbook: str, *arguments: str) -> PlaybookRun:
        return ansible_playbook(playbook, INVENTORY, *arguments)

    return run


def machine_of(bot: str) -> str:
    """Where the inventory has a bot."""
    return next(name for name, bots in BOTS.items() if bot in bots)


def running(bot: str, name: str = "") -> set[str]:
    """Parts of a bot whose containers run, on the machine that it is on or on the one that is named."""
    host = machine(name or machine_of(bot))
    listing = host.check_output("docker ps --filter label=clawfactory.bot=%s --format '{{json .Names}}'", bot)
    return {json.loads(line).removeprefix(f"clawfactory-{bot}-") for line in listing.splitlines()}


@contextmanager
def cut_off(name: str) -> Iterator[None]:
    """A machine that nothing reaches any more, with everything on it going on: packets are dropped, not refused."""
    host = machine(name)
    host.check_output(
        "nft 'add table inet partition; add chain inet partition in { type filter hook input priority -300; }; "
        'add rule inet partition in iifname "eth0" drop\''
    )
    try:
        yield
    finally:
        host.check_output("nft delete table inet partition")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add what the machines' containers are to a failure."""
    if report.failed and report.when == "call":
        for name in BOTS:
            report.sections.append((name, machine(name).run("docker ps -a; journalctl -n 20 --no-pager").stdout))
