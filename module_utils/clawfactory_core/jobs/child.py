"""A job in a process of its own: how the service starts it and hears of it, and what that process does.

The service writes the work as one JSON line to the process's standard input and keeps that open: when it closes, for
whatever reason, the process ends itself and all it started. One process is started ahead, so that the next job does
not wait for Python and its imports; it knows of no bot before it is told, and does one job only. The process writes
JSON lines: ``{"progress": {…}}``, and at the end ``{"result": {…}}`` or ``{"error": {"status", "title", "detail"}}``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

from ..errors import MissingDependency
from ..snapshots.progress import Progress
from .kinds import WORK, do_work
from .protocol import CONTENTS_SECONDS, QUESTIONS, Refusal
from .work import Work

#: Seconds that work of a kind may take at most; a promotion waits for a snapshot and twice for its gateway.
LIMITS = {
    "snapshot": 43200.0, "promotion": 50400.0, "rollback": 50400.0, "resume": 3600.0, "memory_backup": 3600.0,
    "snapshot_verify": 43200.0, "snapshot_restore": 86400.0, "config": 3600.0, "config_revert": 3600.0,
    "snapshot_contents": CONTENTS_SECONDS,
}  # fmt: skip
_LIMIT = 120.0
#: Long work that is in no hurry: whoever waits for a page, a promotion or the bot itself goes first. The units that do
#: the same by schedule have this nice value, too.
_GIVES_WAY = frozenset({"snapshot", "snapshot_verify", "snapshot_contents"})
_NICE = 10
_AUTOGROUP = Path("/proc/self/autogroup")
_LINE_BYTES = 4 << 20
_MAX_RESULT = 65536
_UNANSWERED = "the process that did it ended without a word; the log of clawfactory-jobs may say why"
# What the operator's shell had set must not steer git or docker.
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_LOG = logging.getLogger("clawfactory.jobs")


class Interrupted(Refusal):
    """The work ended in the middle."""

    def __init__(self, detail: str) -> None:
        super().__init__(500, "Interrupted", detail)


class Children:
    """Starts processes.

    :param command: of the process; it calls :func:`serve_parent`.
    :param sources: files that change when what the process has imported does; one that was started before is not used.
    """

    def __init__(self, command: tuple[str, ...], sources: tuple[Path, ...] = ()) -> None:
        self._command = command
        self._sources = sources
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._spare: tuple[subprocess.Popen[bytes], list[tuple[int, ...]]] | None = None
        self._ended = False

    def prepare(self) -> None:
        """Have a process ready for the next job."""
        with self._lock:
            if self._ended or self._spare is not None:
                return
            stamps = self._stamps()
            # Whoever asks for the next job is told what is wrong.
            with contextlib.suppress(OSError):
                self._spare = self._start(), stamps

    def run(self, work: Work, report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Have it done, and wait.

        :param report: gets the progress, as :mod:`.protocol` has it.
        :raises Interrupted: it was not done to its end.
        :raises Refusal: it failed.
        """
        limit = LIMITS.get(work.kind, _LIMIT)
        overdue = threading.Event()
        with self._process(work) as process:

            def give_up() -> None:
                overdue.set()
                _end(process)

            clock = threading.Timer(limit, give_up)
            clock.daemon = True
            clock.start()
            try:
                found = _listen(process, report)
            finally:
                clock.cancel()
        if found is not None:
            return found
        raise Interrupted(f"it took longer than {limit:.0f} seconds and was ended" if overdue.is_set() else _UNANSWERED)

    def end(self) -> None:
        """End all of them, and start none any more."""
        with self._lock:
            self._ended = True
            running = list(self._running)
            if self._spare is not None:
                running.append(self._spare[0])
                self._spare = None
        for process in running:
            _end(process)

    @contextlib.contextmanager
    def _process(self, work: Work) -> Iterator[subprocess.Popen[bytes]]:
        with self._lock:
            if self._ended:
                raise Interrupted("the jobs service is ending; ask again")
            try:
                process = self._take_spare() or self._start()
            except OSError as error:
                raise Refusal(500, "Failed", f"{self._command[0]} cannot be started: {error}") from error
            self._running.add(process)
        try:
            assert process.stdin is not None  # noqa: S101 - for the type checker: it was asked for above
            # A process that died at once is found out by its silence.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(_spec(work))
                process.stdin.flush()
            yield process
        finally:
            _end(process)
            with self._lock:
                self._running.discard(process)
            self.prepare()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )

    def _take_spare(self) -> subprocess.Popen[bytes] | None:
        if self._spare is None:
            return None
        (process, stamps), self._spare = self._spare, None
        if process.poll() is None and stamps == self._stamps():
            return process
        process.kill()  # it has begun nothing
        _end(process)
        return None

    def _stamps(self) -> list[tuple[int, ...]]:
        return [_stamp(path) for path in self._sources]


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _listen(process: subprocess.Popen[bytes], report: Callable[[dict[str, Any]], None]) -> dict[str, Any] | None:
    """What it says; ``None`` if it ends without a result.

    :raises Refusal: it says that it failed.
    """
    assert process.stdout is not None  # noqa: S101 - for the type checker: it was asked for where it was made
    while True:
        line = process.stdout.readline(_LINE_BYTES)
        if not line.endswith(b"\n"):
            return None
        try:
            message = json.loads(line)
        except ValueError:
            _LOG.exception("process %d said what is not JSON", process.pid)
            return None
        if "progress" in message:
            report(message["progress"])
        elif "error" in message:
            raise Refusal(**message["error"])
        else:
            result: dict[str, Any] = message["result"]
            return result


