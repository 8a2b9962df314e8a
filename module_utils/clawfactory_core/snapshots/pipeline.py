"""The two processes that make an archive: one reads the state and packs it, the other encrypts what it is given."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, BinaryIO, cast

from ..adapters.age import encrypt_stream
from ..adapters.zstd import compressor
from ..errors import Conflict, CoreError
from .capture import RESERVED, Limits, Walk
from .descriptors import WriteBehind
from .digests import Digester
from .index import IndexReader, IndexWriter, Parent
from .manifest import Notes
from .records import timestamp
from .rules import Rules
from .script import SCRIPT, SCRIPT_NAME
from .sources import Databases
from .stored_file import CHUNK, Outputs
from .storing import Storing
from .tar_writer import TarWriter
from .twin import Twin
from .worker import Confinement, Report, Worker, wait

_PIPE_BYTES = 1 << 20
_SECONDS_BETWEEN_REPORTS = 0.5
_FREE_SPACE_EVERY = 64 << 20
#: A reader refuses what unpacks to more than 2000 times its size, above 1 GiB and without holes; warn well before.
_LARGE = 1 << 30
_SUSPICIOUS_RATIO = 1000


@dataclass(frozen=True)
class Task:
    """What the processes need to know; descriptors are the caller's and stay open in its process.

    :param header: content of ``.clawfactory/snapshot.json``.
    :param state: descriptor of the state directory; ``uid`` and ``gid`` are its owner.
    :param started_ns: now; ``parent_started_ns`` is when the parent began.
    :param index: descriptor of the parent's index, ``None`` for a full snapshot.
    :param new_index: descriptor of an empty file, open for reading and writing.
    :param target: descriptor of the empty archive.
    :param private: further descriptors that the processes must not keep.
    """

    header: dict[str, Any]
    state: int
    uid: int
    gid: int
    key: bytes
    rules: Rules
    limits: Limits
    started_ns: int
    parent_started_ns: int
    index: int | None
    new_index: int
    target: int
    recipients: tuple[str, ...]
    min_free_bytes: int
    private: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of it: results of the process that read and of the one that encrypted."""

    read: dict[str, Any]
    written: dict[str, Any]


def run_pipeline(task: Task, on_progress: Callable[[int, int], None]) -> Outcome:
    """Make the archive; it is complete and synced when this returns.

    :param on_progress: told bytes done and bytes in all; 0 of 0 until it is known how many there are.
    :raises CoreError: why one of the processes failed; the archive is of no use then.
    """
    # Before the fork: afterwards, one process may not see the file system any more.
    packer = compressor()
    reading, writing = os.pipe2(os.O_CLOEXEC)
    confinement = Confinement(task.state, task.uid, task.gid) if os.geteuid() == 0 else None
    workers = []
    try:
        with contextlib.suppress(OSError):
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        workers.append(Worker(lambda report: _encrypt(task, reading, (writing,)), None))
        workers.append(Worker(lambda report: _read(task, writing, (reading,), packer, report), confinement))
    except BaseException:
        for worker in workers:
            worker.stop()
        raise
    finally:
        os.close(reading)
        os.close(writing)
    wait(workers, lambda message: on_progress(message["done"], message["total"]))
    encrypting, packing = workers
    # When the one that encrypts fails, the other one fails too; not the other way round.
    for worker in (encrypting, packing):
        if worker.failure is not None:
            raise worker.failure.error
    return Outcome(packing.result, encrypting.result)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _encrypt(task: Task, reading: int, others: Sequence[int]) -> dict[str, Any]:
    _close([*others, *task.private])
    target = _Archive(task.target, task.min_free_bytes)
    with open(reading, "rb", buffering=_PIPE_BYTES) as source:
        encrypt_stream(source, cast(BinaryIO, target), task.recipients)
    os.fsync(task.target)
    return {"sha256": target.digest.hexdigest(), "size": target.size}


class _Archive:
    """Counts and digests what is written, and leaves the disk some room."""

    def __init__(self, descriptor: int, min_free_bytes: int) -> None:
        self.size = 0
        self.digest = hashlib.sha256()
        self._descriptor = descriptor
        self._min_free = min_free_bytes
        self._next_look = 0
        self._behind = WriteBehind(descriptor)

    def write(self, data: bytes) -> int:
        if self.size >= self._next_look:
            self._next_look = self.size + _FREE_SPACE_EVERY
            found = os.fstatvfs(self._descriptor)
            free = found.f_bavail * found.f_frsize
            if free < self._min_free:
                raise Conflict(
                    f"only {free} bytes are left where snapshots are written, less than the {self._min_free} to keep "
                    "free; prune snapshots or make room"
                )
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self.digest.update(data)
        self.size += len(data)
        self._behind.grown(self.size)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


