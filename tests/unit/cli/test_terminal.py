"""Every command in a real pseudo-terminal, with recorders in place of Ansible's programs where nothing else is said."""

from __future__ import annotations

import json
import signal
import subprocess
from unittest import mock

import pexpect
import pytest
from typer.main import get_command

from clawfactory_cli.app import app
from tests.support.ssh_server import make_key, ssh_server
from tests.support.terminal import finish, plain

FACTS = [
    {
        "bot": "bot1", "state": "healthy", "version": "2026.9.6", "approved": "ab" * 20, "restarts": 0, "sandboxes": 0,
        "gateway_url": "http://127.0.0.1:18789/", "controller_url": "http://127.0.0.1:8080/", "lock": "",
    },
    {"bot": "bot2", "state": "locked", "lock": "by me"},
]  # fmt: skip
THERE = json.dumps(
    {
        "stats": {"bot1": {"unreachable": 0, "failures": 0, "changed": 0}},
        "plays": [{"tasks": [{"hosts": {"bot1": {
            "action": "ansible.builtin.command", "rc": 0,
            "stdout": '{"time": "t", "event": "lock", "actor": "me", "checksRun": 3, "findings": []}',
        }}}]}],
    }
)  # fmt: skip
#: Command line -> playbook that it runs, or what is on the screen.
COMMANDS = {
    "up": "site.yml", "start bot1": "start", "stop": "stop", "restart": "restart", "lock --reason x": "lockdown",
    "unlock": "unlock", "update --canary 1": "update", "remove bot1": "remove", "proposals": "proposals",
    "promote": "promote", "rollback": "rollback", "status": "status", "info": "status", "controller": "status",
    "doctor": "status", "snapshot create": "snapshot", "snapshot list": "snapshots", "snapshot verify": "snapshots",
    "snapshot restore": "restore", "snapshot keygen key": "keygen", "audit verify": "verify-audit",
    "playbook host": "host", "audit show": "lock", "list": "this machine", "use bot1": "bot1 is the default now",
    "logs": "docker logs --tail 100 clawfactory-bot1-gateway",
    "logs egress -t -n 5": "docker logs --tail 5 --timestamps clawfactory-bot1-egress",
    "shell": "docker exec --interactive --tty clawfactory-bot1-gateway sh",
    "shell broker": "docker exec --interactive --tty clawfactory-bot1-broker sh",
    "version": "ansible 12", "test nonsense": "unknown stage nonsense",
}  # fmt: skip


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_works_at_a_terminal(terminal, line):
    code, screen = terminal.run(*line.split(), STATUS=json.dumps(FACTS), THERE=THERE)
    assert code == (2 if "nonsense" in line else 0), screen
    expected = COMMANDS[line]
    if terminal.called is None:
        assert expected in plain(screen)
    else:
        assert terminal.called["arguments"][0].removeprefix("playbooks/").removesuffix(".yml") in expected


def test_no_command_is_left_out():
    group = get_command(app)
    known = set()
    for name, command in group.commands.items():
        nested = getattr(command, "commands", None)
        known |= {f"{name} {each}" for each in nested} if nested else {name}
    tried = {line if line in known else " ".join(line.split()[:2]) for line in COMMANDS}
    tried |= {line.split()[0] for line in COMMANDS}
    assert known - tried == {"init"}, "its questions are in test_init.py"


def test_status_has_colours_on_a_terminal_and_none_elsewhere(terminal):
    facts = json.dumps(FACTS)
    code, screen = terminal.run("status", STATUS=facts)
    assert code == 0 and "\x1b[32mhealthy" in screen and "\x1b[1;31mlocked" in screen
    _, without = terminal.run("status", STATUS=facts, NO_COLOR="1")
    assert "\x1b[" not in without and "healthy" in without
    command = [str(terminal.programs / "python"), "-P", "-m", "clawfactory_cli", "status"]
    piped = subprocess.run(
        command, env={**terminal.environment, "STATUS": facts}, capture_output=True, text=True, check=True
    )
    assert "\x1b" not in piped.stdout
    assert [line.split()[:2] for line in piped.stdout.splitlines()] == [
        ["bot", "state"], ["bot1", "healthy"], ["bot2", "locked"],
    ]  # fmt: skip


def test_bad_input_is_told_before_anything_runs(terminal):
    code, screen = terminal.run("stop", BOTS="bot1 bot2")
    assert code == 2 and terminal.called is None
    assert "bot1, bot2" in plain(screen) and "clawfactory use BOT" in plain(screen)


def test_ctrl_c_reaches_ansible_and_has_its_code(terminal):
    process = terminal.start("up", "bot1", SLEEP="1")
    process.expect("at work")
    process.sendintr()
    code, screen = finish(process)
    assert code == 130 and "Ansible cleans up" in screen and "Traceback" not in screen


