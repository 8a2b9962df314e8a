"""Copies of snapshots elsewhere, by the role and the playbooks, with the real rclone and no machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.playbooks import REPOSITORY, PlaybookRun, ansible_playbook
from tests.support.snapshot_files import BOT, result

from .test_snapshots_cron import Machine

# In rclone's own form, as `rclone obscure` makes it.
PASSWORD = "5XLBWvAH1yqKzoTp1N4oJDLqz2Rh1A"


class Place(Machine):
    """A machine without an init system whose copies go to a directory beside it."""

    def settle_offsite(self, **variables: object) -> list[str]:
        elsewhere = self.root.parent / "elsewhere"
        wanted = {
            "snapshots_offsite_remote": f"here:{elsewhere}",
            "snapshots_offsite_config": f"[here]\ntype = local\n[other]\ntype = sftp\npass = {PASSWORD}\n",
            "snapshots_offsite_known_hosts": ["[127.0.0.1]:1 ssh-ed25519 AAAA"],
        }
        self.settled = {**wanted, **variables}
        tasks = self.configure(**self.settled)
        self.copies = elsewhere / BOT
        return tasks

    def recover(self, *options: str, **variables: object) -> PlaybookRun:
        """The part of playbooks/recover.yml that comes after the deployment."""
        look = {"import_role": {"name": "host", "tasks_from": "look"}}
        known = {"set_fact": {"host_machine": {"allocations": variables.pop("allocations", {})}}}
        after = {"import_role": {"name": "snapshots", "tasks_from": "recover"}}
        play = {"hosts": "bots", "gather_facts": False, "tasks": [look, known, after]}
        path = self.root.parent / "recover.yml"
        path.write_text(json.dumps([play]))
        return ansible_playbook(str(path), self.inventory, *options, "--extra-vars", json.dumps(variables))

    def approve(self, text: str) -> str:
        """Give the bot a repository of its own, if it has none, and move it. :returns: the commit."""
        home, clone = self.state.parent, self.root.parent / "clone"
        if not (home / "origin.git").exists():
            git(home, "init", "--quiet", "--bare", "--initial-branch", "main", "origin.git")
            git(home, "clone", "--quiet", "origin.git", str(clone))
        (clone / "workspace").mkdir(exist_ok=True)
        (clone / "workspace" / "AGENTS.md").write_text(text)
        git(clone, "add", "--all")
        git(clone, "-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "--quiet", "--message", text)
        git(clone, "push", "--quiet", "origin", "HEAD:main")
        return git(clone, "rev-parse", "HEAD")

    def bring_approved(self, *options: str, **variables: object) -> PlaybookRun:
        """The part of playbooks/recover.yml that is in the middle of the deployment, with the last settings."""
        bring = {"import_role": {"name": "snapshots", "tasks_from": "approved"}}
        path = self.root.parent / "approved.yml"
        path.write_text(json.dumps([{"hosts": "bots", "gather_facts": False, "tasks": [bring]}]))
        settled = {
            **self.settled, "host_machine": {"init": "none", "rendered": {}}, "host_python": sys.executable,
            "host_bot": {"controller_uid": os.geteuid(), "gateway_uid": os.geteuid()}, "bot_repository": "",
            "secrets_snapshot_key": "machine", "clawfactory_source_dir": str(REPOSITORY),
            "__snapshots_cron": str(self.cron), "snapshots_min_free_mb": 0,
        }  # fmt: skip
        return ansible_playbook(
            str(path), self.inventory, *options, "--extra-vars", json.dumps({**settled, **variables})
        )


def git(directory: Path, *arguments: str) -> str:
    run = ["git", "-C", str(directory), *arguments]
    return subprocess.run(run, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


@pytest.fixture
def machine(tmp_path: Path) -> Place:
    return Place(tmp_path / "root")


def test_credentials_lie_in_a_file_of_root_and_show_nowhere(machine: Place) -> None:
    machine.settle_offsite()
    config = machine.secrets / "rclone.conf"
    assert (config.stat().st_mode & 0o777, PASSWORD in config.read_text()) == (0o600, True)
    assert (machine.secrets / "rclone.known_hosts").read_text() == "[127.0.0.1]:1 ssh-ed25519 AAAA\n"
    assert PASSWORD not in json.dumps(machine.last.report) + machine.last.stderr
    assert machine.line()["command"].split(" && ")[1].startswith(f"{machine.root}/venv/bin/python -B")
    machine.settle_offsite(snapshots_offsite_remote="")
    assert " && " not in machine.line()["command"]


def test_cron_copies_what_it_made(machine: Place) -> None:
    machine.settle_offsite()
    (machine.root / "lib" / "clawfactory-offsite").symlink_to(
        Path(__file__).resolve().parents[3] / "roles" / "snapshots" / "files" / "clawfactory-offsite"
    )
    command = machine.line()["command"].replace(" --jitter-minutes 45", "")
    subprocess.run(["/bin/sh", "-c", command], check=True, capture_output=True, timeout=120)
    assert sorted(path.name.split(".", 1)[1] for path in machine.copies.iterdir()) == ["full.json", "full.tar.zst.age"]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no-path": ({"snapshots_offsite_remote": "here"}, "snapshots_offsite_remote is 'here'; give remote:path"),
    "no-section": ({"snapshots_offsite_remote": "there:x"}, "snapshots_offsite_config has no section [there]"),
    "no-host-key": ({"snapshots_offsite_known_hosts": []}, "snapshots_offsite_known_hosts is empty"),
    "no-copies": ({"snapshots_offsite_keep_last": 0}, "snapshots_offsite_keep_last is 0; keep at least one"),
}


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    given = {
        "ansible_connection": "local", "snapshots_offsite_remote": "here:x", "secrets_snapshot_key": "machine",
        "snapshots_offsite_config": f"[here]\ntype = sftp\npass = {PASSWORD}\n", "snapshots_offsite_known_hosts": ["x"],
    }  # fmt: skip
    hosts = {bot: {**given, **variables} for bot, (variables, _) in REFUSED.items()}
    tasks = [
        {"import_role": {"name": "snapshots", "tasks_from": "preflight"}},
        {"fail": {"msg": "{{ __snapshots_problems | join('; ') }}"}, "when": "__snapshots_problems | length > 0"},
    ]
    inventory, path = tmp_path / "hosts.json", tmp_path / "preflight.yml"
    inventory.write_text(json.dumps({"bots": {"hosts": hosts}}))
    path.write_text(json.dumps([{"hosts": "bots", "gather_facts": False, "tasks": tasks}]))
    run = ansible_playbook(str(path), inventory)
    for bot, (_, told) in REFUSED.items():
        assert told in run.failures[bot]
    assert PASSWORD not in json.dumps(run.report) + run.stderr


def test_a_lost_bot_comes_back_from_its_copy_with_a_key_of_the_control_node(machine: Place) -> None:
    machine.settle_offsite(snapshots_keep_last=9)
    for text in ("first", "second"):
        (machine.state / "workspace" / "note.md").write_text(text)
        machine.snapshot()
    machine.play("copy-snapshots").succeeded()
    key = machine.root.parent / "safe" / "bot.key"
    machine.key_goes(key)
    for path in machine.directory.iterdir():
        path.unlink()
    (machine.state / "workspace" / "note.md").write_text("of the new machine")
    run = machine.recover(restore_key_file=str(key)).succeeded()
    assert (machine.state / "workspace" / "note.md").read_text() == "second"
    assert not (machine.root / "offsite" / BOT).exists()
    assert machine.holds(key.read_text().split()[-1]) == []
    assert key.read_text().split()[-1] not in json.dumps(run.report)


def test_a_bot_that_was_there_before_is_refused_unless_that_is_meant(machine: Place) -> None:
    machine.settle_offsite()
    machine.snapshot()
    machine.play("copy-snapshots").succeeded()
    (machine.state / "workspace" / "note.md").write_text("newer")
    run = machine.recover(allocations={BOT: {}})
    assert "was deployed on this machine before; add -e restore_stop=true" in run.failures[BOT]
    assert (machine.state / "workspace" / "note.md").read_text() == "newer"
    machine.recover(allocations={BOT: {}}, restore_stop=True).succeeded()
    assert (machine.state / "workspace" / "note.md").read_text() == "before"
    assert any(path.name.startswith("before-restore--") for path in machine.directory.iterdir())


def test_what_was_approved_comes_back_before_the_template_takes_its_place(machine: Place) -> None:
    machine.settle_offsite()
    commit = machine.approve("approved by a human")
    machine.play("copy-snapshots").succeeded()
    key = machine.root.parent / "safe" / "bot.key"
    secret = machine.key_goes(key)
    home = machine.state.parent
    shutil.rmtree(home / "origin.git")
    assert "no private key to open approved--" in machine.bring_approved().failures[BOT]
    run = machine.bring_approved("--diff", restore_key_file=str(key)).succeeded()
    assert git(home / "origin.git", "rev-parse", "main") == commit
    assert f"approved is {commit}, the newest copy in here:" in result(run, "Approved | Say what it is")["msg"]
    assert secret not in json.dumps(run.report) + run.stderr
    assert machine.holds(secret) == []


def test_without_a_copy_of_what_was_approved_the_bot_begins_with_the_template(machine: Place) -> None:
    machine.settle_offsite()
    machine.snapshot()
    machine.play("copy-snapshots").succeeded()
    run = machine.bring_approved().succeeded()
    assert "there is no copy of what was approved" in result(run, "Approved | Say what it is")["msg"]
    assert not (machine.state.parent / "origin.git").exists()


def test_with_a_remote_nothing_is_brought(machine: Place) -> None:
    machine.settle_offsite(bot_repository="https://example.com/bot.git")
    machine.approve("approved by a human")
    machine.snapshot()
    machine.play("copy-snapshots").succeeded()
    assert not list(machine.copies.glob("*.bundle.age"))
    run = machine.bring_approved(bot_repository="https://example.com/bot.git").succeeded()
    assert {outcome.get("skipped") for _, _, outcome in run._results()} == {True}
