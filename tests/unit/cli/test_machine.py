"""Commands that run on a bot's machine without a playbook."""

from __future__ import annotations

import shlex

import pytest

from clawfactory_cli import machine
from clawfactory_cli.containers import Cleaner
from clawfactory_cli.machine import CommandFailed, Machine, run_there
from clawfactory_core.errors import InvalidInput


@pytest.fixture(autouse=True)
def user(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(machine, "interactive", lambda: False)


def test_on_this_machine_root_runs_it():
    local = Machine("bot1", {"ansible_connection": "local"})
    assert local.command(["docker", "ps"]) == ["sudo", "-n", "docker", "ps"]
    assert local.address == "this machine"


@pytest.mark.parametrize("value", [False, "false", "no"])
def test_without_become_nothing_is_put_before_it(value):
    local = Machine("bot1", {"ansible_connection": "local", "ansible_become": value})
    assert local.command(["docker", "ps"]) == ["docker", "ps"]


def test_over_ssh_with_everything_the_inventory_says():
    remote = Machine(
        "shop",
        {
            "ansible_host": "203.0.113.7", "ansible_port": 2222, "ansible_user": "admin",
            "ansible_ssh_private_key_file": "/keys/one key", "ansible_ssh_common_args": "-J jump@gate.example.org",
            "ansible_ssh_extra_args": "-o 'ProxyCommand=nc %h %p'",
        },
    )  # fmt: skip
    command = remote.command(["docker", "logs", "--tail", "5", "a b"])
    assert command[:-1] == [
        "ssh", "-p", "2222", "-l", "admin", "-i", "/keys/one key", "-J", "jump@gate.example.org",
        "-o", "ProxyCommand=nc %h %p", "-T", "--", "203.0.113.7",
    ]  # fmt: skip
    assert shlex.split(command[-1]) == ["sudo", "-n", "docker", "logs", "--tail", "5", "a b"]


def test_root_over_ssh_needs_no_sudo_and_the_name_is_the_address():
    assert Machine("shop", {"ansible_user": "root"}).command(["id"]) == ["ssh", "-l", "root", "-T", "--", "shop", "id"]


def test_somebody_at_a_terminal_can_be_asked_by_sudo(monkeypatch):
    assert Machine("shop", {}).command(["id"], terminal=True) == ["ssh", "-t", "--", "shop", "sudo id"]
    monkeypatch.setattr(machine, "interactive", lambda: True)
    assert Machine("bot1", {"ansible_connection": "local"}).command(["id"]) == ["sudo", "id"]


def test_tunnel_is_a_command_to_copy():
    remote = Machine("shop", {"ansible_host": "203.0.113.7", "ansible_user": "admin"})
    assert remote.tunnel(18789, 8080) == "ssh -l admin -L 18789:127.0.0.1:18789 -L 8080:127.0.0.1:8080 203.0.113.7"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ansible_host", "-oProxyCommand=touch /tmp/x"),
        ("ansible_host", "host; touch /tmp/x"),
        ("ansible_host", "{{ address }}"),
        ("ansible_user", "-x"),
        ("ansible_port", "22 -o x"),
        ("ansible_connection", "community.docker.docker"),
        ("ansible_become_method", "doas"),
    ],
)
def test_what_ssh_cannot_take_is_refused_by_its_name(name, value):
    with pytest.raises(InvalidInput, match=rf"shop: {name} is "):
        Machine("shop", {name: value}).command(["id"])


def test_root_directory_is_absolute():
    assert str(Machine("bot1", {}).root) == "/srv/clawfactory"
    with pytest.raises(InvalidInput, match="clawfactory_root"):
        Machine("bot1", {"clawfactory_root": "srv"}).root  # noqa: B018


def test_bad_name_of_a_bot_is_refused():
    with pytest.raises(InvalidInput, match="not valid"):
        Machine("../x", {})


LOCAL = {"ansible_connection": "local", "ansible_become": False}


@pytest.mark.parametrize(
    ("variables", "script", "code"), [(LOCAL, "exit 5", 3), (LOCAL, "kill -INT $$", 130), (LOCAL, "exit 255", 3)]
)
def test_failure_has_the_code_that_says_how(variables, script, code):
    with pytest.raises(CommandFailed) as failed:
        run_there(Machine("bot1", variables), ["sh", "-c", script])
    assert failed.value.code == code


def test_ssh_that_fails_is_a_machine_that_cannot_be_reached(monkeypatch, tmp_path):
    (tmp_path / "ssh").write_text("#!/bin/sh\nexit 255\n")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setattr("clawfactory_cli.ansible.PROGRAMS", tmp_path)
    with pytest.raises(CommandFailed, match="cannot be reached over SSH") as failed:
        run_there(Machine("shop", {"ansible_host": "203.0.113.7"}), ["id"])
    assert failed.value.code == 4


def test_what_bots_print_cannot_command_the_terminal(capsys):
    cleaner = Cleaner()
    for piece in (b"one\r\n\x1b]0;title\x07", "zwölf".encode()[:3], "zwölf".encode()[3:], b"\xff\n"):
        cleaner.show(piece)
    assert capsys.readouterr().out == "one\n�]0;title�zwölf�\n"
