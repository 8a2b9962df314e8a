#!/usr/bin/env python3
"""Machines for tests: containers with systemd as PID 1 that run a Docker engine of their own.

``--privileged`` asks for every capability the kernel knows and fails where the host itself lacks one, so the
capabilities are listed: all that Docker 20.10 can name and this process has. A volume carries ``/var/lib/docker``,
because overlay2 does not stack on overlay2.

Usage: ``machines.py create NAME [--ssh DIRECTORY]`` | ``destroy NAME`` | ``load NAME IMAGE …`` |
``fingerprint NAME FILE`` | ``compare NAME FILE`` (exit status 1 if the machine has changed since that fingerprint was
taken)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LABEL = "clawfactory.test-machine"
IMAGE = "clawfactory-test/machine"
BASE = "clawfactory-base"
CONTEXT = Path(__file__).resolve().parent / "testhost"
BOOT_SECONDS = 90
SSH_USER = "admin"
# In the order of their numbers (linux/capability.h).
_CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
)  # fmt: skip
# A machine for tests must not load modules into, reset the clock of, or reboot what it runs on.
_NEVER = {"SYS_MODULE", "SYS_TIME", "SYS_RAWIO"}


# With the host's cgroups in sight an engine puts its containers beside the machine, where the kill switch of the host's
# own bots finds users of bots in containers that nobody knows, and kills them. These belong to the machine: below it.
_CONTAIN_ENGINE = """
import json, pathlib
# Some hierarchies may not be in use: there everything is at the top.
paths = {line.split(":", 2)[2].strip().removesuffix("/init.scope") for line in pathlib.Path("/proc/1/cgroup").open()}
(machine,) = paths - {"/"}
pathlib.Path("/etc/docker").mkdir(exist_ok=True)
pathlib.Path("/etc/docker/daemon.json").write_text(json.dumps({"cgroup-parent": f"{machine}/engine"}))
"""


class MachineError(Exception):
    """A machine could not be made; the text has what the engine or systemd said."""


def docker(*arguments: str, timeout: float = 600, check: bool = True) -> str:
    """Run the Docker client and return what it printed.

    :raises MachineError: it failed.
    """
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode != 0:
        raise MachineError(f"docker {' '.join(arguments[:3])}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def capabilities(status: Path = Path("/proc/1/status")) -> list[str]:
    """The capabilities a machine gets: those the engine's host has itself, without the dangerous ones."""
    line = next(line for line in status.read_text().splitlines() if line.startswith("CapBnd:"))
    bounding = int(line.split()[1], 16)
    return [name for bit, name in enumerate(_CAPABILITIES) if bounding >> bit & 1 and name not in _NEVER]


