"""A machine that is reached through another one, as a user whose sudo asks for a password."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import BOTS, Play, machine

USER = "deputy"
ADDRESSES = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
JUMP, TARGET = (ADDRESSES / f"clawfactory-test-{name}" for name in ("north", "south"))
# Of ssh's own configuration the hop takes all; what stands on the command line is the target's alone.
CONFIG = f"""Host jump
  HostName {(JUMP / "address").read_text()}
  IdentityFile {JUMP / "key"}
  UserKnownHostsFile {JUMP / "known_hosts"}
"""


@pytest.fixture(scope="module")
def password() -> str:
    return secrets.token_urlsafe(12)


@pytest.fixture(scope="module")
def way(password: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Arguments of an ``ansible-playbook`` that goes so, with the password in a vault."""
    host = machine("south")
    host.check_output(
        f"{{ id {USER} || useradd --create-home --shell /bin/bash {USER}; }} && echo {USER}:{password} | chpasswd"
        f" && echo '{USER} ALL=(ALL) ALL' > /etc/sudoers.d/{USER} && cp -a /home/admin/.ssh /home/{USER}/"
        f" && chown -R {USER}: /home/{USER}/.ssh"
    )
    folder = tmp_path_factory.mktemp("inventory")
    variables = folder / "group_vars" / "south"
    variables.mkdir(parents=True)
    (folder / "ssh.conf").write_text(CONFIG)
    (folder / "vault-password").write_text(secrets.token_urlsafe(12))
    (folder / "hosts.json").write_text(json.dumps({"bots": {"children": {"south": {}}}}))
    # Connections that are open already, and go the direct way, are not used with these.
    arguments = f"-F {folder / 'ssh.conf'} -o ProxyJump=admin@jump"
    (variables / "main.yml").write_text(
        json.dumps(
            {"ansible_user": USER, "ansible_ssh_args": arguments, "ansible_become_password": "{{ vault_password }}"}
        )
    )
    vault = variables / "vault.yml"
    vault.write_text(json.dumps({"vault_password": password}))
    key = ("--vault-password-file", str(folder / "vault-password"))
    program = Path(sys.executable).with_name("ansible-vault")
    subprocess.run([str(program), "encrypt", *key, str(vault)], check=True, capture_output=True)
    return ("--inventory", str(folder / "hosts.json"), *key, "--limit", "south")


def test_machine_is_deployed_and_read_that_way(play: Play, way: tuple[str, ...], password: str) -> None:
    assert machine("south").run(f"runuser -u {USER} -- sudo -n true").rc != 0
    runs = [play(playbook, *way).succeeded() for playbook in ("site.yml", "playbooks/snapshot.yml")]
    # A test before has let the bots reach a host more than the inventory says.
    for bot in BOTS["south"]:
        rules = machine("south").check_output(f"docker exec clawfactory-{bot}-egress cat /etc/clawfactory/squid.conf")
        assert "partition.example.org" not in rules
    assert all(password not in json.dumps(run.report) + run.stderr for run in runs)
    logins = machine("south").check_output("journalctl --no-pager --quiet --output cat --identifier sshd-session")
    assert f"Accepted publickey for {USER} from {(JUMP / 'address').read_text()} " in logins


def test_missing_password_is_said_of_the_bots(play: Play, way: tuple[str, ...]) -> None:
    run = play("playbooks/status.yml", *way, "--extra-vars", "ansible_become_password=")
    assert run.returncode != 0
    assert "Missing sudo password" in json.dumps(run.report)
