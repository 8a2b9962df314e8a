"""Tells whether a proposal is in ``main`` though its commits are not, as after a squash or a rebase at the remote."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from ..adapters.git_repo import GitCall, call_git
from .names import SHA, check_sha

#: Of ``main`` since the proposal left it; and changed files of a proposal. Beyond that nobody looks.
_COMMITS, _FILES = 2000, 2000
_RAW = ("-r", "-z", "--raw", "--no-abbrev", "--no-renames", "--no-ext-diff", "--no-textconv")


def fork_point(repository: Path, uid: int, main: str, commit: str) -> str:
    """Commit at which a proposal left ``main``, empty if it shares nothing with it."""
    call = GitCall(uid, answers=(0, 1))
    return call_git(repository, call, "merge-base", check_sha(main), check_sha(commit)).output.decode().strip()


@lru_cache(maxsize=1024)  # it is the same for ever, and lists are asked for again and again
def was_taken_over(repository: Path, uid: int, main: str, commit: str) -> bool:
    """Whether at some commit of ``main`` every file that the proposal changes was as it has it.

    What conflicted and was merged by hand is not found.
    """
    base = fork_point(repository, uid, main, commit)
    if not base or base == main:
        return False
    wanted = dict(_changes(call_git(repository, GitCall(uid), "diff-tree", *_RAW, base, commit, "--").output))
    if not wanted or len(wanted) > _FILES:
        return False
    found: dict[bytes, bytes] = {}
    for changes in _steps(repository, uid, base, main):
        found.update((path, content) for path, content in changes.items() if path in wanted)
        if found == wanted:
            return True
    return False


def _steps(repository: Path, uid: int, base: str, main: str) -> Iterator[dict[bytes, bytes]]:
    """What each commit of ``main`` changed, oldest first."""
    arguments = ("rev-list", "--first-parent", "--parents", "--reverse", f"--max-count={_COMMITS}", f"{base}..{main}")
    lines = call_git(repository, GitCall(uid), *arguments, "--").output.splitlines()
    # "commit parent" is the form that shows a merge as what it did to its first parent.
    pairs = b"".join(b" ".join(line.split()[:2]) + b"\n" for line in lines)
    output = call_git(repository, GitCall(uid, stdin=pairs), "diff-tree", "--stdin", *_RAW).output
    changes: dict[bytes, bytes] = {}
    for change in _records(output):
        if change is None:
            yield changes
            changes = {}
        else:
            changes[change[0]] = change[1]
    yield changes


def _changes(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    return (change for change in _records(raw) if change is not None)


def _records(raw: bytes) -> Iterator[tuple[bytes, bytes] | None]:
    """Path of each change, and what is there afterwards, mode and object; ``None`` where another commit begins."""
    pieces = iter(raw.split(b"\0"))
    for piece in pieces:
        # A commit's name ends with NUL under -z, or with a line feed, depending on Git's version.
        head, _, rest = piece.partition(b"\n")
        if SHA.fullmatch(head.decode("ascii", "replace")):
            yield None
            piece = rest
        if piece.startswith(b":"):
            _, mode, _, sha, _ = piece.split(b" ")
            yield next(pieces), mode + b" " + sha
