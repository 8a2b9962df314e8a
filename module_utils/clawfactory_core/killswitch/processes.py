"""Finds the processes of containers by their cgroups, and kills them without asking an engine.

A container that forks as fast as it can is frozen first: nothing in a frozen cgroup can fork, so the list that is
killed is complete. Where the kernel kills a whole cgroup at once (``cgroup.kill``), that is done too.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

_ID = re.compile(r"[0-9a-f]{64}")
_DEAD = frozenset("ZXx")
# Number of its threads, behind the name in /proc/<pid>/stat (man 5 proc).
_THREADS = 17
#: Programs that make a process in a container; they end when it has become what it is to be.
_RUNTIMES = frozenset({"runc", "crun"})
_FROZEN = frozenset({"FROZEN", "FREEZING"})
_PAUSE = 0.004


@dataclass(frozen=True)
class Process:
    """A process in a container.

    :param containers: ids in the paths of its cgroups: its container's, and of those that one is in. Of a process that
        is to be killed no more than those that may be frozen and killed as a whole.
    :param innermost: ids in the last parts of these paths.
    :param uid: whom it runs as.
    :param cgroups: ``/proc/<pid>/cgroup``.
    :param parent: its parent's number.
    """

    pid: int
    containers: frozenset[str]
    innermost: frozenset[str]
    uid: int
    cgroups: str
    parent: int = 0


@dataclass(frozen=True)
class Hierarchy:
    """A mounted cgroup hierarchy.

    :param controllers: of version 1; empty for version 2.
    :param root: path in the hierarchy that is mounted at ``mount``.
    """

    controllers: frozenset[str]
    root: str
    mount: Path

    def directory(self, cgroups: str) -> Path | None:
        """Where the cgroup of a process is in this hierarchy, by its ``/proc/<pid>/cgroup``."""
        for line in cgroups.splitlines():
            number, controllers, path = line.split(":", 2)
            ours = number == "0" if not self.controllers else bool(self.controllers & set(controllers.split(",")))
            base = self.root.rstrip("/")
            if ours and (path == base or path.startswith(base + "/")):
                return Path(f"{self.mount}{path[len(base) :]}")
        return None


@dataclass
class Killed:
    """What was done.

    :param processes: those that were found, each once.
    :param left: those that did not die in time.
    """

    processes: list[Process]
    left: list[Process]


class Processes:
    """The machine's processes.

    :param proc: ``/proc``.
    :param send: sends SIGKILL to a process that is still in the same cgroup; tests have their own.
    """

    def __init__(self, proc: Path = Path("/proc"), send: Callable[[Process, Path], None] | None = None) -> None:
        self._proc = proc
        self._send = send or _send

    def in_containers(self) -> list[Process]:
        """All living processes that are in some container."""
        found = []
        for name in os.listdir(self._proc):
            if not name.isdigit():
                continue
            try:
                cgroups = _read(self._proc / name / "cgroup")
                ids = frozenset(_ID.findall(cgroups))
                if not ids:
                    continue
                state, parent = self._stat(name)
                if state not in _DEAD:
                    innermost = frozenset(
                        _ID.findall("\n".join(line.rpartition("/")[2] for line in cgroups.splitlines()))
                    )
                    found.append(Process(int(name), ids, innermost, self._uid(name), cgroups, parent))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended
        return found

    def freeze(self, processes: Iterable[Process]) -> None:
        """Let nothing in the cgroups of these processes run or fork; does not wait for it."""
        self._write(processes, {"cgroup.freeze": "1", "freezer.state": "FROZEN"})

    def kill(self, find: Callable[[], list[Process]], seconds: float) -> Killed:
        """Kill what ``find`` finds until it finds nothing more; at least once, however little time there is."""
        seen: dict[int, Process] = {}
        deadline = time.monotonic() + seconds
        while True:
            found = find()
            if not found:
                return Killed(list(seen.values()), found)
            self.freeze(found)
            everything = self._complete(found)
            self._write(found, {"cgroup.kill": "1"})
            for process in everything:
                seen[process.pid] = process
                self._send(process, self._proc)
            # SIGKILL waits for a frozen process of version 1 to thaw; it then dies before it runs on.
            self._write(found, {"freezer.state": "THAWED", "cgroup.freeze": "0"})
            if time.monotonic() > deadline:
                return Killed(list(seen.values()), found)
            time.sleep(_PAUSE)

    def being_made(self) -> list[Process]:
        """Processes in containers that a runtime is still making: the first ones of containers and of ``docker exec``.

        Told by their parents, which no process in a container can choose. Reads no memory of theirs, as their command
        lines would: a process can let that hang.
        """
        runtimes = self._runtimes()
        found = [process for process in self.in_containers() if process.parent in runtimes] if runtimes else []
        # A program of that name in the container itself makes nothing that concerns anybody.
        return [one for one in found if not one.innermost & set(_ID.findall(runtimes[one.parent]))]

    def _runtimes(self) -> dict[int, str]:
        """Cgroups of those that run, by their numbers."""
        found = {}
        for name in os.listdir(self._proc):
            if name.isdigit():
                try:
                    if _read(self._proc / name / "comm").rstrip("\n") in _RUNTIMES:
                        found[int(name)] = _read(self._proc / name / "cgroup")
                except (FileNotFoundError, ProcessLookupError):
                    continue  # it has ended
        return found

    def is_frozen(self, process: Process) -> bool:
        """Whether the cgroup of a process's container is frozen, or about to be."""
        for hierarchy in self.hierarchies():
            directory = _of_container(hierarchy, process)
            if directory is not None and (
                _control(directory / "cgroup.freeze") == "1" or _control(directory / "freezer.state") in _FROZEN
            ):
                return True
        return False

    def end_frozen(self, process: Process) -> None:
        """End a process of a frozen cgroup, and let it run no more; nothing else in the cgroup thaws."""
        self._send(process, self._proc)
        for hierarchy in self.hierarchies():
            # In version 2 a frozen process dies of it. In version 1 it dies as it leaves the cgroup, before it runs on.
            directory = _of_container(hierarchy, process) if hierarchy.controllers else None
            if directory is not None and process.pid in _pids(directory):
                with contextlib.suppress(OSError):  # it has died meanwhile
                    (directory.parent / "cgroup.procs").write_text(str(process.pid))

    def hierarchies(self) -> list[Hierarchy]:
        """Those that freeze and kill: version 2, and the freezer of version 1."""
        found = []
        for line in _read(self._proc / "self" / "mountinfo").split("\n")[:-1]:
            before, _, after = line.partition(" - ")
            fields, (kind, _source, options) = before.split(), after.split()[:3]
            controllers = frozenset({"freezer"} & set(options.split(",")))
            if kind == "cgroup2" or (kind == "cgroup" and controllers):
                found.append(Hierarchy(controllers, fields[3], Path(fields[4])))
        return found

    def _complete(self, found: list[Process]) -> list[Process]:
        """These and what was forked in their cgroups before they froze."""
        by_pid: dict[int, Process] = {process.pid: process for process in found}
        for hierarchy in self.hierarchies():
            # Each cgroup once: a fork bomb has a thousand processes in one.
            directories = {directory: one for one in found if (directory := _of_container(hierarchy, one))}
            for directory, one in directories.items():
                for pid in _pids(directory):
                    if pid not in by_pid:
                        by_pid[pid] = replace(one, pid=pid)
        return list(by_pid.values())

    def _write(self, processes: Iterable[Process], values: Mapping[str, str]) -> None:
        """Write control files of the processes' cgroups, where there are such."""
        for hierarchy in self.hierarchies():
            directories = {_of_container(hierarchy, process) for process in processes}
            for directory in directories - {None}:
                for name, value in values.items():
                    path = f"{directory}/{name}"
                    try:
                        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
                    except OSError:
                        continue  # not a file of this version, or the cgroup has just gone
                    try:
                        os.write(descriptor, value.encode())
                    except OSError:
                        pass  # the cgroup goes; whoever is still in it is found again
                    finally:
                        os.close(descriptor)

    def _stat(self, name: str) -> tuple[str, int]:
        """A process's state and its parent's number. One whose first thread has ended runs on in the others."""
        fields = _read(self._proc / name / "stat").rpartition(")")[2].split()
        state = "S" if len(fields) > _THREADS and fields[0] in _DEAD and int(fields[_THREADS]) > 1 else fields[0]
        return state, int(fields[1])

    def _uid(self, name: str) -> int:
        for line in _read(self._proc / name / "status").split("\n"):
            if line.startswith("Uid:"):
                return int(line.split()[1])
        return 0


