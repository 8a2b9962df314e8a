"""Builds what the tasks to come send to machines while the ones before them run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.executor.module_common import modify_module
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import module_loader
from ansible.template import Templar

DOCUMENTATION = """
module: clawfactory_payloads
short_description: Build the payloads of modules ahead of their tasks
description:
  - The first task of a run that uses a module packs it with all that it imports, which takes 0.2 to 0.6 seconds of one
    processor, and nothing else happens meanwhile. This does so beside the tasks that follow it, on another processor.
  - Ansible keeps payloads for the rest of the run, under a lock (ansible.executor.module_common), so that a task that
    comes too early waits.
  - A payload that cannot be built ahead is left to the task that needs it, which then says why.
options:
  modules:
    description: Names of the modules, in the order in which they are needed.
    type: list
    elements: str
    required: true
"""
EXAMPLES = """
- name: Payloads
  clawfactory_payloads:
    modules: [clawfactory_secrets, community.docker.docker_container]
"""


class ActionModule(ActionBase):  # type: ignore[misc] # ansible-core has no type information
    """Ansible's entry point."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Start the builder and come back at once."""
        _, options = self.validate_argument_spec({"modules": {"type": "list", "elements": "str", "required": True}})
        kept = Path(constants.DEFAULT_LOCAL_TMP)
        # Where that fails all is as slow as it was without. The mark: one builder a run, of whichever bot asks first.
        with contextlib.suppress(OSError):
            (kept / "clawfactory-payloads").touch(exist_ok=False)
            _detach(options["modules"], kept, os.getppid())
        return {"changed": False}


def _detach(modules: Sequence[str], kept: Path, run: int) -> None:
    """Build in a process that the worker of this task does not wait for."""
    between = os.fork()
    if between:
        os.waitpid(between, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            # The worker's would signal a group of processes that may be another's by then.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nowhere, stream)
            _build(modules, kept, run)
    finally:
        # Nothing of the worker may run twice: its results, its handlers at exit.
        os._exit(0)


def _build(modules: Sequence[str], kept: Path, run: int) -> None:
    """:param kept: directory in which the run keeps payloads, and which it removes in the end.
    :param run: process id of ``ansible-playbook``.
    """
    templar = Templar(loader=DataLoader())
    paths = [module_loader.find_plugin_with_context(name).plugin_resolved_path for name in modules]
    # In it, and not by its name: what was removed is not made anew, and nobody can put another one there.
    os.chdir(kept)
    constants.DEFAULT_LOCAL_TMP = "."
    for name, path in zip(modules, paths, strict=True):
        # The task that needs it says why it cannot be built.
        with contextlib.suppress(Exception):
            modify_module(
                module_name=name.rpartition(".")[2],
                module_path=path,
                module_args={},
                templar=templar,
                task_vars={"ansible_python_interpreter": "/usr/bin/python3"},
                module_compression=constants.config.get_config_value("DEFAULT_MODULE_COMPRESSION"),
            )
    try:
        os.kill(run, 0)
    except ProcessLookupError:
        # It ended, and may have found a file that was not there when it listed what to remove.
        shutil.rmtree(kept, ignore_errors=True)
