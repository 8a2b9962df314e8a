"""Runs the module of its own name and shows meanwhile how far it is.

A module cannot print before it ends. It keeps its progress in a file on the machine (``ProgressFile``), which is read
here over a second channel of the same connection. Also under the names of the other modules that take long, by links.
"""

from __future__ import annotations

import copy
import shlex
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import merge_hash

_MODULE_UTILS = str(Path(__file__).resolve().parents[3] / "module_utils")
if _MODULE_UTILS not in sys.path:
    sys.path.insert(0, _MODULE_UTILS)

# Found by the path above.
from clawfactory_core.snapshots.progress_file import MAX_BYTES, parse_progress, progress_path  # noqa: E402

#: Seconds between two looks; what is over before the first shows nothing.
INTERVAL = 2.0
#: Seconds after which a line comes although it says the same: waiting for the disk tells no bytes.
REPEAT = 10.0
_OPERATIONS = {"present": "snapshot", "staged": "restore", "extracted": "extract"}


class ActionModule(ActionBase):
    """See the module."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ansible's entry. :returns: what the module returns."""
        result = super().run(tmp, task_vars)
        operation = self._operation()
        ending = threading.Event()
        host = str((task_vars or {}).get("inventory_hostname"))
        watching = threading.Thread(target=self._watch, args=(operation, host, ending), daemon=True)
        if operation and not self._task.check_mode:
            watching.start()
        try:
            return dict(merge_hash(result, self._execute_module(task_vars=task_vars)))
        finally:
            ending.set()
            self._remove_tmp_path(self._connection._shell.tmpdir)

    def _operation(self) -> str:
        """What the module is about to do; empty if that takes no time."""
        arguments = self._task.args
        if "verify" in arguments:
            return "verify" if arguments["verify"] not in ("no", False) else ""
        return _OPERATIONS.get(str(arguments.get("state", "present")), "")

    def _watch(self, operation: str, host: str, ending: threading.Event) -> None:
        # What a connection notes of the command it runs must not get to the module's.
        beside = copy.copy(self)
        beside._connection = copy.copy(self._connection)
        beside._connection.become = copy.copy(self._connection.become)
        directory = Path(str(self._task.args.get("root"))) / "snapshots" / str(self._task.args.get("bot"))
        # The directory is not root's own: no link is followed, and a FIFO not waited for.
        command = (
            f"dd if={shlex.quote(str(progress_path(directory, operation)))} bs={MAX_BYTES} count=1 "
            "iflag=nofollow,nonblock status=none 2>/dev/null || :"
        )
        shown = None
        while shown is None or not ending.wait(INTERVAL):
            try:
                text = str(beside._low_level_execute_command(command)["stdout"])
            except (AnsibleError, OSError):
                return
            shown = shown or Shown(text)
            line = shown.line(text)
            if line and not ending.is_set():
                Display().display(f"{host}: {line}")


class Shown:
    """Which of the reports found are worth a line.

    :param left: what was there at the beginning: if anything, of a run that was killed.
    """

    def __init__(self, left: str) -> None:
        self._last = left
        self._live = False
        self._next = 0.0

    def line(self, text: str) -> str:
        """The line for what a look found; empty if it is nothing, or told just now."""
        new, self._last = text != self._last, text
        report = parse_progress(text.encode())
        self._live = self._live or new
        if report is None or not self._live or not (new or time.monotonic() > self._next):
            return ""
        self._next = time.monotonic() + REPEAT
        return report.text()
