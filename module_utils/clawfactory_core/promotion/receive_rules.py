"""What a bot may push: one reference of a push, judged while its objects are still in quarantine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .secret_rules import Fingerprints
from .tree_rules import TreeLimits


@dataclass(frozen=True)
class PushLimits:
    """How large a push may be.

    :param commits: new commits.
    :param objects: new objects.
    :param pack_bytes: bytes of the objects in quarantine, as they lie on the disk.
    :param new_bytes: bytes of all new files, unpacked.
    :param entries: entries of the new commits' trees together; bounds the time.
    :param tree: of each commit.
    """

    commits: int = 200
    objects: int = 50_000
    pack_bytes: int = 16 * 2**20
    new_bytes: int = 64 * 2**20
    entries: int = 400_000
    tree: TreeLimits = field(default_factory=TreeLimits)


@dataclass(frozen=True)
class Push:
    """One reference of a push, as git tells its pre-receive hook.

    :param repository: ``proposals.git``.
    :param uid: user id that git runs as.
    :param main: commit that ``main`` of ``origin.git`` is at.
    :param old: commit the reference was at, forty zeros for a new one.
    :param new: commit it is to be at, forty zeros to delete it.
    :param reference: full name, ``refs/heads/proposal/…``.
    :param environment: ``GIT_QUARANTINE_PATH``, ``GIT_OBJECT_DIRECTORY`` and ``GIT_ALTERNATE_OBJECT_DIRECTORIES`` as the
        hook has them; without them git does not see the new objects.
    :param denied: names that were denied, to the reason.
    :param fingerprints: of the bot's secrets.
    """

    repository: Path
    uid: int
    main: str
    old: str
    new: str
    reference: str
    environment: Mapping[str, str] = field(default_factory=dict)
    denied: Mapping[str, str] = field(default_factory=dict)
    fingerprints: Fingerprints | None = field(default=None, repr=False)
    limits: PushLimits = field(default_factory=PushLimits)


@dataclass(frozen=True)
class Refusal:
    """Why a push is refused, for the bot.

    :param what: what was wrong.
    :param where: references, commits or paths it was found in.
    :param remedy: what to do.
    """

    what: str
    where: tuple[str, ...]
    remedy: str

    def __str__(self) -> str:
        raise NotImplementedError


def check_push(push: Push) -> Refusal | None:
    """The first reason to refuse a push, ``None`` when it may come in.

    :raises CoreError: Git fails; the push must be refused then too.
    """
    raise NotImplementedError
