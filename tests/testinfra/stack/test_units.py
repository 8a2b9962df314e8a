"""What runs on the machine beside the bots' containers, started by systemd."""

from __future__ import annotations

import pytest
from testinfra.host import Host

# CAP_DAC_READ_SEARCH alone: the watcher reads every bot's files and writes none.
READ_EVERYTHING = f"{1 << 2:016x}"
# CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID, SYS_CHROOT: jobs become the bot's or its controller's user, locked
# into what is theirs, and write for them.
BECOME_ANYBODY = f"{1 << 0 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 18:016x}"

# CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, KILL, NET_ADMIN, SYS_PTRACE: the guard finds and kills whatever is a
# bot's, cuts networks, and writes the engine's files.
KILL_ANYBODY = f"{1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 12 | 1 << 19:016x}"
OURS = ("clawfactory-disk-watch", "clawfactory-jobs", "clawfactory-killswitch")


def test_machine_has_no_failed_unit(machine: Host) -> None:
    assert machine.check_output("systemctl --failed --no-legend --plain") == ""
    assert machine.check_output("systemctl is-system-running") == "running"


@pytest.mark.parametrize("unit", ["docker", *OURS, "clawfactory-firewall"])
def test_unit_starts_at_boot(machine: Host, unit: str) -> None:
    assert machine.service(unit).is_enabled


@pytest.mark.parametrize("unit", ["docker", *OURS])
def test_service_runs_and_has_not_crashed(machine: Host, unit: str) -> None:
    service = machine.service(unit)
    assert service.is_running
    assert service.systemd_properties["NRestarts"] == "0"


def assert_confined(machine: Host, unit: str, capabilities: str) -> str:
    pid: str = machine.service(unit).systemd_properties["MainPID"]
    status = machine.file(f"/proc/{pid}/status").content_string
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {fields[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {capabilities}
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    return pid


def test_jobs_service_is_confined(machine: Host) -> None:
    pid = assert_confined(machine, "clawfactory-jobs", BECOME_ANYBODY)
    writable = machine.run("nsenter --target %s --mount touch /etc/probe", pid)
    assert "Read-only file system" in writable.stderr


def test_guard_of_the_kill_switch_is_confined(machine: Host) -> None:
    pid = assert_confined(machine, "clawfactory-killswitch", KILL_ANYBODY)
    writable = machine.run("nsenter --target %s --mount touch /etc/probe", pid)
    assert "Read-only file system" in writable.stderr


def test_disk_watcher_is_confined(machine: Host) -> None:
    pid = assert_confined(machine, "clawfactory-disk-watch", READ_EVERYTHING)
    assert machine.check_output("nsenter --target %s --net ip -brief address", pid).split()[0] == "lo"
    writable = machine.run("nsenter --target %s --mount touch /srv/clawfactory/probe", pid)
    assert "Read-only file system" in writable.stderr


def test_disk_watcher_says_nothing_while_all_is_well(machine: Host) -> None:
    run = machine.service("clawfactory-disk-watch").systemd_properties["InvocationID"]
    own = "journalctl _SYSTEMD_INVOCATION_ID=%s _TRANSPORT=stdout --output cat --no-pager --quiet"
    assert machine.check_output(own, run) == ""
