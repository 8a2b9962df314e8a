"""The execution environment: built from its definition, it runs playbooks against a machine that it reaches by SSH."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import ssh_server
from tests.support.polling import wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGE = "clawfactory-test/execution:latest"
#: The image's own user (ansible-builder).
UID = 1000
BOT = "awx"

pytestmark = pytest.mark.integration
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Built upon the base that the other images here have, as whoever has no registry does it."""
    bases = subprocess.run(
        ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "clawfactory-base"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert bases, "this engine has no base image: stage broker makes it; run ./clawfactory test broker images"
    context = tmp_path_factory.mktemp("context")
    program = Path(sys.executable).with_name("ansible-builder")
    definition = REPOSITORY / "execution-environment.yml"
    command = [program, "create", "--output-filename", "Dockerfile", "--context", context, "--file", definition]
    subprocess.run(command, check=True, capture_output=True)
    base = ["--build-arg", f"EE_BASE_IMAGE={bases[0]}"]
    built = subprocess.run(
        ["docker", "build", "--network", "host", *base, "--tag", IMAGE, str(context)], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-1000:]
    return IMAGE


@pytest.fixture
def run(image: str, tmp_path: Path) -> Iterator[Run]:
    """Runs a playbook of this checkout, mounted read-only, in the environment; the machine is this one, by SSH."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    directory = tmp_path / "sshd"
    directory.mkdir()
    server = ssh_server.configure(directory, "127.0.0.1", port)
    settings = (directory / "config").read_text().replace("forced-commands-only", "prohibit-password")
    (directory / "config").write_text(settings)
    (directory / "authorized_keys").write_bytes((directory / "client.pub").read_bytes())
    given = tmp_path / "given"
    given.mkdir()
    (given / "key").write_text(server.private)
    (given / "known_hosts").write_text(f"[127.0.0.1]:{port} {server.host_key}\n")
    machine = {
        "ansible_host": "127.0.0.1", "ansible_port": port, "ansible_user": "root",
        "ansible_ssh_private_key_file": "/given/key",
        "ansible_ssh_common_args": "-o UserKnownHostsFile=/given/known_hosts",
    }  # fmt: skip
    (given / "hosts.json").write_text(json.dumps({"bots": {"hosts": {BOT: machine}}}))
    for path in (given, *given.iterdir()):
        os.chown(path, UID, UID)
        path.chmod(0o700 if path.is_dir() else 0o600)
    sshd = subprocess.Popen(ssh_server.command(server))

    def run(playbook: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        mounts = ["--volume", f"{REPOSITORY}:/runner/project:ro", "--volume", f"{given}:/given:ro"]
        inside = ["ansible-playbook", "-i", "/given/hosts.json", playbook, *arguments]
        return subprocess.run(
            ["docker", "run", "--rm", "--network", "host", *mounts, "--workdir", "/runner/project", image, *inside],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    try:
        wait_for("the SSH server", lambda: ssh_server.answers(port), 20)
        yield run
    finally:
        sshd.terminate()
        sshd.wait(timeout=10)


def test_status_of_a_machine_reached_by_ssh(run: Run) -> None:
    done = run("playbooks/status.yml")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-1000:]
    assert re.search(rf"- {BOT} +absent", done.stdout), done.stdout


def test_site_in_check_mode_says_what_would_be_made_and_makes_nothing(run: Run) -> None:
    done = run("site.yml", "--check", "--diff", "-l", BOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert re.search(rf"{BOT} +: ok=\d+ +changed=[1-9]", done.stdout)
    names = subprocess.run(["docker", "ps", "-a", "--format", "{{.Names}}"], capture_output=True, text=True, check=True)
    assert f"clawfactory-{BOT}-" not in names.stdout
    assert not Path(f"/srv/clawfactory/bot_repos/{BOT}").exists()


def test_runners_of_awx_and_navigator_start_in_it(image: str) -> None:
    done = subprocess.run(
        ["docker", "run", "--rm", image, "ansible-runner", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0 and re.fullmatch(r"\d+(\.\d+)+", done.stdout.strip()), done.stdout + done.stderr


def test_the_environment_has_what_was_locked_and_no_more(image: str) -> None:
    listed = subprocess.run(
        ["docker", "run", "--rm", image, "/opt/ansible/bin/pip", "list", "--format", "freeze"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    lock = (REPOSITORY / "requirements" / "execution.lock").read_text()
    lines = [line for line in lock.splitlines() if re.match(r"[a-z0-9].*==", line) and "win32" not in line]
    locked = {line.split()[0].split(";")[0] for line in lines}
    normal = {re.sub(r"[-_.]+", "-", line).lower() for line in listed if not line.startswith(("pip==", "setuptools=="))}
    assert normal == {re.sub(r"[-_.]+", "-", line).lower() for line in locked}
