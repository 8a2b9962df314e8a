"""A restore from beginning to end: staged, a snapshot of what is replaced, swapped, started, and undone if it must be.

What ``playbooks/restore.yml`` does by Ansible; here the machine does it alone, with the key that it has.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from .. import quota
from ..errors import Conflict, CoreError, InvalidInput
from ..promotion.state import BotPromotion, load, promotion_lock
from . import restore
from .chains import BEFORE_RESTORE
from .create import apply_snapshot
from .maintain import note
from .progress import Meter, Progress
from .settings import bot_directories, read_identities, read_settings, snapshot_request

Report = Callable[[Progress], None]


class Gateway(Protocol):
    """A bot's gateway, as far as a restore needs it."""

    def running(self) -> bool:
        """Whether it runs."""

    def stop(self) -> None:
        """Stop it and its sandboxes."""

    def start(self) -> None:
        """Start it."""

    def ready(self, seconds: float) -> bool:
        """Whether it is ready within ``seconds``."""


class NotReady(InvalidInput):
    """The bot did not get ready with the restored state, and has its old one back."""


def restore_live(
    root: Path, bot: str, name: str, *, actor: str, report: Report | None = None, gateway: Gateway | None = None
) -> str:
    """Replace a bot's state by that of a snapshot; one that runs is stopped meanwhile.

    :param name: id of the snapshot.
    :returns: id of the snapshot of what was replaced.
    :raises NotReady: the old state is back.
    :raises Conflict: the bot is locked, or something else is done to it.
    :raises CoreError: it failed; the state is the old one, or waits beside it for a decision as the text says.
    """
    found = load(root, bot)
    control = gateway or _gateway(found)
    request = _request(root, bot, name)
    staged = restore.stage_restore(request, report)
    with _unstaged_after_failure(request.state), promotion_lock(found, f"a restore by {actor}"):
        before = apply_snapshot(snapshot_request(root, bot, label=BEFORE_RESTORE), report).record.id
        was_running = control.running()
        Meter(report, "stopping the bot").count(0)
        control.stop()
        try:
            _exchange(request, staged.path)
            if was_running:
                Meter(report, "starting the bot").count(0)
                control.start()
                if not control.ready(found.settings.ready_seconds):
                    raise NotReady(f"{bot} did not get ready within {found.settings.ready_seconds} s")
        except BaseException as error:
            _way_back(request, control, was_running)
            note(root, bot, "restore.undone", {"actor": actor, "snapshot": name, "reason": str(error)[:500]})
            if isinstance(error, CoreError):
                raise type(error)(f"{error}; {bot} has its old state back") from error
            raise
        restore.keep(request.state)
    note(root, bot, "restore", {"actor": actor, "snapshot": name, "before": before})
    return before


@contextmanager
def _unstaged_after_failure(state: Path) -> Iterator[None]:
    """A copy of the state that nobody will swap in would fill the disk until the next restore."""
    try:
        yield
    except BaseException:
        restore.discard_staged(state)
        raise


def _gateway(found: BotPromotion) -> Gateway:
    from ..promotion.recovery import gateway_of

    return gateway_of(found)


def _request(root: Path, bot: str, name: str) -> restore.RestoreRequest:
    settings = read_settings(root, bot)
    state, directory = bot_directories(root, bot)
    identities = read_identities(root, bot)
    if not identities:
        raise Conflict(f"the private age key of {bot} is not on this machine; run playbooks/restore.yml where it is")
    uid = settings.gateway_uid
    return restore.RestoreRequest(root, bot, state, directory, name, identities, uid, uid, limits=settings.read_limits)


def _exchange(request: restore.RestoreRequest, staged: Path) -> None:
    old = restore.swap(request.state, staged)
    workspace = request.state / "workspace"
    if not os.path.lexists(workspace):
        # The gateway mounts it.
        workspace.mkdir(mode=0o700)
        os.chown(workspace, request.uid, request.gid)
    try:
        project = quota.read_project(old)
    except OSError:
        return  # a file system without quotas, or there was no state before
    if project:
        # A quota belongs to a directory, and this is another one.
        quota.write_project(request.state, project)


def _way_back(request: restore.RestoreRequest, gateway: Gateway, was_running: bool) -> None:
    if restore.is_swapped(request.state):
        gateway.stop()
        restore.put_back(request.state)
    else:
        restore.recover(request.state)
    if was_running and not os.path.lexists(request.root / "locks" / request.bot):
        gateway.start()
