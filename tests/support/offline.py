"""This machine as it would be without any network and with an empty engine, for tests.

A process in namespaces of its own with a root directory that shows this machine's files: what is written there goes
into memory and is gone with the process, and so is its engine. The machine and its engine notice nothing. Needs root.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.support.playbooks import REPOSITORY, PlaybookRun
from tests.support.polling import wait_for

_NAMESPACES = ("--mount", "--net", "--pid", "--uts", "--ipc")
# /run is empty: sockets and pid files there are of this machine's services. The last shell buries what daemons leave.
_START = """set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/written" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/written,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs var/lib/docker
for shown in "${@:2}"; do mount --rbind "$shown" "$1/root$shown"; done
ip link set lo up
exec chroot . sh -c 'dockerd > /var/log/dockerd.log 2>&1 & sleep infinity & wait'
"""
_PLAY = """import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.support.playbooks import ansible_playbook
inventory = Path("/run/hosts.yml")
inventory.write_text(sys.argv[3])
run = ansible_playbook(sys.argv[2], inventory)
json.dump([run.returncode, run.report, run.stderr], sys.stdout)
"""


class OfflineMachine:
    """That machine while the context lasts.

    :param directory: an empty one, to mount it on.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._first = 0

    def __enter__(self) -> OfflineMachine:
        # The root directory shows what is mounted in it as empty; of that, the tests need only themselves.
        shown = [str(path) for path in (REPOSITORY, Path(sys.base_prefix)) if path.stat().st_dev != os.stat("/").st_dev]
        arguments = ["bash", "-c", _START, "bash", str(self._directory), *shown]
        self._process = subprocess.Popen(["unshare", *_NAMESPACES, "--fork", "--kill-child", *arguments])
        try:
            self._first = wait_for("the first process", self._child, 10)
            wait_for("an engine", lambda: self.run(["docker", "info"]).returncode == 0, 30)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        # With the first process of its namespace every other one ends, and with the last one its mounts.
        self._process.kill()
        self._process.wait(timeout=10)

    def run(self, command: Sequence[str], timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run ``command`` there and wait for it; the caller looks at the exit status."""
        return subprocess.run(self.command(command), capture_output=True, text=True, timeout=timeout, check=False)

    def play(self, playbook: str, inventory: str) -> PlaybookRun:
        """Run a playbook of the repository there.

        :param inventory: text of the inventory.
        """
        done = self.run([sys.executable, "-P", "-c", _PLAY, str(REPOSITORY), playbook, inventory], timeout=300)
        assert done.returncode == 0, done.stderr
        return PlaybookRun(*json.loads(done.stdout))

    def command(self, command: Sequence[str]) -> list[str]:
        """``command`` as this machine has to call it to have it run there."""
        return ["nsenter", "--target", str(self._first), *_NAMESPACES, "--root", "--wd", *command]

    def load(self, *images: str) -> None:
        """Copy images of this machine's engine into the one there."""
        with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as save:
            subprocess.run(self.command(["docker", "load", "--quiet"]), stdin=save.stdout, check=True, timeout=300)
        assert save.returncode == 0, f"docker save {' '.join(images)}"

    def written(self, path: Path) -> list[str]:
        """Files below ``path`` that were made or changed there, in order."""
        script = 'cd "$0" && test ! -e "$1" || find "$1" -not -type d'
        seen = ["nsenter", "--target", str(self._first), "--mount"]
        command = [*seen, "sh", "-c", script, str(self._directory / "written"), f".{path}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        return sorted(line.removeprefix(".") for line in done.stdout.splitlines())

    def _child(self) -> int:
        assert self._process is not None
        assert self._process.poll() is None, "the machine without network ended at once"
        number = self._process.pid
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        # Before it is the last program of the script, its root and its engine are still those of this machine.
        started = [int(child) for child in children if Path(f"/proc/{child}/comm").read_text() == "sh\n"]
        return started[0] if started else 0
