"""The commands, with stand-ins for Ansible's programs that record their call."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from clawfactory_cli import ansible


def test_up_runs_site_for_the_bots_named(call):
    result, made = call("up", "bot1", "bot2", "--check", "--diff", "-vv", "-e", "a=b")
    assert result.exit_code == 0
    assert made["program"] == "ansible-playbook"
    assert made["arguments"] == ["site.yml", "-l", "bot1,bot2", "-e", "a=b", "--check", "--diff", "-vv"]


def test_ansible_runs_in_the_repository_with_its_configuration(call, monkeypatch):
    monkeypatch.setenv("ANSIBLE_CONFIG", "/etc/ansible/ansible.cfg")
    monkeypatch.setenv("LC_ALL", "C")
    _, made = call("up", "bot1")
    assert made["cwd"] == str(ansible.REPOSITORY)
    assert made["config"] == str(ansible.REPOSITORY / "ansible.cfg")
    assert made["locale"] == "C.UTF-8"


def test_up_without_a_name_takes_the_only_bot(call):
    _, made = call("up")
    assert made["arguments"] == ["site.yml", "-l", "bot1"]


@pytest.mark.parametrize("command", ["up", "start", "stop", "restart"])
def test_without_a_name_several_bots_are_listed_and_nothing_runs(call, monkeypatch, command):
    monkeypatch.setenv("BOTS", "bot1 bot2")
    result, made = call(command)
    assert result.exit_code == 2
    assert made is None
    assert "bot1, bot2" in result.output and "'all'" in result.output


def test_without_any_bot_the_inventory_is_named_as_the_cause(call, monkeypatch):
    monkeypatch.setenv("BOTS", "")
    result, made = call("up")
    assert (result.exit_code, made) == (2, None)
    assert "group 'bots'" in result.output


def test_unreadable_inventory_is_an_error_of_its_own(call, monkeypatch):
    monkeypatch.setenv("HOSTS_EXIT", "4")
    result, made = call("up", "--inventory", "nowhere")
    assert (result.exit_code, made) == (1, None)
    assert "nowhere" in result.output


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
def test_verbs_run_the_playbook_of_their_name(call, verb):
    _, made = call(verb, "bot2")
    assert made["arguments"] == [f"playbooks/{verb}.yml", "-l", "bot2"]


def test_paths_are_those_of_the_operators_directory(call, tmp_path, monkeypatch):
    (tmp_path / "hosts.yml").touch()
    (tmp_path / "vars.yml").touch()
    (tmp_path / "password").touch()
    monkeypatch.chdir(tmp_path)
    _, made = call("up", "bot1", "-i", "hosts.yml", "-e", "@vars.yml", "--vault-password-file", "password")
    assert made["arguments"][3:] == [
        *("-i", str(tmp_path / "hosts.yml")),
        *("--vault-password-file", str(tmp_path / "password")),
        *("-e", f"@{tmp_path / 'vars.yml'}"),
    ]


def test_host_list_is_handed_on_as_it_is(call):
    _, made = call("up", "bot1", "-i", "bot1,bot2,")
    assert made["arguments"][3:] == ["-i", "bot1,bot2,"]


@pytest.mark.parametrize(
    ("ansible_code", "ours"), [(0, 0), (1, 1), (2, 3), (4, 4), (5, 1), (6, 5), (99, 130), (250, 1)]
)
def test_exit_code_tells_what_went_wrong(call, monkeypatch, ansible_code, ours):
    monkeypatch.setenv("EXIT", str(ansible_code))
    assert call("up", "bot1")[0].exit_code == ours


def test_exit_code_of_a_killed_run_names_the_signal():
    assert ansible.exit_code(-15) == 143


def test_status_covers_all_bots_unless_named(call, monkeypatch):
    monkeypatch.setenv("STATUS", "[]")
    assert call("status")[1]["arguments"][:2] == ["playbooks/status.yml", "-e"]
    assert call("status", "bot1")[1]["arguments"][:3] == ["playbooks/status.yml", "-l", "bot1"]
    assert call("status", "-v")[1]["arguments"] == ["playbooks/status.yml", "-v"], "Ansible's own output is shown then"


def test_audit_verify_covers_all_bots_unless_named(call):
    assert call("audit", "verify")[1]["arguments"] == ["playbooks/verify-audit.yml"]
    assert call("audit", "verify", "bot1")[1]["arguments"] == ["playbooks/verify-audit.yml", "-l", "bot1"]


def test_status_json_prints_the_file_of_the_playbook_and_nothing_else(call, monkeypatch):
    monkeypatch.setenv("STATUS", '{"bot1": {"state": "running"}}')
    result, _ = call("status", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"bot1": {"state": "running"}}
    assert result.stderr == ""


def test_status_json_of_a_failed_run_prints_what_is_known_and_why(call, monkeypatch):
    monkeypatch.setenv("STATUS", '{"bot1": {}}')
    monkeypatch.setenv("EXIT", "4")
    result, _ = call("status", "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout) == {"bot1": {}}
    assert "what Ansible printed" in result.stderr


def test_status_json_without_a_file_is_an_error(call):
    result, _ = call("status", "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "did not write" in result.stderr


def test_remove_keeps_the_data(call):
    _, made = call("remove", "bot1", "bot2")
    assert made["arguments"] == ["playbooks/remove.yml", "-l", "bot1,bot2"]


def test_remove_purges_with_both_flags(call):
    _, made = call("remove", "bot1", "--purge", "--yes-delete-data")
    assert made["arguments"][:4] == ["playbooks/remove.yml", "-l", "bot1", "-e"]
    assert json.loads(made["arguments"][4]) == {"remove_purge": True, "remove_confirm": "bot1"}


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("bot1", "--purge"),
        ("bot1", "--yes-delete-data"),
        ("bot1", "bot2", "--purge", "--yes-delete-data"),
    ],
)
def test_remove_refuses_what_is_half_said(call, arguments):
    result, made = call("remove", *arguments)
    assert (result.exit_code, made) == (2, None)


def test_playbook_hands_everything_on(call, monkeypatch, tmp_path):
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks/host.yml").touch()
    monkeypatch.setattr("clawfactory_cli.ansible.REPOSITORY", tmp_path)
    _, made = call("playbook", "host", "-l", "bot1", "--tags", "host", "--help")
    assert made["arguments"] == ["playbooks/host.yml", "-l", "bot1", "--tags", "host", "--help"]
    result, made = call("playbook", "nonsense")
    assert (result.exit_code, made) == (2, None)
    assert "known: host" in result.output


def test_become_password_is_asked_for_only_when_told_or_needed(call, monkeypatch):
    monkeypatch.setattr(ansible, "needs_become_password", lambda: True)
    assert "--ask-become-pass" in call("up", "bot1")[1]["arguments"]
    assert "--ask-become-pass" not in call("up", "bot1", "--no-ask-become-pass")[1]["arguments"]
    monkeypatch.setattr(ansible, "needs_become_password", lambda: False)
    assert "--ask-become-pass" not in call("up", "bot1")[1]["arguments"]
    assert "--ask-become-pass" in call("up", "bot1", "-K")[1]["arguments"]


@pytest.mark.parametrize(
    ("user", "terminal", "sudo_asks", "asked"),
    [(1000, True, True, True), (1000, True, False, False), (1000, False, True, False), (0, True, True, False)],
)
def test_become_password_is_needed_by_users_on_a_terminal(tmp_path, monkeypatch, user, terminal, sudo_asks, asked):
    sudo = tmp_path / "sudo"
    sudo.write_text(f"#!/bin/sh\nexit {int(sudo_asks)}\n")
    sudo.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("ANSIBLE_BECOME_PASSWORD_FILE", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: user)
    monkeypatch.setattr("sys.stdin", type("Input", (), {"isatty": lambda _self: terminal})())
    assert ansible.needs_become_password() is asked


def test_help_lists_commands_and_exit_codes(call):
    result, _ = call("--help")
    assert result.exit_code == 0
    assert "Exit codes" in result.output
    for command in ("up", "start", "stop", "restart", "status", "audit", "remove", "playbook", "test", "version"):
        assert f"\n  {command} " in result.output


def test_version_is_that_of_the_core(call):
    from clawfactory_core import __version__

    assert call("--version")[0].output == f"clawfactory {__version__}\n"
    assert call("version")[0].output.startswith(f"clawfactory {__version__}\nansible ")


def test_repository_is_the_one_the_package_lies_in():
    assert (ansible.REPOSITORY / "clawfactory_cli/ansible.py").samefile(Path(ansible.__file__))


def test_lock_hands_the_reason_on_as_it_is(call):
    result, called = call("lock", "bot1", "--reason", "talks to 'strangers' x=1")
    assert result.exit_code == 0 and called["arguments"][:3] == ["playbooks/lockdown.yml", "-l", "bot1"]
    assert json.loads(called["arguments"][called["arguments"].index("-e") + 1]) == {
        "lockdown_reason": "talks to 'strangers' x=1", "lockdown_scope": "bot", "lockdown_snapshot": False,
    }  # fmt: skip


def test_unlock_names_what_it_was_asked_for(call):
    _, called = call("unlock", "bot1", "--rotate", "--snapshot", "20270115T080000Z", "--machine")
    assert called["arguments"][:3] == ["playbooks/unlock.yml", "-l", "bot1"]
    assert json.loads(called["arguments"][called["arguments"].index("-e") + 1]) == {
        "unlock_rotate": True, "unlock_scope": "machine", "unlock_snapshot": "20270115T080000Z",
    }  # fmt: skip


def test_unlock_goes_back_to_a_commit_that_is_named(call):
    _, called = call("unlock", "bot1", "--sha", "1a", "--back")
    assert json.loads(called["arguments"][called["arguments"].index("-e") + 1]) == {
        "unlock_rotate": False, "unlock_scope": "bot", "unlock_sha": "1a", "unlock_back": True,
    }  # fmt: skip
    result, called = call("unlock", "bot1", "--back")
    assert (result.exit_code, called) == (2, None) and "--sha" in result.output


@pytest.mark.parametrize("verb", ["lock", "unlock"])
def test_one_of_several_bots_has_to_be_named(call, monkeypatch, verb):
    monkeypatch.setenv("BOTS", "bot1 bot2")
    result, called = call(verb)
    assert result.exit_code == 2 and called is None
