"""The schedule of a machine without systemd: a file for cron, whose command makes a snapshot."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.playbooks import REPOSITORY, ansible_playbook
from tests.support.snapshot_files import BOT, Files, result

FIELDS = r"(?P<when>\S+ \S+ \S+ \S+ \S+) root (?P<command>.+) >> (?P<log>\S+) 2>&1"


class Machine(Files):
    """A root with a bot, and a directory that cron would read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.cron = root.parent / "cron.d" / BOT
        self.cron.parent.mkdir()
        (root / "lib").mkdir()
        (root / "lib" / "clawfactory_core").symlink_to(REPOSITORY / "module_utils" / "clawfactory_core")
        script = REPOSITORY / "roles" / "snapshots" / "files" / "clawfactory-snapshot"
        (root / "lib" / "clawfactory-snapshot").symlink_to(script)
        play = {
            "hosts": "bots",
            "gather_facts": False,
            "tasks": [{"import_role": {"name": "snapshots", "tasks_from": "configure"}}],
        }
        (root.parent / "play.yml").write_text(json.dumps([play]))

    def configure(self, *options: str, **variables: object) -> list[str]:
        """Run the role as on a machine without an init system. :returns: its tasks that were not skipped."""
        rendered = {str(self.cron): ""} if self.cron.exists() else {}
        settled = {
            "host_machine": {"init": "none", "rendered": rendered},
            "host_bot": {"controller_uid": 0, "gateway_uid": 0},
            "secrets_snapshot_key": "machine",
            "clawfactory_source_dir": str(REPOSITORY),
            "__snapshots_cron": str(self.cron),
            "snapshots_min_free_mb": 0,
            **variables,
        }
        run = ansible_playbook(
            str(self.root.parent / "play.yml"), self.inventory, "--extra-vars", json.dumps(settled), *options
        ).succeeded()
        self.last = run
        return [name for _, name, outcome in run._results() if not outcome.get("skipped")]

    def line(self) -> re.Match[str]:
        """The one line of the file that cron obeys."""
        lines = [line for line in self.cron.read_text().splitlines() if line and not line.startswith(("#", "PATH="))]
        assert len(lines) == 1
        found = re.fullmatch(FIELDS, lines[0])
        assert found is not None, lines[0]
        return found


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path / "root")


def test_cron_makes_the_snapshot(machine, tmp_path):
    would = machine.configure("--check", "--diff")
    assert not machine.cron.exists()
    tasks = machine.configure()
    assert tasks == would
    assert not [task for task in tasks if "imer" in task or "systemd" in task]
    written = result(machine.last, "Configure | Write settings and schedule")
    assert "/etc/systemd" not in json.dumps(written)
    # Cron ignores what others could write to, and names with a dot.
    assert machine.cron.stat().st_mode & 0o777 == 0o644
    assert re.fullmatch("[a-z0-9_-]+", machine.cron.name)
    line = machine.line()
    assert line["when"] == "0 3 * * *"
    command, jitter = line["command"].rsplit(" ", 1)
    assert jitter == "45" and command.endswith(" --jitter-minutes")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    log = tmp_path / "log"
    for _ in range(2):
        shell = ["/bin/sh", "-c", f"{command} 0 >> {log} 2>&1"]
        done = subprocess.run(shell, env=environment, cwd="/", timeout=120)
        assert done.returncode == 0, log.read_text()
    assert [path.name.split(".")[1] for path in sorted(machine.directory.glob("*.age"))] == ["full", "inc"]
    records = [json.loads(path.read_text()) for path in machine.directory.glob("*.json")]
    assert [record["verified_how"] for record in records] == ["digest", "digest"]


def test_cron_reports_a_snapshot_that_fails(machine, tmp_path):
    machine.configure()
    (machine.root / "locks" / BOT).touch()
    command = machine.line()["command"].rsplit(" ", 1)[0]
    done = subprocess.run(["/bin/sh", "-c", f"{command} 0"], capture_output=True, text=True, cwd="/", timeout=120)
    assert done.returncode == 1
    assert "playbooks/unlock.yml" in done.stderr
    assert list(machine.directory.glob("*.age")) == []


def test_the_schedule_follows_its_variables(machine):
    machine.configure(snapshots_schedule="hourly", snapshots_jitter_minutes=5)
    assert machine.line()["when"] == "0 * * * *"
    assert machine.line()["command"].endswith("--jitter-minutes 5")
    machine.configure(snapshots_hour=23, snapshots_schedule_verify="content")
    assert machine.line()["when"] == "0 23 * * *"
    assert "--verify content" in machine.line()["command"]
    machine.configure(snapshots_schedule="never")
    assert not machine.cron.exists()
