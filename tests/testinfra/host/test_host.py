"""What role ``host`` makes of a bare Debian machine, and that it takes it away again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

from tests.support.playbooks import REPOSITORY, ansible_playbook

MACHINE = "clawfactory-test-host"
INVENTORY = REPOSITORY / "molecule" / "host" / "inventory" / "hosts.yml"
ROOT = "/srv/clawfactory"


@pytest.fixture(scope="module")
def machine() -> Host:
    return testinfra.get_host(f"docker://{MACHINE}")


def test_way_in_is_ssh_without_root() -> None:
    """Else this scenario would prove nothing about remote machines."""
    address = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "ssh", "address").read_text()
    assert address.count(".") == 3


def test_engine_runs_and_will_after_a_reboot(machine: Host) -> None:
    docker = machine.service("docker")
    assert docker.is_running
    assert docker.is_enabled


def test_engine_runs_a_container_of_the_base_image(machine: Host) -> None:
    image = machine.check_output("docker image ls --format '{{.Repository}}:{{.Tag}}' clawfactory-base")
    assert machine.check_output("docker run --rm --network none %s cat /etc/debian_version", image).startswith("13")


def test_venv_has_exactly_the_locked_libraries(machine: Host) -> None:
    locked = {
        line.split(" ")[0].lower()
        for line in (REPOSITORY / "requirements" / "target.lock").read_text().splitlines()
        if "==" in line and not line.startswith((" ", "#"))
    }
    listed = machine.check_output(f"{ROOT}/venv/bin/python -m pip list --format freeze").splitlines()
    assert {line.lower() for line in listed if not line.startswith(("pip==", "setuptools=="))} == locked


def test_venv_belongs_to_root_and_nobody_else_may_write(machine: Host) -> None:
    assert machine.check_output(f"find {ROOT}/venv ! -user root") == ""
    assert machine.check_output(f"find {ROOT}/venv ! -type l -perm /0022") == ""


def test_machine_is_healthy(machine: Host) -> None:
    assert machine.check_output("systemctl is-system-running") == "running"


def test_uninstall_takes_away_what_was_installed_and_keeps_the_engine(machine: Host) -> None:
    """Last, because nothing is left after it."""
    ansible_playbook("playbooks/host.yml", INVENTORY, "--extra-vars", "host_state=absent").succeeded()
    assert not machine.file(f"{ROOT}/venv").exists
    assert not machine.file("/etc/systemd/system/clawfactory-firewall.service").exists
    assert machine.run("nft list table inet clawfactory").rc != 0
    assert machine.service("docker").is_running
