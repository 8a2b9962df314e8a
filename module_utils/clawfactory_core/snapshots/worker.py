"""Forked children that read archives: one decrypts, one unpacks as the bot's own user and locked into its directory."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import selectors
import signal
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from ..adapters.age import Damaged, WrongKey
from ..errors import Conflict, CoreError, InvalidInput, MissingDependency
from .tar_reader import BadArchive, EndsEarly

#: Sends one message to the parent.
Report = Callable[[dict[str, Any]], None]
_ERRORS = {kind.__name__: kind for kind in (BadArchive, Conflict, CoreError, Damaged, InvalidInput, WrongKey)}
_MAX_MEMORY = 6 << 30
_MAX_MESSAGE = 64 << 20
# linux/prctl.h and linux/sched.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Confinement:
    """Whom a child becomes, and where it is locked in.

    :param root: descriptor of a directory. Root makes it the child's ``/``; anybody else only starts there.
    """

    root: int
    uid: int
    gid: int


@dataclass
class Failure:
    """Why a child gave no result.

    :param early: its input ended too soon; whoever feeds it may know better why.
    """

    error: CoreError
    early: bool


class Worker:
    """A running child.

    :param task: runs in the child; what it returns is the result. It must not need anything that is imported later.
    """

    def __init__(self, task: Callable[[Report], Any], confinement: Confinement | None = None) -> None:
        libc = ctypes.CDLL(None)
        self.result: Any = None
        self.failure: Failure | None = Failure(CoreError("a worker process ended without a result"), early=False)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reading)
            _run(task, confinement, os.fdopen(writing, "wb", 0), libc, parent)
        os.close(writing)
        self.messages: BinaryIO = os.fdopen(reading, "rb", 0)

    def stop(self) -> None:
        """End the child, whatever it does, and wait for it."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._reap()

    def handle(self, message: dict[str, Any]) -> None:
        """Take a child's last message."""
        if "error" in message:
            error = _ERRORS.get(message["error"], CoreError)(message["text"])
            self.failure = Failure(error, bool(message["early"]))
        elif "result" in message:
            self.result = message["result"]
            self.failure = None

    def _reap(self) -> None:
        self.messages.close()
        os.waitpid(self.pid, 0)
        self.pid = 0


def wait(workers: Sequence[Worker], on_message: Callable[[dict[str, Any]], None]) -> None:
    """Wait until all children have ended; other messages than results and errors go to ``on_message``.

    An exception, that of ``on_message`` too, ends all of them.
    """
    buffers = {worker: bytearray() for worker in workers}
    try:
        with selectors.DefaultSelector() as selector:
            for worker in workers:
                selector.register(worker.messages, selectors.EVENT_READ, worker)
            while selector.get_map():
                for key, _ in selector.select():
                    worker = key.data
                    data = worker.messages.read(1 << 16)
                    if not data:
                        selector.unregister(worker.messages)
                    _messages(worker, buffers[worker], data, on_message)
    finally:
        for worker in workers:
            worker.stop()


def _messages(worker: Worker, buffer: bytearray, data: bytes, on_message: Callable[[dict[str, Any]], None]) -> None:
    buffer += data
    if len(buffer) > _MAX_MESSAGE:
        raise CoreError("a worker process says too much")
    if b"\n" not in data:
        return
    *lines, rest = bytes(buffer).split(b"\n")
    buffer[:] = rest
    for line in lines:
        message = json.loads(line)
        if "error" in message or "result" in message:
            worker.handle(message)
        else:
            on_message(message)


def _run(
    task: Callable[[Report], Any],
    confinement: Confinement | None,
    output: BinaryIO,
    libc: ctypes.CDLL,
    parent: int,
) -> NoReturn:
    def report(message: dict[str, Any]) -> None:
        data = memoryview(json.dumps(message).encode() + b"\n")
        while data:
            data = data[output.write(data) :]

    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))
        os.umask(0o077)
        if confinement is not None:
            _confine(confinement, libc)
        # After the change of user, which takes it back.
        _follow(libc, parent)
        # What was in the parent's memory, a private key too, is in this one's: no other process of the user may look.
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        report({"result": task(report)})
        status = 0
    except BaseException as error:  # noqa: BLE001 - the parent says it, whatever it is
        with contextlib.suppress(OSError):
            report(_describe(error))
    finally:
        os._exit(status)


def _describe(error: BaseException) -> dict[str, Any]:
    text = str(error)
    kind = type(error).__name__
    if isinstance(error, MissingDependency):
        kind = "CoreError"
    elif isinstance(error, EndsEarly):
        kind = "BadArchive"
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        kind, text = "Conflict", "the disk is full; make room and run again"
    elif isinstance(error, MemoryError):
        kind, text = "BadArchive", "it needs more memory than any snapshot should"
    elif not isinstance(error, CoreError):
        kind, text = "CoreError", f"{kind}: {text}"
    return {"error": kind, "text": text, "early": isinstance(error, EndsEarly)}


def _follow(libc: ctypes.CDLL, parent: int) -> None:
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _confine(confinement: Confinement, libc: ctypes.CDLL) -> None:
    _close_directories(confinement.root)
    os.fchdir(confinement.root)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.geteuid() == 0:
        # Not every container leaves root these rights; what follows does not rely on them.
        libc.unshare(_CLONE_NEWNET)
        with contextlib.suppress(PermissionError):
            os.chroot(".")
        os.setgroups([])
        os.setresgid(confinement.gid, confinement.gid, confinement.gid)
        os.setresuid(confinement.uid, confinement.uid, confinement.uid)
    elif (os.geteuid(), os.getegid()) != (confinement.uid, confinement.gid):
        raise InvalidInput(
            f"only root can restore files for user {confinement.uid}:{confinement.gid}; this is user {os.geteuid()}"
        )


def _close_directories(kept: int) -> None:
    """Close what was open before the fork and leads out of the new root: a lock may be held on a directory."""
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        # That of the listing is closed by now.
        with contextlib.suppress(OSError):
            if descriptor != kept and stat.S_ISDIR(os.fstat(descriptor).st_mode):
                os.close(descriptor)
