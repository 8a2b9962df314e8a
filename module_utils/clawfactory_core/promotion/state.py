"""What promotion keeps about a bot on its machine, in ``<root>/promotion/<bot>/``, which only the machine writes:

settings.json     what role ``promotion`` settled          gateway.json    the gateway's container, as its role made it
history.jsonl     every promotion and rollback             denied/         one file for each denied proposal
journal.json      how far a running one is                 lock            held while one runs

The controller reads in the history what is live: its own mount of ``approved`` stays at the tree of when it started.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from ..allocation import describe, read_allocations
from ..errors import Conflict, InvalidInput
from ..locks import check_unlocked
from ..names import check_bot_name
from ..remote_key import remote_directory
from ..secrets import read_env
from .repository import Remote
from .ssh import is_ssh

SCHEMA = 1
_MAX_LOCK_TEXT = 200
_ANY_POOL = "10.0.0.0/8"


@dataclass(frozen=True)
class PromotionSettings:
    """What role ``promotion`` settled for a bot.

    :param remote: without its token; an empty URL works offline.
    :param ready_seconds: until a restarted gateway has to answer.
    :param stop_seconds: that a gateway gets to end before it is killed.
    :param snapshot: make a snapshot before each promotion.
    :param keep_history: entries of the history that stay.
    :param limits: of a promoted tree, names as in :class:`.tree_rules.TreeLimits`.
    """

    remote: Remote = field(default_factory=lambda: Remote(""))
    ready_seconds: int = 180
    stop_seconds: int = 20
    snapshot: bool = True
    keep_history: int = 1000
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class BotPromotion:
    """One bot: where everything of it lies, who owns it, and its settings.

    :param uid: controller_uid, which owns the repositories and which git runs as.
    :param gateway_port: on 127.0.0.1, where its proxy answers.
    """

    root: Path
    bot: str
    uid: int
    gateway_uid: int
    gateway_port: int
    settings: PromotionSettings

    @property
    def directory(self) -> Path:
        """What promotion keeps."""
        return self.root / "promotion" / self.bot

    @property
    def repositories(self) -> Path:
        """Directory of both repositories, the approved tree and the state."""
        return self.root / "bot_repos" / self.bot

    @property
    def origin(self) -> Path:
        """Bare repository that is the authority."""
        return self.repositories / "origin.git"

    @property
    def proposals(self) -> Path:
        """Bare repository that the bot's pushes go to. Of git, nothing but ``fetch`` may ever be run on it here."""
        return self.repositories / "proposals.git"

    @property
    def approved(self) -> Path:
        """Checkout that is bound into the gateway."""
        return self.repositories / "approved"

    @property
    def following(self) -> Path:
        """The next approved tree in the making; after the exchange the one before."""
        return self.repositories / "approved.next"

    @property
    def previous(self) -> Path:
        """The approved tree of before the last promotion."""
        return self.repositories / "approved.previous"

    @property
    def state(self) -> Path:
        """The bot's own state."""
        return self.repositories / "state"

    @property
    def lockfile(self) -> Path:
        """Present while the bot is locked."""
        return self.root / "locks" / self.bot

    @property
    def audit(self) -> Path:
        """Log of decisions. Not beside the broker's log: that directory is the broker's, which could replace it."""
        return self.root / "audit" / f"{self.bot}.jsonl"

    @property
    def remote(self) -> Remote:
        """The remote with its token, which the machine keeps in the bot's ``controller.env``, and its key.

        :raises InvalidInput: that file is damaged.
        """
        held = read_env(self.root / "secrets" / self.bot / "controller.env")
        keys = remote_directory(self.root, self.bot) if is_ssh(self.settings.remote.url) else None
        return replace(self.settings.remote, token=held.get("CONTROLLER_REMOTE_TOKEN", ""), keys=keys)

    @property
    def fingerprints(self) -> Path:
        """What secrets of the bot look like, for finding them; see :mod:`.secret_rules`."""
        return self.root / "secrets" / self.bot / "run" / "fingerprints.json"


def load(root: Path, bot: str) -> BotPromotion:
    """A bot of this machine.

    :raises InvalidInput: it has no slot or no settings here, or they are not what the role wrote.
    """
    check_bot_name(bot)
    entry = read_allocations(root).get(bot)
    if entry is None:
        raise InvalidInput(f"{bot} is not deployed on this machine; run: ansible-playbook site.yml -l {bot}")
    # Neither users nor ports follow from the pool of networks.
    described = describe(root, bot, _ANY_POOL, entry)
    settings = read_settings(root, bot)
    uids = (int(described["controller_uid"]), int(described["gateway_uid"]))
    return BotPromotion(root, bot, *uids, int(described["gateway_port"]), settings)


def refuse_locked(bot: BotPromotion) -> None:
    """:raises Conflict: the bot is locked."""
    check_unlocked(bot.root, bot.bot)


def settings_path(root: Path, bot: str) -> Path:
    """Where a bot's settings are."""
    return root / "promotion" / bot / "settings.json"


def read_settings(root: Path, bot: str) -> PromotionSettings:
    """Settings of a bot.

    :raises InvalidInput: it has none yet, or the file is not what the role wrote.
    """
    path = settings_path(root, bot)
    again = f"run: ansible-playbook site.yml -l {bot}"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInput(f"{bot} has no {path}; {again}") from None
    except ValueError as error:
        raise InvalidInput(f"{path} is not JSON ({error}); {again}") from None
    try:
        if found.pop("schema") != SCHEMA:
            raise ValueError(f"schema is not {SCHEMA}")
        url, branch, user = (str(found["remote"].pop(name)) for name in ("url", "branch", "user"))
        remote = Remote(url, branch, user)
        numbers = {name: int(found.pop(name)) for name in ("ready_seconds", "stop_seconds", "keep_history")}
        limits = {str(name): int(value) for name, value in found.pop("limits").items()}
        snapshot = found.pop("snapshot")
        if found.pop("remote") or found or not isinstance(snapshot, bool):
            raise ValueError(f"snapshot is {snapshot!r}, besides there is {sorted(found)}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"{path} lacks something or has it in another form ({error!r}); {again}") from None
    return PromotionSettings(remote, snapshot=snapshot, limits=limits, **numbers)


def now() -> str:
    """The time, as it is written down."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@contextmanager
def promotion_lock(bot: BotPromotion, holder: str, seconds: float = 30.0) -> Iterator[None]:
    """One promotion, rollback or denial of a bot at a time.

    :param holder: what is going on, in a few words; whoever waits in vain is told it.
    :param seconds: to wait for another one.
    :raises Conflict: another one goes on, or the lock is no lock file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(bot.directory / "lock", flags, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Conflict(f"{bot.directory / 'lock'} is not a lock file; remove it")
        _acquire(descriptor, bot.bot, time.monotonic() + seconds)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{holder}, since {now()}".encode()[:_MAX_LOCK_TEXT], 0)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, bot: str, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                text = os.pread(descriptor, _MAX_LOCK_TEXT, 0).decode("utf-8", "replace")
                what = text if text and text.isprintable() else "another promotion"
                raise Conflict(f"{bot}: {what} is going on; wait until it ends and ask again") from None
        time.sleep(0.1)
