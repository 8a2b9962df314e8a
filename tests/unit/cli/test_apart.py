"""``--each-machine``: real runs of the real playbook, on machines of which one is slow and one cannot be reached."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clawfactory_cli import ansible
from clawfactory_cli.apart import combined
from tests.support.polling import wait_for

REPOSITORY = Path(__file__).resolve().parents[3]
#: In the place of ssh: it waits until it is let go on.
SSH = """#!/bin/sh
cd "$(dirname "$0")"
echo $$ >> started
for try in $(seq 600); do test -e let-go && break; sleep 0.1; done
echo no route >&2
exit 255
"""


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """Two bots here that were never deployed, and one on a machine that takes its time."""
    (tmp_path / "ssh").write_text(SSH)
    (tmp_path / "ssh").chmod(0o755)
    root = {"clawfactory_root": str(tmp_path / "root")}
    here = {"ansible_connection": "local", "ansible_become": False, **root}
    far = {
        "ansible_host": "192.0.2.1",
        "ansible_ssh_executable": str(tmp_path / "ssh"),
        "ansible_become": False,
        **root,
    }
    path = tmp_path / "hosts.json"
    # What is no bot is nobody's business, even if nothing is right about it.
    others = {"hosts": {"printer": {"ansible_host": "{{ no_such_variable }}"}}}
    path.write_text(json.dumps({"others": others, "bots": {"hosts": {"near1": here, "far1": far, "near2": here}}}))
    return path


def start(inventory: Path, *arguments: str, before: tuple[str, ...] = (), **variables: str) -> subprocess.Popen[str]:
    """:param before: words in front of the command.
    :param variables: of its environment.
    """
    command = [sys.executable, "-m", "clawfactory_cli", "start", "all", "--inventory", str(inventory), "--each-machine"]
    environment = {**os.environ, "CLAWFACTORY_SETTINGS": str(inventory.parent / "settings"), **variables}
    # As a shell of the operator has it.
    environment.pop("PYTHONUNBUFFERED", None)
    return subprocess.Popen(
        [*before, *command, *arguments], cwd=REPOSITORY, env=environment, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_slow_machine_keeps_nobody_waiting_and_every_line_names_its_machine(inventory: Path) -> None:
    lines: list[str] = []
    with start(inventory) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            lines.append(line)
            # The run of this machine has come to its end while the other one has not begun to fail.
            if "once that is corrected" in line:
                let_go(inventory)
        errors = process.stderr.read()
    assert process.returncode == ansible.EXIT_BOTH, errors
    assert all(line.startswith(("localhost | ", "192.0.2.1:22 | ")) for line in lines)
    near = [line for line in lines if line.startswith("localhost | ")]
    assert "near2: near2 is not deployed" in "".join(near) and "--limit near1,near2" in near[-1]
    assert lines.index(near[-1]) < next(index for index, line in enumerate(lines) if "UNREACHABLE" in line)
    assert "far1: its machine cannot be reached" in "".join(lines)
    assert "0 of 2 machines done; failed: 192.0.2.1:22, localhost" in errors


def test_json_of_all_runs_is_one_document(inventory: Path) -> None:
    let_go(inventory)
    with start(inventory, "--json") as process:
        out, _ = process.communicate()
    found = json.loads(out)
    assert {bot: result["state"] for bot, result in found.items()} == {
        "near1": "failed", "near2": "failed", "far1": "unreachable",
    }  # fmt: skip
    assert process.returncode == ansible.EXIT_BOTH


def test_ctrl_c_ends_every_run(inventory: Path) -> None:
    with start(inventory) as process:
        wait_for("the slow machine", (inventory.parent / "started").exists, 60)
        os.killpg(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode in (ansible.EXIT_INTERRUPTED, ansible.EXIT_BOTH), out
    assert "unreachable=1" not in out
    for pid in (inventory.parent / "started").read_text().split():
        wait_for("the end of ssh", lambda pid=pid: not Path("/proc", pid).exists(), 20)


def let_go(inventory: Path) -> None:
    (inventory.parent / "let-go").touch()


def test_a_reader_that_goes_away_stops_no_run(inventory: Path) -> None:
    with start(inventory) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        let_go(inventory)
        errors = process.stderr.read()
    assert process.returncode == ansible.EXIT_BOTH
    assert errors.strip() == "0 of 2 machines done; failed: 192.0.2.1:22, localhost"


def test_sigterm_ends_every_run(inventory: Path) -> None:
    with start(inventory) as process:
        wait_for("the slow machine", (inventory.parent / "started").exists, 60)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, out
    assert "UNREACHABLE" not in out
    let_go(inventory)


def test_under_nohup_a_hang_up_ends_nothing(inventory: Path) -> None:
    with start(inventory, before=("nohup",)) as process:
        wait_for("the slow machine", (inventory.parent / "started").exists, 60)
        os.killpg(process.pid, signal.SIGHUP)
        let_go(inventory)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == ansible.EXIT_BOTH, out


def test_a_run_that_does_not_answer_with_json_has_failed(inventory: Path) -> None:
    let_go(inventory)
    with start(inventory, "--json", ANSIBLE_VERBOSITY="1") as process:
        out, errors = process.communicate()
    assert json.loads(out) == {}
    assert process.returncode != 0
    assert "localhost: Ansible did not answer with JSON" in errors


@pytest.mark.parametrize("asking", ["--ask-become-pass", "--ask-vault-pass"])
def test_runs_that_would_all_ask_are_refused(inventory: Path, asking: str) -> None:
    with start(inventory, asking) as process:
        out, errors = process.communicate()
    assert process.returncode == 2
    assert out == ""
    assert "ANSIBLE_BECOME_PASSWORD_FILE" in errors


def test_bots_of_one_machine_are_one_run_as_ever(inventory: Path) -> None:
    with start(inventory, "-e", "ansible_connection=local") as process:
        out, _ = process.communicate()
    assert process.returncode == ansible.EXIT_BOT_FAILED
    assert " | " not in out.partition("PLAY [")[0]
    assert "PLAY [" in out and "localhost | " not in out


@pytest.mark.parametrize(
    ("codes", "together"),
    [([0, 0], 0), ([0, 2], 2), ([4, 0], 4), ([2, 4], 6), ([6, 0], 6), ([2, 250], 250), ([99, -9], -9), ([99, 2], 99)],
)
def test_the_exit_status_is_that_of_one_run_with_all(codes: list[int], together: int) -> None:
    assert combined(codes) == together
