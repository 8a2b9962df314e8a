"""A bot's two repositories: ``origin.git``, the authority, and ``proposals.git``, which the controller writes.

On the machine git never runs with ``proposals.git`` as its repository, except as the sending side of a fetch, which Git
documents as safe for a repository of somebody else. ``main`` in ``origin.git`` is the authority, whatever its name at
the remote. All functions run git as ``uid``, the repositories' owner.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..adapters.git_repo import GitCall, call_git
from ..errors import Conflict, CoreError, InvalidInput
from .checkouts import checkout
from .names import FETCHED, PREFIX, SHA, check_proposal_name, check_sha, proposal_of
from .proposals import Proposal, diff, harmless, list_proposals
from .remotes import CHECKED, Remote, fetch_branch, fetch_reference, push_branch, shown_address
from .takeovers import fork_point

__all__ = [
    "MAIN", "Distance", "Proposal", "Remote", "ahead_behind", "checkout", "contains", "diff", "fetch_proposals",
    "fetch_remote", "fork_point", "is_ancestor", "list_proposals", "main_commit", "merge", "merge_trees",
    "on_main_line", "push_branch", "remote_branch", "resolve_commit",
]  # fmt: skip
MAIN = "refs/heads/main"
_REFERENCE = re.compile(r"refs/(?!.*(\.\.|//|/\.|\.lock(/|$)|[./]$))[A-Za-z0-9._/-]{1,200}")
_CONFLICTS, _USAGE = 1, 129
_SHOWN = 20


@dataclass(frozen=True)
class Distance:
    """How far a commit is from ``main``: ``ahead`` of it, ``behind`` it, in commits."""

    ahead: int
    behind: int


def main_commit(origin: Path, uid: int) -> str:
    """Commit that ``main`` is at.

    :raises CoreError: there is no ``main``, or Git cannot read the repository.
    """
    answer = call_git(origin, GitCall(uid), "for-each-ref", "--format=%(objectname) %(objecttype)", MAIN)
    commit, _, kind = answer.output.decode().strip().partition(" ")
    if kind != "commit":
        raise CoreError(f"{origin} has no branch main; run site.yml")
    return commit


def resolve_commit(repository: Path, uid: int, name: str) -> str:
    """Full name of an existing commit.

    :param name: 40 hexadecimal digits, or a full reference such as ``refs/proposals/new-skill``.
    :raises InvalidInput: it is neither, or no such commit exists there.
    """
    if not (SHA.fullmatch(name) or _REFERENCE.fullmatch(name)):
        raise InvalidInput(f"{name!r} is neither a commit's 40 hexadecimal digits nor a full reference")
    found = _kind(repository, uid, name)
    if found is None or found[1] != "commit":
        raise InvalidInput(f"there is no commit {name} in {repository.name}; see playbooks/proposals.yml for what is")
    return found[0]


def contains(origin: Path, uid: int, commit: str) -> bool:
    """Whether ``commit`` exists and is in the history of ``main``, also as a part of what was merged into it.

    That it was merged says nothing about its tree as a whole; see :func:`on_main_line`.
    """
    found, main = _kinds(origin, uid, check_sha(commit), MAIN)
    if found is None or found[1] != "commit":
        return False
    if main is None or main[1] != "commit":
        raise CoreError(f"{origin} has no branch main; run site.yml")
    return is_ancestor(origin, uid, commit, main[0])


def on_main_line(origin: Path, uid: int, commit: str) -> bool:
    """Whether ``main`` itself was at ``commit``, as first parents tell.

    Not what lies within a merged proposal: only the proposal as a whole was looked at.
    """
    # All of them, which is quick, rather than those after the commit: for that git believes dates, which a bot writes.
    main = main_commit(origin, uid)
    listed = call_git(origin, GitCall(uid), "rev-list", "--first-parent", main, "--").output
    return check_sha(commit).encode() in listed.split(b"\n")


def ahead_behind(origin: Path, uid: int, commit: str) -> Distance:
    """How far ``commit`` is from ``main``.

    :raises CoreError: no such commit.
    """
    arguments = ("rev-list", "--left-right", "--count", f"{check_sha(commit)}...{MAIN}", "--")
    ahead, behind = call_git(origin, GitCall(uid), *arguments).output.split()
    return Distance(int(ahead), int(behind))


def fetch_remote(origin: Path, uid: int, remote: Remote) -> str:
    """Bring ``main`` up to the remote's branch, forward only.

    :returns: the commit ``main`` is at now.
    :raises Conflict: the remote's history was rewritten; nothing has been changed.
    :raises CoreError: the remote cannot be reached or sends a damaged object; nothing has been changed.
    """
    url = shown_address(remote.url)
    try:
        kept = fetch_reference(origin, uid, remote, remote.branch, forward=MAIN)
    except InvalidInput:
        raise
    except CoreError as error:
        raise CoreError(f"cannot fetch {remote.branch} of {url}: {error}") from error
    if not kept:
        raise CoreError(f"{url} has no branch {remote.branch}; push one, or set promotion_branch")
    fetched, main = _kinds(origin, uid, kept, MAIN)
    if fetched is None or fetched[1] != "commit":
        raise CoreError(f"{remote.branch} of {url} is no commit; correct it there")
    new, old = fetched[0], main[0] if main else "0" * 40
    if old == new:
        return new
    if main and not is_ancestor(origin, uid, old, new):
        raise Conflict(
            f"{remote.branch} of {url} is at {new}, which does not follow on {old}: its history was rewritten. Nothing "
            f"was changed. If that was meant, run on the machine: git --git-dir {origin} update-ref {MAIN} {new} {old}"
        )
    call_git(origin, GitCall(uid), "update-ref", "-m", "fetched", MAIN, new, old)
    return new


def remote_branch(origin: Path, uid: int, remote: Remote, branch: str) -> str:
    """Fetch a branch of the remote that is not its authority; see :func:`.remotes.fetch_branch`."""
    return fetch_branch(origin, uid, remote, branch)


def fetch_proposals(origin: Path, proposals: Path, uid: int) -> dict[str, str]:
    """Fetch what the bot has pushed, objects checked; what it has taken back disappears here too.

    :returns: name of each proposal to its commit.
    :raises CoreError: an object is damaged, or the repository cannot be read.
    """
    if proposals.is_symlink() or not proposals.is_dir():
        raise CoreError(f"{proposals} is not a directory; run site.yml")
    options = ("--quiet", "--prune", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
    call = GitCall(uid, settings=CHECKED)
    arguments = ("fetch", *options, "--no-auto-maintenance", "--", str(proposals), f"+{PREFIX}*:{FETCHED}*")
    call_git(origin, call, *arguments)
    listed = call_git(origin, GitCall(uid), "for-each-ref", "--format=%(refname) %(objectname) %(objecttype)", FETCHED)
    rows = (line.split(" ") for line in listed.output.decode("utf-8", "replace").split("\n") if line)
    named = ((proposal_of(reference, FETCHED), commit) for reference, commit, kind in rows if kind == "commit")
    return {name: commit for name, commit in named if name is not None}


def merge_trees(origin: Path, uid: int, name: str, main: str, commit: str) -> str:
    """The tree that merging a proposal gives; it is left among the repository's objects, where nothing refers to it.

    It differs from ``main`` in nothing but what differs between the one commit where the proposal left ``main`` and the
    proposal: that is what an operator is shown.

    :param name: of the proposal, for messages.
    :raises Conflict: files conflict (they are named), or the proposal shares no history with ``main``, or several
        commits of it in a way that no one of them is where it left ``main``.
    :raises CoreError: Git is older than 2.38.
    """
    bases = call_git(origin, GitCall(uid, answers=(0, 1)), "merge-base", "--all", check_sha(main), check_sha(commit))
    count = len(bases.output.split())
    if not count:
        raise Conflict(f"proposal/{name} shares no history with main; nothing was changed. Deny it")
    if count > 1:
        # Merged with each other they may lack, and the result may have, what the proposal does not show.
        raise Conflict(
            f"proposal/{name} left main at {count} commits at once, so that what it changes depends on which of them "
            "is asked; nothing was changed. Have it rebased on main, or deny it"
        )
    call = GitCall(uid, answers=(0, _CONFLICTS, _USAGE))
    arguments = ("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", check_sha(main), check_sha(commit))
    answer = call_git(origin, call, *arguments)
    if answer.code == _USAGE:
        raise CoreError("merging needs Git 2.38 or newer on this machine; update it, or merge at the remote")
    tree, *paths = (piece for piece in answer.output.decode("utf-8", "backslashreplace").split("\0") if piece)
    if answer.code == _CONFLICTS:
        more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        raise Conflict(
            f"proposal/{name} conflicts with main in {', '.join(map(harmless, paths[:_SHOWN]))}{more}; nothing was "
            "changed. Have it rebased on main, or deny it"
        )
    # Git follows renames, and cannot be told not to here: a change would land where nobody has seen it.
    base = bases.output.decode().strip()
    stray = sorted(_changed(origin, uid, main, check_sha(tree)) - _changed(origin, uid, base, commit))
    if stray:
        more = f" and {len(stray) - _SHOWN} more" if len(stray) > _SHOWN else ""
        raise Conflict(
            f"proposal/{name} conflicts with main, which has renamed what it changes: it would change "
            f"{', '.join(map(harmless, stray[:_SHOWN]))}{more}, which it does not show; nothing was changed. Have it "
            "rebased on main, or deny it"
        )
    return check_sha(tree)


def _changed(origin: Path, uid: int, before: str, after: str) -> set[str]:
    """Paths that differ between two trees or commits."""
    arguments = ("diff-tree", "-r", "-z", "--name-only", "--no-renames", before, after, "--")
    output = call_git(origin, GitCall(uid), *arguments).output.decode("utf-8", "backslashreplace")
    return {path for path in output.split("\0") if path}


def merge(origin: Path, uid: int, name: str, expected_commit: str, actor: str) -> str:
    """Make the commit that merges a fetched proposal into ``main``; :func:`advance_main` makes it that branch's tip.

    :param name: of the proposal.
    :param expected_commit: what the operator has seen; another one is refused.
    :param actor: who decided, for the message.
    :returns: the merge commit, or the tip of ``main`` when it holds the proposal already.
    :raises Conflict: it is at another commit, or files conflict (they are named); nothing has changed.
    :raises CoreError: Git is older than 2.38.
    """
    short = check_proposal_name(name)
    if not actor or not actor.isprintable():
        raise InvalidInput(f"actor {actor!r} is not a name; say who decided")
    commit = resolve_commit(origin, uid, FETCHED + short)
    if commit != check_sha(expected_commit):
        raise Conflict(f"proposal/{short} is at {commit} now, not at {expected_commit}; look at it again")
    main = main_commit(origin, uid)
    if is_ancestor(origin, uid, commit, main):
        return main
    tree = merge_trees(origin, uid, short, main, commit)
    message = f"Merge proposal/{short}\n\nMerged-by: {actor}\n"
    made = call_git(
        origin, GitCall(uid, stdin=message.encode()), "commit-tree", tree, "-p", main, "-p", commit, "-F", "-"
    )
    return check_sha(made.output.decode().strip())


def advance_main(origin: Path, uid: int, commit: str, before: str) -> None:
    """Move ``main`` to a commit that was made by :func:`merge`; again is as once.

    :param before: where ``main`` was when the commit was made.
    :raises Conflict: it is somewhere else now; nothing has changed.
    """
    if main_commit(origin, uid) == commit:
        return
    try:
        call_git(
            origin, GitCall(uid), "update-ref", "-m", f"promoted {commit}", MAIN, check_sha(commit), check_sha(before)
        )
    except CoreError as error:
        raise Conflict(f"main moved while {commit} was merged into it; nothing was changed. Try again") from error


def _kind(repository: Path, uid: int, name: str) -> tuple[str, str] | None:
    """Full name and type of an object, ``None`` if there is none; a tag is not followed."""
    return _kinds(repository, uid, name)[0]


def _kinds(repository: Path, uid: int, *names: str) -> list[tuple[str, str] | None]:
    call = GitCall(uid, stdin="".join(f"{name}\n" for name in names).encode())
    output = call_git(repository, call, "cat-file", "--batch-check=%(objectname) %(objecttype)").output
    found: list[tuple[str, str] | None] = []
    for line in filter(None, output.decode("utf-8", "replace").split("\n")):
        sha, _, kind = line.partition(" ")
        found.append((sha, kind) if SHA.fullmatch(sha) and kind not in ("missing", "ambiguous") else None)
    return found


def is_ancestor(repository: Path, uid: int, commit: str, descendant: str) -> bool:
    """Whether ``descendant`` is ``commit`` or follows on it; both have to exist."""
    call = GitCall(uid, answers=(0, 1))
    return call_git(repository, call, "merge-base", "--is-ancestor", commit, descendant).code == 0