def test_ctrl_c_ends_following_a_log_as_meant(terminal):
    process = terminal.start("logs", "-f")
    process.expect("docker logs --tail 100 --follow clawfactory-bot1-gateway")
    process.sendintr()
    assert finish(process)[0] == 0


def test_termination_is_handed_on(terminal):
    process = terminal.start("logs", "-f")
    process.expect("--follow")
    process.kill(signal.SIGTERM)
    assert finish(process)[0] == 3


def test_bots_of_the_inventory_are_completed(terminal):
    starter = terminal.directory / "clawfactory"
    starter.write_text(f'#!/bin/sh\nexec {terminal.programs}/python -P -m clawfactory_cli "$@"\n')
    starter.chmod(0o755)
    environment = {
        **terminal.environment, "BOTS": "shop", "PS1": "$ ", "TERM": "dumb",
        "PATH": f"{terminal.directory}:{terminal.environment['PATH']}",
    }  # fmt: skip
    shell = pexpect.spawn("bash", ["--norc", "-i"], env=environment, encoding="utf-8", timeout=60)
    shell.sendline('eval "$(_CLAWFACTORY_COMPLETE=source_bash clawfactory)"; echo re"ady"')
    shell.expect("ready")
    shell.send("clawfactory restart sh\t")
    shell.expect("restart shop")
    shell.send("\x15clawfactory snaps\t")
    shell.expect("snapshot")
    shell.sendeof()
    shell.close(force=True)


@pytest.fixture(scope="module")
def remote(tmp_path_factory, fake_environment):
    """Variables of a bot on a machine that is reached over a real SSH, with the stand-in for docker there."""
    directory = tmp_path_factory.mktemp("ssh")
    with ssh_server(directory) as server:
        make_key(directory / "operator")
        public = (directory / "operator.pub").read_text()
        command = f'env PATH={fake_environment}:$PATH sh -c \\"$SSH_ORIGINAL_COMMAND\\"'
        with (directory / "authorized_keys").open("a") as held:
            held.write(f'restrict,pty,command="{command}" {public}')
        (directory / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {server.host_key}\n")
        yield {
            "ansible_host": "127.0.0.1", "ansible_port": server.port, "ansible_user": server.user,
            "ansible_ssh_private_key_file": str(directory / "operator"),
            "ansible_ssh_common_args": f"-F none -o UserKnownHostsFile={directory / 'known_hosts'}",
        }  # fmt: skip


def test_logs_and_shell_go_over_ssh_as_the_inventory_says(terminal, remote):
    variables = json.dumps(remote)
    assert terminal.run("logs", "proxy", VARIABLES=variables) == (
        0, "docker logs --tail 100 clawfactory-bot1-proxy\r\n",
    )  # fmt: skip
    code, screen = terminal.run("shell", VARIABLES=variables)
    assert code == 0 and "docker exec --interactive --tty clawfactory-bot1-gateway sh" in screen


def test_ctrl_c_ends_following_over_ssh_too(terminal, remote):
    process = terminal.start("logs", "-f", VARIABLES=json.dumps(remote))
    process.expect("--follow")
    process.sendintr()
    assert finish(process) == (0, mock.ANY)


def test_machine_with_another_host_key_is_not_talked_to(terminal, remote):
    wrong = {**remote, "ansible_ssh_common_args": "-F none -o UserKnownHostsFile=/dev/null -o BatchMode=yes"}
    code, screen = terminal.run("logs", VARIABLES=json.dumps(wrong))
    assert code == 4 and "127.0.0.1 cannot be reached over SSH" in screen


HOSTS = "bots:\n  hosts:\n    near: {ansible_connection: local}\n    far: {ansible_host: 203.0.113.7}\n"


def test_list_is_what_ansible_says(real_terminal):
    (real_terminal.directory / "hosts.yml").write_text(HOSTS)
    code, screen = real_terminal.run("list", "--inventory", "hosts.yml")
    assert code == 0
    assert [line.split() for line in plain(screen).splitlines()] == [
        ["bot", "machine", "default"], ["near", "this", "machine"], ["far", "203.0.113.7"],
    ]  # fmt: skip


def test_info_of_a_machine_that_does_not_answer_says_so(real_terminal):
    hosts = real_terminal.directory / "hosts.yml"
    hosts.write_text("bots: {hosts: {far: {ansible_host: 127.0.0.1, ansible_port: 1}}}\n")
    code, screen = real_terminal.run("info", "far", "--inventory", str(hosts))
    assert code == 3
    assert "unknown" in screen and "/srv/clawfactory/bot_repos/far/state" in screen
