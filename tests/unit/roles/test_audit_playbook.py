"""The logs about a bot, looked over by playbook and command line: whole, edited, cut and in another order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clawfactory_core import audit
from tests.support.playbooks import REPOSITORY, ansible_playbook

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the logs are root's")
BOT = "bot1"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "audit" / BOT).mkdir(parents=True)
    for number in range(4):
        audit.append(decisions(tmp_path), "promotion", BOT, {"number": number}, max_bytes=1 << 20)
    audit.append(tmp_path / "audit" / BOT / "broker.jsonl", "broker.refused", BOT, {"rule": "x"}, max_bytes=1 << 20)
    (tmp_path / "hosts.yml").write_text(f"bots:\n  hosts:\n    {BOT}: {{ansible_connection: local}}\n")
    return tmp_path


def decisions(root: Path) -> Path:
    return root / "audit" / f"{BOT}.jsonl"


def rewrite(root: Path, *order: int) -> None:
    lines = decisions(root).read_bytes().splitlines(keepends=True)
    decisions(root).write_bytes(b"".join(lines[number] for number in order))


def verify(root: Path):
    extra = json.dumps({"clawfactory_root": str(root)})
    return ansible_playbook("playbooks/verify-audit.yml", root / "hosts.yml", "--extra-vars", extra)


def test_whole_logs_pass_and_nothing_is_changed(root):
    run = verify(root).succeeded()
    assert not run.changed
    assert f"whole  {decisions(root)}: 4 lines" in json.dumps(run.report)


def test_the_place_of_each_break_is_named(root):
    whole = decisions(root).read_bytes()
    breaks = {
        "edited": (lambda: decisions(root).write_bytes(whole.replace(b'"number":1', b'"number":7')), "line 3: "),
        "reordered": (lambda: rewrite(root, 0, 2, 1, 3), "line 2: "),
        "cut in the middle": (lambda: rewrite(root, 0, 1, 3), "line 3: "),
        "cut at its end": (lambda: rewrite(root, 0, 1), "line 2: "),
    }
    for name, (tamper, place) in breaks.items():
        decisions(root).write_bytes(whole)
        tamper()
        run = verify(root)
        assert run.returncode == 2, name
        assert f"{decisions(root)}, {place}" in run.failures[BOT], (name, run.failures)
    decisions(root).write_bytes(whole)
    verify(root).succeeded()


def test_a_broken_log_of_the_broker_fails_too(root):
    log = root / "audit" / BOT / "broker.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"rule":"x"', b'"rule":"y"'))
    assert f"{log}, line 1: " in verify(root).failures[BOT]


def test_a_name_that_is_a_path_reads_nothing(root):
    (root / "outside.jsonl").write_text("secret of somebody\n")
    (root / "hosts.yml").write_text("bots:\n  hosts:\n    ../outside: {ansible_connection: local}\n")
    run = verify(root)
    assert run.returncode != 0
    assert "is not valid" in run.failures["../outside"]


def test_a_log_that_is_a_link_is_told_and_not_followed(root):
    decisions(root).unlink()
    decisions(root).symlink_to("/etc/passwd")
    told = verify(root).failures[BOT]
    assert "it cannot be read" in told and "root:" not in told


def test_command_line(root):
    command = [sys.executable, "-P", "-m", "clawfactory_cli", "audit", "verify", BOT, "-i", str(root / "hosts.yml")]
    command += ["-e", f"clawfactory_root={root}"]

    def run() -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)

    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    rewrite(root, 0, 1)
    done = run()
    assert done.returncode == 3
    assert f"{decisions(root)}, line 2: " in done.stdout
