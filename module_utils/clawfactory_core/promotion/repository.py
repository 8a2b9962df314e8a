"""A bot's two repositories: ``origin.git``, the authority, and ``proposals.git``, which the controller writes.

On the machine git never runs with ``proposals.git`` as its repository, except as the sending side of a fetch, which Git
documents as safe for a repository of somebody else. ``main`` in ``origin.git`` is the authority, whatever its name at the
remote is. All functions run git as ``uid``, the repositories' owner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .names import FETCHED

MAIN = "refs/heads/main"


@dataclass(frozen=True)
class Remote:
    """Where a bot's repository is, beside this machine.

    :param url: URL or absolute path; a login in it is used as ``user`` and ``token`` are.
    :param branch: branch there that is the authority.
    :param user: name for HTTP; most servers take any with a token.
    :param token: password for HTTP; handed to git by environment alone.
    """

    url: str = field(repr=False)
    branch: str = "main"
    user: str = ""
    token: str = field(default="", repr=False)


@dataclass(frozen=True)
class Distance:
    """How far a commit is from ``main``: ``ahead`` of it, ``behind`` it, in commits."""

    ahead: int
    behind: int


@dataclass(frozen=True)
class Proposal:
    """A branch that a bot has pushed.

    :param name: without ``proposal/``.
    :param commit: its tip.
    :param author: name of the tip's author, as the bot wrote it; never to be believed.
    :param time: when the tip was committed, ISO 8601 in UTC; the bot wrote this too.
    :param subject: first line of the tip's message, shortened.
    :param files: paths that differ from where it left ``main``.
    :param added: lines added; binary files count none.
    :param removed: lines removed.
    :param bytes: total size of the files as the proposal has them.
    :param state: ``open``, ``merged`` or ``denied``.
    :param reason: why it was denied.
    """

    name: str
    commit: str
    author: str
    time: str
    subject: str
    files: int
    added: int
    removed: int
    bytes: int
    state: str
    reason: str = ""


def main_commit(origin: Path, uid: int) -> str:
    """Commit that ``main`` is at.

    :raises CoreError: there is no ``main``, or Git cannot read the repository.
    """
    raise NotImplementedError


def resolve_commit(repository: Path, uid: int, name: str) -> str:
    """Full name of an existing commit.

    :param name: 40 hexadecimal digits, or a full reference such as ``refs/proposals/new-skill``.
    :raises InvalidInput: it is neither, or no such commit exists there.
    """
    raise NotImplementedError


def contains(origin: Path, uid: int, commit: str) -> bool:
    """Whether ``commit`` exists and is on ``main``."""
    raise NotImplementedError


def ahead_behind(origin: Path, uid: int, commit: str) -> Distance:
    """How far ``commit`` is from ``main``.

    :raises CoreError: no such commit.
    """
    raise NotImplementedError


def fetch_remote(origin: Path, uid: int, remote: Remote) -> str:
    """Bring ``main`` up to the remote's branch, forward only.

    :returns: the commit ``main`` is at now.
    :raises Conflict: the remote's history was rewritten; nothing has been changed.
    :raises CoreError: the remote cannot be reached or sends a damaged object; nothing has been changed.
    """
    raise NotImplementedError


def fetch_proposals(origin: Path, proposals: Path, uid: int) -> dict[str, str]:
    """Fetch what the bot has pushed, objects checked; what it has taken back disappears here too.

    :returns: name of each proposal to its commit.
    :raises CoreError: an object is damaged, or the repository cannot be read.
    """
    raise NotImplementedError


def list_proposals(
    repository: Path, uid: int, main: str, *, prefix: str = FETCHED, denied: Mapping[str, str] | None = None
) -> list[Proposal]:
    """Proposals in ``repository``, the newest first.

    :param repository: ``origin.git`` on the machine, ``proposals.git`` in the controller.
    :param main: commit that ``main`` is at.
    :param prefix: where they are: :data:`.names.FETCHED` on the machine, :data:`.names.PREFIX` in the controller.
    :param denied: names that were denied, to the reason.
    """
    raise NotImplementedError


def diff(repository: Path, uid: int, base: str, commit: str, max_bytes: int = 2**20) -> str:
    """What a change does, as ``git diff`` shows it; ends with a note when it was cut.

    :param base: commit to compare with; for a proposal, ``main``.
    :param max_bytes: longest text in bytes.
    :raises CoreError: one of the commits is not there.
    """
    raise NotImplementedError


def merge(origin: Path, uid: int, name: str, expected_commit: str, actor: str) -> str:
    """Merge a fetched proposal into ``main``.

    :param name: of the proposal.
    :param expected_commit: what the operator has seen; another one is refused.
    :param actor: who decided, for the message.
    :returns: the merge commit, or the tip of ``main`` when it holds the proposal already.
    :raises Conflict: it is at another commit, files conflict (they are named), or ``main`` moved; nothing has been changed.
    :raises CoreError: Git is older than 2.38.
    """
    raise NotImplementedError


def checkout(origin: Path, uid: int, commit: str, directory: Path, spare: Path | None = None) -> None:
    """Make ``directory`` a detached checkout of ``commit``, readable by everybody but for ``.git``, and on disk.

    :param directory: must not exist; made aside as ``<directory>.partial``.
    :param spare: an earlier checkout that nothing uses any more; it is taken apart to save writing what has not changed.
    :raises CoreError: Git fails or the disk is full; ``directory`` does not exist then.
    """
    raise NotImplementedError