def _of_container(hierarchy: Hierarchy, process: Process) -> Path | None:
    """The cgroup of a process's container, and never one around it.

    A container that is just being made has some of its cgroups already, and in other hierarchies still those of whoever
    makes it: of the engine, which on a machine that is a container itself lie in that one's.
    """
    directory = hierarchy.directory(process.cgroups)
    while directory is not None and directory != hierarchy.mount:
        if process.containers & set(_ID.findall(directory.name)):
            return directory
        directory = directory.parent if directory.parent != directory else None
    return None


def _read(path: Path) -> str:
    """A file of the kernel's, whose lines end with LF alone: a process may give itself a name of any other bytes."""
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def _control(path: Path) -> str:
    try:
        return _read(path).strip()
    except OSError:
        return ""  # not a file of this version, or the cgroup has just gone


def _pids(directory: Path) -> list[int]:
    try:
        return [int(line) for line in _read(directory / "cgroup.procs").split()]
    except OSError:
        return []


def _send(process: Process, proc: Path) -> None:
    """By a descriptor of the process: its number may belong to another one meanwhile, which is in another cgroup."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return  # it has ended, and its number may be that of a thread by now
    try:
        cgroups = _read(proc / str(process.pid) / "cgroup")
        if cgroups == process.cgroups or process.containers & set(_ID.findall(cgroups)):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        pass  # it has ended
    finally:
        os.close(descriptor)
