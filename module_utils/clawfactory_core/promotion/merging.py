"""What merging a proposal would give, without doing it."""

from __future__ import annotations

from pathlib import Path

from ..adapters.git_repo import GitCall, call_git
from ..errors import Conflict
from . import repository

_CONFLICTS = 1
_SHOWN = 20


def merged_tree(origin: Path, uid: int, name: str, commit: str) -> str:
    """The tree that ``main`` would have, or the commit it is at when it holds the proposal already.

    Git leaves the tree among the repository's objects, where nothing refers to it.

    :param commit: of the proposal, fetched.
    :raises Conflict: files conflict; they are named.
    :raises CoreError: Git fails, or is older than 2.38.
    """
    main = repository.main_commit(origin, uid)
    if repository.contains(origin, uid, commit):
        return main
    call = GitCall(uid, answers=(0, _CONFLICTS))
    answer = call_git(origin, call, "merge-tree", "--write-tree", "--name-only", "--no-messages", main, commit)
    tree, *files = answer.output.decode("utf-8", "replace").split("\n")
    if answer.code == _CONFLICTS:
        paths = [path for path in files if path]
        more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        raise Conflict(
            f"proposal/{name} conflicts with main in {', '.join(paths[:_SHOWN])}{more}; nothing was changed; "
            "have it rebased on main, or deny it"
        )
    return tree
