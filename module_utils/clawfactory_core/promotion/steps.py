"""The steps of a promotion, each of which may be done again after a crash in the middle of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..checkout import commit as commit_of
from ..errors import Conflict, CoreError
from ..snapshots.create import apply_snapshot, snapshot_is_being_made
from ..snapshots.progress import Progress
from ..snapshots.settings import settings_path as snapshot_settings_path
from ..snapshots.settings import snapshot_request
from ..workspace import workspace_entries
from . import repository, switch
from .events import audit, last_words
from .gateway import GatewayControl
from .journal import Journal, remove_journal, write_journal
from .records import MAX_REASON, HistoryEntry, append_history, read_history
from .state import BotPromotion, now, refuse_locked

Report = Callable[[Progress], None]
#: Seconds to wait for a snapshot that somebody else makes, such as the schedule.
_SNAPSHOT_SECONDS = 900.0
_SNAPSHOT_PAUSE = 1.0


class Steps:
    """One promotion under way.

    :ivar journal: as it is on disk, once :meth:`prepare` has begun.
    """

    def __init__(self, bot: BotPromotion, gateway: GatewayControl, journal: Journal, report: Report | None) -> None:
        self.bot = bot
        self.journal = journal
        self._gateway = gateway
        self._report = report

    def prepare(self, entries: list[dict[str, str]]) -> None:
        """Make a snapshot, and the next tree beside the live one.

        :raises CoreError, OSError: nothing live has changed.
        """
        bot, journal = self.bot, self.journal
        self._note("preparing")
        if bot.settings.snapshot and snapshot_settings_path(bot.root, bot.bot).exists():
            self._note("preparing", snapshot=self._make_snapshot())
        self._say("prepare")
        switch.discard(bot.following)
        repository.checkout(bot.origin, bot.uid, journal.to_commit, bot.following, spare=bot.previous)
        if commit_of(bot.following) != journal.to_commit or workspace_entries(bot.following) != entries:
            raise CoreError(f"{bot.following} did not become what {journal.to_commit} holds; nothing has changed")
        refuse_locked(bot)

    def switch(self) -> None:
        """Put the next tree in the place of the live one, in one step."""
        self._say("switch")
        self._note("switching")
        switch.exchange(self.bot.approved, self.bot.following)
        self._note("switched")

    def start(self) -> None:
        """Let the gateway run with what is approved now, and wait for it.

        :raises CoreError: it does not get ready, or the bot was locked; the message says why.
        """
        refuse_locked(self.bot)
        self._say("start")
        self._run_gateway(start=self.journal.running)
        if not self.journal.running:
            return
        self._say("wait")
        seconds = self.bot.settings.ready_seconds
        if not self._gateway.ready(seconds):
            refuse_locked(self.bot)
            words = last_words(self.bot, self._gateway)
            raise CoreError(f"the gateway was not ready within {seconds} s" + (f"; it said:\n{words}" if words else ""))

    def record_merge(self) -> None:
        """What was merged for this promotion is the branch's tip from now on.

        :raises Conflict: the branch moved in the meantime.
        """
        journal = self.journal
        if journal.main_before:
            repository.advance_main(self.bot.origin, self.bot.uid, journal.to_commit, journal.main_before)

    def keep(self) -> None:
        """The new tree stays."""
        bot = self.bot
        self._note("keeping")
        if os.path.lexists(bot.following):
            switch.replace(bot.following, bot.previous)
        self._end("promoted")

    def restore(self, reason: str) -> None:
        """Put the old tree back, and let the gateway run with it.

        :param reason: why, for history and audit.
        :raises CoreError: the old tree is in place, but the gateway could not be started.
        """
        bot = self.bot
        self._say("restore")
        self._note("restoring", reason=reason[:MAX_REASON])
        if self.settle() == self.journal.to_commit:
            switch.exchange(bot.approved, bot.following)
        locked = os.path.lexists(bot.lockfile)
        if not locked or self.journal.recreate:
            self._restart_old(start=self.journal.running and not locked)
        switch.discard(bot.following)
        self._end("restored")

    def abandon(self, reason: str) -> None:
        """Nothing live has changed: take away what was prepared."""
        switch.discard(self.bot.following)
        _discard_partial(self.bot.following)
        self._note(self.journal.phase, reason=reason[:MAX_REASON])
        self._end("failed")

    def settle(self) -> str:
        """Let ``approved`` be one of the two trees.

        :returns: the commit it is at.
        :raises Conflict: it is neither.
        """
        switch.settle(self.bot.approved, self.bot.following)
        stands = commit_of(self.bot.approved)
        if stands not in (self.journal.from_commit, self.journal.to_commit):
            raise Conflict(
                f"{self.bot.approved} is at {stands or 'no commit'}, an interrupted promotion went from "
                f"{self.journal.from_commit} to {self.journal.to_commit}; put one of the two there"
            )
        return stands

    def _make_snapshot(self) -> str:
        """Id of a snapshot of the state as it is now; one that is being made by somebody else is waited for."""
        bot = self.bot
        label = "before-rollback" if self.journal.rollback else "before-promotion"
        request = snapshot_request(bot.root, bot.bot, label=label)
        deadline = time.monotonic() + _SNAPSHOT_SECONDS
        retried = False
        while True:
            try:
                return apply_snapshot(request, self._report).record.id
            except Conflict:
                # One that has just ended is worth another try, for anything else nothing would change.
                busy = snapshot_is_being_made(request.directory)
                if time.monotonic() >= deadline or (retried and not busy):
                    raise
                retried = not busy
            time.sleep(_SNAPSHOT_PAUSE)

    def _restart_old(self, *, start: bool) -> None:
        try:
            self._run_gateway(start=start)
        except CoreError as error:
            raise CoreError(
                f"{self.journal.reason}; {self.journal.from_commit} is in place again, but its gateway could not be "
                f"started: {error}; correct that, and run the same again"
            ) from error
        if start and not self._gateway.ready(self.bot.settings.ready_seconds):
            more = "the gateway did not get ready with the commit of before either"
            self._note("restoring", reason=f"{more}; {self.journal.reason}"[:MAX_REASON])

    def _run_gateway(self, *, start: bool) -> None:
        if self.journal.recreate:
            self._gateway.recreate(workspace_entries(self.bot.approved), start=start)
        elif start:
            self._gateway.restart()

    def _note(self, phase: str, **changes: str) -> None:
        self.journal = replace(self.journal, phase=phase, **changes)  # type: ignore[arg-type]  # only texts are changed
        write_journal(self.bot, self.journal)

    def _say(self, phase: str) -> None:
        if self._report is not None:
            self._report(Progress(phase, 0, 0, 0.0, 0.0))

    def _end(self, result: str) -> None:
        """Write down how it ended, once: a crash may come before the journal is gone."""
        journal = self.journal
        if all(entry.id != journal.id for entry in read_history(self.bot)[:1]):
            entry = HistoryEntry(
                id=journal.id,
                time=now(),
                actor=journal.actor,
                source=journal.source,
                from_commit=journal.from_commit,
                to_commit=journal.to_commit,
                result=result,
                reason=journal.reason,
                snapshot=journal.snapshot,
                delivery=journal.delivery,
                rollback=journal.rollback,
            )
            audit(self.bot, "rollback" if journal.rollback else "promotion", entry)
            append_history(self.bot, entry)
        remove_journal(self.bot)


def _discard_partial(path: Path) -> None:
    """What a checkout leaves that is killed."""
    switch.discard(path.with_name(f"{path.name}.partial"))