def _read(task: Task, writing: int, others: Sequence[int], packer: Any, report: Report) -> dict[str, Any]:
    _close([*others, task.target, *task.private])
    clock = _Clock(task.limits.max_seconds, report)
    notes = Notes()
    databases = Databases(task.limits, notes)
    digester = Digester(task.key)
    with contextlib.ExitStack() as stack:
        # Of a full snapshot, compression and encryption have the processors busy as it is.
        comparing = task.index is not None and len(os.sched_getaffinity(0)) > 1
        twin = stack.enter_context(Twin(digester, CHUNK)) if comparing else None
        stack.callback(databases.close)
        clock.begin(_first_look(task, databases, clock))
        output = stack.enter_context(open(writing, "wb", buffering=_PIPE_BYTES))
        sink = stack.enter_context(packer.stream_writer(output, closefd=False))
        tar = TarWriter(sink, task.uid, task.gid)
        parent = None
        if task.index is not None:
            parent = Parent(IndexReader(task.index), task.parent_started_ns, notes.delete)
        outputs = Outputs(tar, IndexWriter(task.new_index), digester, notes, parent, clock.tick, twin)
        finished = _pack(task, outputs, databases)
        tar.finish()
        clock.end()
    _warn_of_ratio(notes, tar.size - tar.holes, sink.tell())
    return {
        "finished": finished,
        "count": notes.count,
        "bytes": notes.bytes,
        "disk": notes.disk,
        "left_out": notes.listed(),
        "left_out_count": notes.left_out_count,
        "changed": notes.changed,
        "warnings": notes.warnings,
    }


def _first_look(task: Task, databases: Databases, clock: _Clock) -> int:
    """Open the databases together. :returns: bytes of the state."""
    total = 0
    walk = Walk(task.state, task.rules, task.limits, lambda path, reason: None)
    for entry in walk:
        clock.tick(0)
        if entry.kind == "f":
            total += entry.found.st_size
            databases.open_together(entry, walk)
    return total


def _pack(task: Task, to: Outputs, databases: Databases) -> str:
    header = json.dumps(task.header, indent=1).encode() + b"\n"
    to.tar.file(RESERVED + b"/snapshot.json", 0o600, task.started_ns, header)
    to.tar.file(SCRIPT_NAME, 0o700, task.started_ns, SCRIPT)
    Storing(to, task.limits).run(Walk(task.state, task.rules, task.limits, to.notes.left_out), databases)
    finished = timestamp(datetime.now(timezone.utc))
    documents = [(b"manifest.json", to.notes.manifest(finished))]
    if to.parent is not None:
        documents.insert(0, (b"changes", to.notes.changes()))
    for name, (size, pieces) in documents:
        to.tar.begin(RESERVED + b"/" + name, 0o600, task.started_ns, size)
        for piece in pieces:
            to.tar.write(piece)
        to.tar.end()
    return finished


def _warn_of_ratio(notes: Notes, plain: int, packed: int) -> None:
    if plain > _LARGE and plain > packed * _SUSPICIOUS_RATIO:
        notes.warn(
            f"{plain} bytes became {packed}: the state is mostly the same over and over. Readers take such archives "
            "for attacks; exclude what repeats, or raise their max_ratio to restore it"
        )


class _Clock:
    """Progress and the limit of time."""

    def __init__(self, max_seconds: float, report: Report) -> None:
        self._total = 0
        self._done = 0
        self._max_seconds = max_seconds
        self._end = time.monotonic() + max_seconds
        self._next = 0.0
        self._report = report

    def tick(self, done: int) -> None:
        """Count bytes. :raises CoreError: the time is over."""
        self._done += done
        now = time.monotonic()
        if now >= self._next:
            if now > self._end:
                raise CoreError(
                    f"the snapshot took longer than max_seconds ({self._max_seconds:g}) and was given up; exclude "
                    "what does not belong in it, or raise the limit"
                )
            self._next = now + _SECONDS_BETWEEN_REPORTS
            # Not all of it: files that changed are read again.
            self._report({"done": min(self._done, self._total), "total": self._total})

    def begin(self, total: int) -> None:
        """Now it is known how many bytes there are."""
        self._total, self._done, self._next = total, 0, 0.0

    def end(self) -> None:
        """All is read."""
        self._report({"done": self._total, "total": self._total})
