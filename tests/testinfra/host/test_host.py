"""What role ``host`` makes of a bare Debian machine, and that it takes it away again."""

from __future__ import annotations

import pytest
import testinfra
from packaging.requirements import Requirement
from testinfra.host import Host

from tests.support.playbooks import REPOSITORY, ansible_playbook

MACHINE = "clawfactory-test-host"
INVENTORY = REPOSITORY / "molecule" / "host" / "inventory" / "hosts.yml"
ROOT = "/srv/clawfactory"


@pytest.fixture(scope="module")
def machine() -> Host:
    return testinfra.get_host(f"docker://{MACHINE}")


def test_way_in_is_ssh_without_root(machine: Host) -> None:
    """Else this scenario would prove nothing about remote machines."""
    logins = machine.check_output(
        "journalctl --no-pager --quiet --output cat --identifier sshd-session --identifier sshd"
    )
    assert "Accepted publickey for admin from" in logins
    assert "for root" not in logins
    assert "docker" not in machine.user("admin").groups


def test_engine_runs_and_will_after_a_reboot(machine: Host) -> None:
    docker = machine.service("docker")
    assert docker.is_running
    assert docker.is_enabled


def test_engine_runs_a_container_of_the_base_image(machine: Host) -> None:
    image = machine.check_output("docker image ls --format '{{.Repository}}:{{.Tag}}' clawfactory-base")
    assert machine.check_output("docker run --rm --network none %s cat /etc/debian_version", image).startswith("13")


def test_venv_has_exactly_the_locked_libraries(machine: Host) -> None:
    lines = (REPOSITORY / "requirements" / "target.lock").read_text().splitlines()
    wanted = [Requirement(line.rstrip(" \\")) for line in lines if "==" in line and not line.startswith((" ", "#"))]
    # Some are for other systems only.
    locked = {f"{each.name}{each.specifier}".lower() for each in wanted if not each.marker or each.marker.evaluate()}
    listed = machine.check_output(f"{ROOT}/venv/bin/python -m pip list --format freeze").splitlines()
    assert {line.lower() for line in listed if not line.startswith(("pip==", "setuptools=="))} == locked


def test_venv_belongs_to_root_and_nobody_else_may_write(machine: Host) -> None:
    assert machine.check_output(f"find {ROOT}/venv ! -user root") == ""
    assert machine.check_output(f"find {ROOT}/venv ! -type l -perm /0022") == ""


def test_machine_is_healthy(machine: Host) -> None:
    assert machine.check_output("systemctl is-system-running") == "running"


def test_uninstall_takes_away_what_was_installed_and_keeps_the_engine(machine: Host) -> None:
    """Last, because nothing is left after it."""
    absent = ("playbooks/host.yml", INVENTORY, "--extra-vars", "host_state=absent")
    assert ansible_playbook(*absent).succeeded().changed != []
    assert ansible_playbook(*absent).succeeded().changed == []
    assert not machine.file(f"{ROOT}/venv").exists
    assert machine.check_output("find /etc/systemd -name 'clawfactory*'") == ""
    assert machine.run("pgrep -f '[c]lawfactory-(disk-watch|jobs|killswitch)'").rc == 1
    assert not machine.file("/usr/local/sbin/clawfactory-killswitch").exists
    assert machine.run("nft list table inet clawfactory").rc != 0
    assert machine.service("docker").is_running
