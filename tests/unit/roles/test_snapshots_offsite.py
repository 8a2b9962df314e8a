"""Copies of snapshots elsewhere, by the role and the playbooks, with the real rclone and no machine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.playbooks import PlaybookRun, ansible_playbook
from tests.support.snapshot_files import BOT

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
        tasks = self.configure(**{**wanted, **variables})
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
