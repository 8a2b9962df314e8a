"""What merging a proposal would give, without doing it."""

from __future__ import annotations

from pathlib import Path

from ..adapters.git_repo import run_git
from . import repository


def merged_tree(origin: Path, uid: int, name: str, commit: str) -> str:
    """The tree that ``main`` would have, or ``main`` itself when it holds the proposal already.

    :param commit: of the proposal.
    :raises Conflict: files conflict; they are named.
    """
    if repository.contains(origin, uid, commit):
        return repository.main_commit(origin, uid)
    main = repository.main_commit(origin, uid)
    return run_git(origin, "merge-tree", "--write-tree", main, commit, uid=uid).split("\n")[0]