def _end(process: subprocess.Popen[bytes]) -> None:
    """Have it end itself and all it started; kill it if it does not."""
    assert process.stdin is not None  # noqa: S101 - for the type checker: it was asked for where it was made
    with contextlib.suppress(BrokenPipeError, ValueError):  # it is gone, or somebody else is closing
        process.stdin.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        _LOG.error("process %d did not end itself; it is killed", process.pid)
        process.kill()
        process.wait()


def _spec(work: Work) -> bytes:
    found = {
        "bot": work.bot,
        "kind": work.kind,
        "actor": work.actor,
        "source": work.source,
        "options": dict(work.options),
    }
    return json.dumps(found).encode() + b"\n"


def serve_parent(root: Path) -> int:
    """Do what the service writes to standard input, and tell it on standard output.

    :returns: exit code: 0 done, 1 failed.
    """
    # Whatever a library prints goes to the log: standard output speaks to the service alone.
    with os.fdopen(os.dup(1), "wb") as output:
        os.dup2(2, 1)
        _import_ahead()
        line = sys.stdin.buffer.readline()
        if not line:
            return 0  # started ahead, and not needed
        found = json.loads(line)
        threading.Thread(target=_die_with_parent, daemon=True).start()
        work = Work(root, found["bot"], found["kind"], found["actor"], found["source"], found["options"])
        give_way(work.kind)
        failed, message = _work(work, output)
        _say(output, message)
    return 1 if failed else 0


def give_way(kind: str) -> None:
    """Leave the processors to others, where work of ``kind`` can wait; called by the leader of a session."""
    if kind not in _GIVES_WAY:
        return
    os.nice(_NICE)
    # Linux may weigh the session as a whole, and nice values only within it (sched(7), "The autogroup feature").
    with contextlib.suppress(OSError):  # it does not
        _AUTOGROUP.write_text(str(_NICE))


def _import_ahead() -> None:
    """What promotions need, which others wait for; everything else is imported by the work itself."""
    from ..adapters.git_repo import import_library
    from ..promotion import apply, info, plan  # noqa: F401

    # If it is missing, the job that needs it says so.
    with contextlib.suppress(MissingDependency):
        import_library()


def _work(work: Work, output: IO[bytes]) -> tuple[bool, dict[str, Any]]:
    if work.kind not in WORK:
        return True, {"error": Refusal(500, "Failed", f"there is no work {work.kind!r}").to_dict()}
    try:
        result = do_work(work, lambda progress: _say(output, {"progress": _progress(progress)}))
    except Refusal as refusal:
        return True, {"error": refusal.to_dict()}
    except Exception:  # noqa: BLE001 - whatever a bug raises: the log gets all of it, whoever asked gets to know
        traceback.print_exc()
        detail = "an error that nobody thought of; the log of clawfactory-jobs has it"
        return True, {"error": Refusal(500, "Failed", detail).to_dict()}
    if work.kind not in QUESTIONS and len(json.dumps(result)) > _MAX_RESULT:
        return False, {"result": {"note": f"done; what it says has more than {_MAX_RESULT} bytes"}}
    return False, {"result": result}


def _progress(progress: Progress) -> dict[str, Any]:
    return {
        "phase": progress.phase,
        "bytes": progress.done,
        "total": progress.total,
        "rate": progress.rate,
        "seconds_left": progress.remaining,
    }


def _say(output: IO[bytes], message: Mapping[str, Any]) -> None:
    # Nobody listens any more when the service is gone; then this process is about to end itself.
    with contextlib.suppress(BrokenPipeError):
        output.write(json.dumps(message).encode() + b"\n")
        output.flush()


def _die_with_parent() -> NoReturn:
    # Not by sys.stdin, whose lock the interpreter wants at its end.
    while os.read(0, 4096):
        pass
    # The whole group: git and the like that this process started. A promotion keeps a journal for this.
    with contextlib.suppress(ProcessLookupError):  # started by hand, it leads no group
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)
