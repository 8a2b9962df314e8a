"""Runs of ``ansible-playbook`` for tests, with their outcome as data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class PlaybookRun:
    """What a run did.

    :param returncode: exit status of ``ansible-playbook``; 2 if a host failed.
    :param report: the plays, tasks and stats as the callback ``ansible.posix.json`` tells them.
    :param stderr: warnings, and errors that stopped Ansible before any play.
    """

    returncode: int
    report: dict[str, Any]
    stderr: str

    @property
    def stats(self) -> dict[str, dict[str, int]]:
        """Per host: ``ok``, ``changed``, ``failures``, ``unreachable``, …"""
        stats: dict[str, dict[str, int]] = self.report["stats"]
        return stats

    @property
    def changed(self) -> list[str]:
        """``host: task`` for each task that reported a change."""
        return [f"{host}: {task}" for host, task, result in self._results() if result.get("changed")]

    @property
    def failures(self) -> dict[str, str]:
        """Message of the task that failed, with what its command wrote, by host."""
        return {
            host: f"{task}: {result.get('msg') or json.dumps(result)} "
            f"{result.get('stderr') or result.get('stdout') or ''}".rstrip()
            for host, task, result in self._results()
            if result.get("failed") or result.get("unreachable")
        }

    def hosts_of(self, prefix: str) -> dict[str, list[str]]:
        """Hosts on which each task whose name begins so was done; one that was skipped everywhere is not there."""
        done: dict[str, list[str]] = {}
        for host, task, result in self._results():
            if task.startswith(prefix) and not result.get("skipped"):
                done.setdefault(task, []).append(host)
        return done

    def succeeded(self) -> PlaybookRun:
        """This run, after making sure that it succeeded everywhere.

        :raises AssertionError: a host failed; the message says where and why.
        """
        assert self.returncode == 0, f"ansible-playbook ended with {self.returncode}: {self.failures or self.stderr}"
        return self

    def _results(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [
            (host, task["task"]["name"], result)
            for play in self.report.get("plays", [])
            for task in play["tasks"]
            for host, result in task["hosts"].items()
        ]


def ansible_playbook(playbook: str, inventory: Path, *arguments: str, timeout: float = 900) -> PlaybookRun:
    """Run a playbook of this repository.

    :param playbook: path below the repository, for example ``site.yml``.
    :param inventory: inventory file or directory.
    :param arguments: further arguments, for example ``--limit bot1``.
    :param timeout: seconds after which the run is killed.
    """
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_FORCE_COLOR": "0",
    }
    # Others would write into the JSON.
    environment.pop("ANSIBLE_CALLBACKS_ENABLED", None)
    executable = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [str(executable), str(REPOSITORY / playbook), "--inventory", str(inventory), *arguments],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    start = done.stdout.find("{")
    report = json.loads(done.stdout[start:]) if start >= 0 else {}
    return PlaybookRun(done.returncode, report, done.stderr)
