"""The jobs of one bot: one at a time, in the order they were asked for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from .child import Interrupted
from .config_kinds import has_unsettled_config
from .kinds import check_request, source_of
from .protocol import HEARTBEAT_SECONDS, Refusal, Request
from .records import KEPT, JobFiles, JobRecord, new_id, now
from .work import Work

MAX_WAITING = 8
#: Seconds between two looks for a promotion that was cut short, ours or that of a playbook.
RESUME_SECONDS = 60.0
#: Seconds between two lines of ``follow``, at least.
FOLLOW_SECONDS = 0.2
_LOG = logging.getLogger("clawfactory.jobs")
Run = Callable[[Work, Callable[[dict[str, Any]], None]], dict[str, Any]]


class BotJobs:
    """Jobs of a bot, and the thread that does them.

    :param run: does the work and returns its result; raises :class:`.protocol.Refusal`.
    :param slots: is held while work is done, so that not all bots of the machine do theirs at once.
    """

    def __init__(self, root: Path, bot: str, run: Run, slots: threading.Semaphore) -> None:
        self._root = root
        self._bot = bot
        self._run = run
        self._slots = slots
        self._files = JobFiles(root / "jobs" / bot)
        self._changed = threading.Condition()
        self._ending = False
        self._busy = False
        self._jobs = {record.id: record for record in self._files.read()}
        self._cut_short = [record.id for record in self._jobs.values() if record.state == "running"]
        self._thread = threading.Thread(target=self._work, name=f"jobs of {bot}", daemon=True)

    def start(self) -> None:
        """Do what is waiting, and whatever is asked for from now on."""
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether work is being done."""
        with self._changed:
            return self._busy

    def end(self) -> None:
        """Begin no further job; what waits is done after the next start."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def ask(self, request: Request) -> JobRecord:
        """Accept a job and write it down.

        :raises Refusal: it is not accepted.
        """
        with self._changed:
            if self._ending:
                raise Refusal(503, "Ending", "the jobs service is ending; ask again in a moment")
            check_request(self._root, self._bot, request, self._jobs.values())
            waiting = sum(1 for job in self._jobs.values() if job.state == "queued")
            if waiting >= MAX_WAITING:
                raise Refusal(429, "Too many", f"{waiting} jobs of {self._bot} wait already; ask when some are done")
            job = JobRecord(
                id=new_id(max(self._jobs, default="")),
                kind=request.op,
                actor=request.fields["actor"],
                source=source_of(request),
                asked=now(),
                options={name: value for name, value in request.fields.items() if name not in ("actor", "source")},
            )
            try:
                self._files.write(job)
            except OSError as error:
                raise Refusal(500, "Failed", f"the job cannot be written down: {error}") from error
            self._put(job)
        _LOG.info("%s: %s asks for %s (%s): %s", self._bot, job.actor, job.kind, job.source, job.id)
        return job

    def get(self, job_id: str) -> JobRecord:
        """:raises Refusal: 404, there is none."""
        with self._changed:
            job = self._jobs.get(job_id)
        if job is None:
            raise Refusal(404, "No such job", f"{self._bot} has no job {job_id}; the last {KEPT} are kept")
        return job

    def latest(self, count: int) -> list[JobRecord]:
        """The newest jobs, newest first."""
        with self._changed:
            return [self._jobs[job_id] for job_id in sorted(self._jobs, reverse=True)[:count]]

    def follow(self, job_id: str, has_left: Callable[[], bool]) -> Iterator[JobRecord]:
        """A job now and whenever it changes, until it is over or the service ends.

        :param has_left: says whether nobody listens any more.
        :raises Refusal: 404, there is none.
        """
        job = self.get(job_id)
        while True:
            yield job
            if job.is_over:
                return
            time.sleep(FOLLOW_SECONDS)
            with self._changed:
                end = time.monotonic() + HEARTBEAT_SECONDS
                while self._jobs.get(job_id, job) is job and not self._ending and time.monotonic() < end:
                    self._changed.wait(min(end - time.monotonic(), 0.5))
                    if has_left():
                        return
                if self._ending and self._jobs.get(job_id, job) is job:
                    return
                job = self._jobs.get(job_id, job)

    def _is_ending(self) -> bool:
        with self._changed:
            return self._ending

    def _put(self, job: JobRecord) -> None:
        self._jobs[job.id] = job
        over = [job_id for job_id in sorted(self._jobs) if self._jobs[job_id].is_over]
        for job_id in over[: max(0, len(self._jobs) - KEPT)]:
            del self._jobs[job_id]
        self._changed.notify_all()

    def _update(self, job: JobRecord) -> None:
        # Nobody needs to know after a crash how far it was; that it is over is told when it is on the disk.
        if job.is_over:
            job = job.without_text()
        if job.progress is None or job.is_over:
            try:
                self._files.write(job)
            except OSError:
                _LOG.exception("%s: job %s cannot be written down", self._bot, job.id)
        with self._changed:
            self._put(job)

    def _work(self) -> None:
        self._recover()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ending or self._next() is not None, RESUME_SECONDS)
                if self._ending:
                    return
                job = self._next()
                self._busy = True
            try:
                if job is not None:
                    self._do(job)
                elif self._has_journal():
                    self._resume()
            finally:
                with self._changed:
                    self._busy = False

    def _next(self) -> JobRecord | None:
        waiting = sorted(job_id for job_id, job in self._jobs.items() if job.state == "queued")
        return self._jobs[waiting[0]] if waiting else None

    def _do(self, job: JobRecord) -> None:
        with self._slots:
            if self._is_ending():
                return  # it waits on
            job = replace(job, state="running", started=now())
            self._update(job)
            work = Work(self._root, self._bot, job.kind, job.actor, job.source, job.options)
            try:
                result = self._run(work, lambda progress: self._update(replace(job, progress=progress)))
            except Interrupted as interrupted:
                if self._is_ending():
                    return  # it stays written down as running, which the next start finds
                detail = f"{interrupted.detail}; {self._resume()}" if self._has_journal() else interrupted.detail
                self._fail(job, Refusal(interrupted.status, interrupted.title, detail))
            except Refusal as refusal:
                self._fail(job, refusal)
            except Exception:  # noqa: BLE001 - a bug must not end the thread that does all later jobs
                _LOG.exception("%s: job %s", self._bot, job.id)
                self._fail(job, Refusal(500, "Failed", "an error that nobody thought of; the log has it"))
            else:
                self._update(replace(job, state="done", ended=now(), result=result))
                _LOG.info("%s: %s %s is done", self._bot, job.kind, job.id)

    def _fail(self, job: JobRecord, refusal: Refusal) -> None:
        self._update(replace(job, state="failed", ended=now(), error=refusal.to_dict()))
        _LOG.warning("%s: %s %s failed: %s", self._bot, job.kind, job.id, refusal)

    def _recover(self) -> None:
        """Close what was running when the service ended."""
        outcome = self._resume() if self._has_journal() else ""
        for job_id in self._cut_short:
            detail = "the jobs service ended in the middle of it" + (f"; {outcome}" if outcome else "")
            self._fail(self._jobs[job_id], Interrupted(detail))

    def _has_journal(self) -> bool:
        journal = self._root / "promotion" / self._bot / "journal.json"
        return journal.exists() or has_unsettled_config(self._root, self._bot)

    def _resume(self) -> str:
        """Finish or undo a promotion that was cut short; what became of it, for whoever reads the job."""
        try:
            outcome = self._run(Work(self._root, self._bot, "resume"), lambda progress: None)["outcome"]
        except Refusal as refusal:
            # 409: a playbook's promotion is going on. Whatever it is, the next look is in a minute.
            _LOG.warning("%s: a promotion that was cut short stays so for now: %s", self._bot, refusal)
            return f"what it left could not be settled yet ({refusal.detail}), which is tried again"
        except Exception:  # noqa: BLE001 - a bug must not end the thread that does all later jobs
            _LOG.exception("%s: a promotion that was cut short", self._bot)
            return "what it left could not be settled yet, which is tried again"
        _LOG.info("%s: a promotion that was cut short: %s", self._bot, outcome)
        return f"what it left was {outcome} afterwards" if outcome != "nothing" else "nothing was left to settle"