def init_arguments() -> list[str]:
    """Arguments for systemd, which in a container stand in for the kernel's command line.

    From version 256 on it refuses the legacy cgroup hierarchy unless told so here.
    """
    if docker("info", "--format", "{{.CgroupVersion}}") == "2":
        return []
    return ["systemd.unified_cgroup_hierarchy=0", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"]


def build() -> None:
    """Build the machines' image on the newest base image that role ``host`` made on this engine.

    :raises MachineError: there is no base image.
    """
    bases = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", BASE).splitlines()
    if not bases:
        raise MachineError(f"this engine has no image {BASE}; run: ansible-playbook playbooks/host.yml")
    docker("build", "--quiet", "--tag", IMAGE, "--build-arg", f"BASE_IMAGE={bases[0]}", str(CONTEXT), timeout=900)


def create(name: str, image: str = IMAGE) -> None:
    """Make and boot a machine; returns when systemd has finished starting it.

    :param image: what it is made from.
    :raises MachineError: it does not come up; the message has the failed units.
    """
    capability_options = [option for each in capabilities() for option in ("--cap-add", each)]
    docker(
        "run", "--detach", "--name", name, "--hostname", name, "--label", LABEL,
        "--cap-drop", "ALL", *capability_options,
        "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
        "--security-opt", "systempaths=unconfined", "--device-cgroup-rule", "a *:* rwm",
        "--cgroupns", "host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup",
        "--tmpfs", "/run:exec,mode=755", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec,mode=1777",
        "--sysctl", "net.ipv6.conf.all.disable_ipv6=0",
        "--env", "container=docker", image, *init_arguments(),
    )  # fmt: skip
    wait_until_up(name)
    docker("exec", name, "python3", "-c", _CONTAIN_ENGINE)


def wait_until_up(name: str) -> None:
    """Wait until systemd has started everything on a machine.

    :raises MachineError: it does not come up, or not with everything; the message has the failed units.
    """
    deadline = time.monotonic() + BOOT_SECONDS
    state = ""
    while time.monotonic() < deadline:
        state = docker("exec", name, "systemctl", "is-system-running", check=False)
        if state == "running":
            return
        time.sleep(0.2)
    failed = docker("exec", name, "systemctl", "--failed", "--no-legend", check=False)
    raise MachineError(f"{name} is {state or 'dead'} after {BOOT_SECONDS} s; failed units: {failed or 'none'}")


def destroy(name: str) -> None:
    """Remove a machine and its volume; no error if there is none."""
    found = docker("ps", "--all", "--quiet", "--filter", f"name=^{name}$", "--filter", f"label={LABEL}")
    if found:
        docker("rm", "--force", "--volumes", name)


def open_ssh(name: str, directory: Path) -> None:
    """Let the control node in by SSH, as an unprivileged user with sudo, and write down the machine's keys.

    :param directory: gets ``key``, ``known_hosts`` and ``address``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    key = directory / "key"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    home = f"/home/{SSH_USER}/.ssh"
    script = (
        f"useradd --create-home --shell /bin/bash {SSH_USER}"
        f" && echo '{SSH_USER} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/{SSH_USER}"
        f" && install -d -o {SSH_USER} -m 0700 {home}"
        f" && echo '{key.with_suffix('.pub').read_text().strip()}' > {home}/authorized_keys"
    )
    docker("exec", name, "sh", "-c", script)
    address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", name)
    # Of every type, as ssh-keyscan prints them: not every client asks for the same one.
    host_keys = docker("exec", name, "sh", "-c", "cat /etc/ssh/ssh_host_*_key.pub").splitlines()
    (directory / "address").write_text(address)
    (directory / "known_hosts").write_text("".join(f"{address} {key}\n" for key in host_keys))


def load(name: str, wanted: list[str]) -> list[str]:
    """Copy those of the wanted images that this engine has into a machine's engine; the machine builds the others.

    Their tags are digests of what they are built from, so a present one is the right one. One stream for all, so that
    shared layers go once.

    :param wanted: references of images.
    :returns: the images that were copied.
    :raises MachineError: an engine refused.
    """
    present = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
    images = sorted({*wanted} & {*present})
    if images:
        with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as save:
            loaded = subprocess.run(["docker", "exec", "-i", name, "docker", "load", "--quiet"], stdin=save.stdout)
        if save.returncode or loaded.returncode:
            raise MachineError(f"copying {' '.join(images)}: save {save.returncode}, load {loaded.returncode}")
    return images


def fingerprint(name: str) -> dict[str, Any]:
    """Files, engine objects and firewall of a machine, see ``fingerprint.py``."""
    program = (Path(__file__).resolve().parent / "fingerprint.py").read_bytes()
    done = subprocess.run(
        ["docker", "exec", "-i", name, "python3", "-"], input=program, capture_output=True, check=True
    )
    taken: dict[str, Any] = json.loads(done.stdout)
    return taken


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What two fingerprints do not share, one line each."""
    found = []
    for part in before:
        old, new = before[part], after[part]
        keys = sorted({*old, *new})
        if isinstance(old, dict):
            found += [
                f"{part}: {key}: {old.get(key)} -> {new.get(key)}" for key in keys if old.get(key) != new.get(key)
            ]
        else:
            found += [f"{part}: {'-' if key in old else '+'} {key}" for key in keys if (key in old) != (key in new)]
    return found


def say(lines: list[str]) -> None:
    """Write lines to standard output."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def main() -> int:
    """Command line; the exit status is 1 if the engine refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for verb in ("create", "destroy", "load"):
        commands.add_parser(verb).add_argument("name")
    commands.choices["load"].add_argument("images", nargs="*", metavar="IMAGE")
    commands.choices["create"].add_argument("--ssh", type=Path, metavar="DIRECTORY", help="where the way in is written")
    for verb in ("fingerprint", "compare"):
        commands.add_parser(verb).add_argument("name")
        commands.choices[verb].add_argument("file", type=Path)
    options = parser.parse_args()
    try:
        if options.command == "create":
            build()
            create(options.name)
            if options.ssh:
                open_ssh(options.name, options.ssh)
        elif options.command == "destroy":
            destroy(options.name)
        elif options.command == "load":
            say(load(options.name, options.images))
        elif options.command == "fingerprint":
            options.file.write_text(json.dumps(fingerprint(options.name)))
        else:
            changed = differences(json.loads(options.file.read_text()), fingerprint(options.name))
            say(changed)
            return bool(changed)
    except MachineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
