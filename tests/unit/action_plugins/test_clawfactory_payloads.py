"""Payloads of modules are built beside the tasks before the one that needs them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.playbooks import PlaybookRun, ansible_playbook

# It waits until the payload is there, so that what comes after it finds it.
PLAYBOOK = """
- hosts: bots
  gather_facts: false
  tasks:
    - clawfactory_payloads: {modules: %s}
    - shell: |
        cd "$(dirname "$(find {{ tmp | quote }} -name clawfactory-payloads)")"
        for try in $(seq 100); do
          test -n "$(find ansiballz_cache -name '*%s*' ! -name '*.lock')" && exit
          sleep 0.1
        done
        echo no payload was built; exit 1
      changed_when: false
      run_once: true
    - %s
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., PlaybookRun]:
    """A run whose payloads are kept in ``tmp``."""
    kept = tmp_path / "tmp"
    kept.mkdir()
    monkeypatch.setenv("ANSIBLE_LOCAL_TEMP", str(kept))
    inventory, playbook = tmp_path / "hosts.json", tmp_path / "play.yml"
    here = {"ansible_connection": "local", "tmp": str(kept)}
    inventory.write_text(json.dumps({"bots": {"hosts": {"one": here, "two": here}}}))

    def run(modules: list[str], task: str, *arguments: str, awaited: str = "modules.ping") -> PlaybookRun:
        playbook.write_text(PLAYBOOK % (json.dumps(modules), awaited, task))
        return ansible_playbook(str(playbook), inventory, *arguments)

    return run


def test_the_task_that_needs_a_payload_finds_it_and_works_as_ever(run: Callable[..., PlaybookRun]) -> None:
    done = run(["clawfactory_files", "ansible.builtin.ping"], "{name: use, ping: {data: works}}").succeeded()
    assert done.changed == []
    assert sorted(done.hosts_of("use")["use"]) == ["one", "two"]


def test_the_module_of_a_collection_is_found_too(run: Callable[..., PlaybookRun]) -> None:
    run(["community.docker.docker_container"], "{meta: noop}", awaited="docker_container").succeeded()


def test_a_payload_that_cannot_be_built_is_left_to_its_task_and_the_others_are_built(
    run: Callable[..., PlaybookRun],
) -> None:
    done = run(["no_such_module", "ansible.builtin.ping"], "{ping: {data: works}}").succeeded()
    assert "no_such_module" not in done.stderr


def test_check_mode_builds_too(run: Callable[..., PlaybookRun]) -> None:
    run(["ansible.builtin.ping"], "{ping: {}}", "--check").succeeded()


def test_nothing_is_left_of_a_run_that_ends_while_payloads_are_built(
    run: Callable[..., PlaybookRun], tmp_path: Path
) -> None:
    later = ["clawfactory_restore", "clawfactory_secrets", "clawfactory_promotion", "clawfactory_verification"]
    done = run(["ansible.builtin.ping", *later], "{fail: {msg: early}}")
    assert done.returncode == 2
    deadline = time.monotonic() + 30
    while builders(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not builders(tmp_path)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_wrong_options_are_refused(run: Callable[..., PlaybookRun], tmp_path: Path) -> None:
    run([], "{meta: noop}", awaited="")
    playbook = tmp_path / "wrong.yml"
    playbook.write_text("- {hosts: one, gather_facts: false, tasks: [{clawfactory_payloads: {module: ping}}]}\n")
    done = ansible_playbook(str(playbook), tmp_path / "hosts.json")
    assert done.returncode == 2
    assert "modules" in done.failures["one"]


def builders(tmp_path: Path) -> list[str]:
    """Processes of a run of this directory: those that Ansible forks have its arguments."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes() if process.name.isdigit() else b""
        except OSError:
            continue
        if str(tmp_path).encode() in command and int(process.name) != os.getpid():
            found.append(process.name)
    return found
