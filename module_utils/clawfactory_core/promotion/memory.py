"""Copies the bot's memory, as far as it is text, to the branch ``memory-backup`` of its repository."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..adapters.git_repo import GitCall, call_git, run_git
from ..errors import CoreError
from . import repository
from .events import audit
from .memory_files import read_memory
from .secret_rules import Fingerprints, find_secrets
from .state import BotPromotion, load, promotion_lock, refuse_locked
from .tree_rules import TreeEntry, check_tree, shown

BRANCH = "memory-backup"
_REFERENCE = f"refs/heads/{BRANCH}"
#: Below the state: where OpenClaw keeps its vectors, and where it did before 2026.
_INDEXES = ("agents/*/agent/openclaw-agent.sqlite", "memory/*.sqlite")
_IDENTITY = "ClawFactory <clawfactory@localhost>"


@dataclass(frozen=True)
class MemoryBackup:
    """What a backup did, or would do.

    :param commit: tip of the branch after it; empty if there is none yet.
    :param changed: whether there was anything new.
    :param files: path below the workspace to bytes of what is in it.
    :param left_out: path to reason of what is not.
    :param indexes: path below the state to bytes of the vector stores, which are never in it.
    :param pushed: whether the branch is the remote's.
    """

    commit: str
    changed: bool
    files: dict[str, int]
    left_out: dict[str, str]
    indexes: dict[str, int]
    pushed: bool


def backup_memory(root: Path, bot: str, *, actor: str, check: bool = False) -> MemoryBackup:
    """Commit the markdown files of the memory to the branch, of the remote if there is one.

    A file with what looks like a secret is left out, and so is all of the vector store.

    :param check: tell what would be in it and change nothing.
    :raises Conflict: the bot is locked.
    :raises InvalidInput: the bot's secrets cannot be told from text.
    :raises CoreError: the state, the repository or the remote cannot be read or written.
    """
    found = load(root, bot)
    refuse_locked(found)
    fingerprints = Fingerprints.load(found.fingerprints)
    memory = read_memory(found.state, found.gateway_uid)
    left_out: dict[str, str] = {}
    for path, reason in memory.left_out.items():
        left_out[_nameable(path, fingerprints)] = reason
    files: dict[str, bytes] = {}
    for path, content in memory.files.items():
        name = _nameable(path, fingerprints)
        secrets = find_secrets(content, "it", fingerprints)
        if secrets or name != path:
            left_out[name] = secrets[0] if secrets else "its name holds a secret"
        else:
            files[path] = content
    left_out.update(_take_out_refused(files))
    with promotion_lock(found, f"a memory backup by {actor}"):
        commit, changed = _commit(found, files, actor, check=check)
        if changed and not check:
            audit(found, "memory.backup", {"actor": actor, "commit": commit, "files": len(files)})
    sizes = {path: len(content) for path, content in sorted(files.items())}
    return MemoryBackup(commit, changed, sizes, left_out, _indexes(found.state), bool(found.settings.remote.url))


def _indexes(state: Path) -> dict[str, int]:
    """Only what lies where it seems to: the bot may put links anywhere."""
    found = {}
    for path in (path for pattern in _INDEXES for path in sorted(state.glob(pattern))):
        below = path.relative_to(state)
        # Not by resolve(), which fails for a link to itself.
        if any(os.path.islink(state / parent) for parent in list(below.parents)[:-1]):
            continue
        try:
            status = path.lstat()
        except OSError:
            continue  # it is gone again
        if not stat.S_ISLNK(status.st_mode):
            found[shown(os.fsencode(below))] = status.st_size
    return found


def _commit(bot: BotPromotion, files: Mapping[str, bytes], actor: str, *, check: bool) -> tuple[str, bool]:
    """Tip of the branch, and whether it moved or would."""
    remote = repository.remote_branch(bot.origin, bot.uid, bot.remote, BRANCH) if bot.settings.remote.url else None
    tip = _tip(bot) if remote is None else remote
    if _held(bot, tip) == {path: _blob(content) for path, content in files.items()}:
        return tip, False
    if check:
        return tip, True
    commit = _import(bot, files, tip, actor)
    if bot.settings.remote.url:
        repository.push_branch(bot.origin, bot.uid, bot.remote, commit, BRANCH)
    run_git(bot.origin, "update-ref", _REFERENCE, commit, uid=bot.uid)
    return commit, True


def _tip(bot: BotPromotion) -> str:
    return run_git(bot.origin, "for-each-ref", "--format=%(objectname)", _REFERENCE, uid=bot.uid)


def _held(bot: BotPromotion, tip: str) -> dict[str, str]:
    if not tip:
        return {}
    listed = run_git(bot.origin, "ls-tree", "-r", "-z", "--full-tree", tip, uid=bot.uid)
    rows = (row.partition("\t") for row in listed.split("\0") if row)
    return {path: fields.split()[2] for fields, _, path in rows}


def _import(bot: BotPromotion, files: Mapping[str, bytes], tip: str, actor: str) -> str:
    """A commit of exactly these files upon ``tip``; no branch is moved.

    One process of git, whatever the number of files.
    """
    reference = f"refs/clawfactory/memory-{os.urandom(6).hex()}"
    message = f"Memory of {bot.bot}\n\nAsked for by {actor}\n".encode()
    pieces = [
        f"commit {reference}\ncommitter {_IDENTITY} {int(time.time())} +0000\n".encode(),
        b"data %d\n%s\n" % (len(message), message),
        f"from {tip}\n".encode() if tip else b"",
        b"deleteall\n",
    ]
    for path, content in sorted(files.items()):
        pieces.append(b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(content), content))
    call = GitCall(bot.uid, stdin=b"".join(pieces))
    call_git(bot.origin, call, "fast-import", "--quiet", "--date-format=raw-permissive")
    commit = run_git(bot.origin, "rev-parse", "--verify", f"{reference}^{{commit}}", uid=bot.uid)
    run_git(bot.origin, "update-ref", "-d", reference, commit, uid=bot.uid)
    if not commit:
        raise CoreError(f"git made no commit of the memory of {bot.bot}; try again")
    return commit


def _blob(content: bytes) -> str:
    """Git's name for a file's content."""
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content), usedforsecurity=False).hexdigest()


def _nameable(path: str, fingerprints: Fingerprints) -> str:
    """A path for messages; not that of a file whose name holds a secret."""
    return "(a file)" if find_secrets(path.encode("utf-8", "replace"), "", fingerprints) else path


def _take_out_refused(files: dict[str, bytes]) -> dict[str, str]:
    """Take out of ``files`` what may not be in a tree.

    :returns: path to reason of what was taken out.
    :raises CoreError: the memory as a whole may not be in one.
    """
    taken: dict[str, str] = {}
    while problems := check_tree(_entries(files)):
        before = len(files)
        for problem in problems:
            for path in [path for path in files if _lies_in(path, problem.path)]:
                taken[path] = problem.text
                del files[path]
        if len(files) == before:
            raise CoreError(f"the memory cannot be backed up: {problems[0]}")
    return taken


def _lies_in(path: str, place: str) -> bool:
    """Whether ``place``, as :func:`.tree_rules.shown` writes it, is the path or a directory above it."""
    parts = path.split("/")
    return any(shown("/".join(parts[:depth]).encode()) == place for depth in range(1, len(parts) + 1))


def _entries(files: Mapping[str, bytes]) -> list[TreeEntry]:
    directories = sorted({str(parent) for path in files for parent in PurePosixPath(path).parents} - {"."})
    trees = [TreeEntry("040000", "tree", "0" * 40, 0, path.encode()) for path in directories]
    blobs = [TreeEntry("100644", "blob", _blob(data), len(data), path.encode()) for path, data in files.items()]
    return [*trees, *blobs]
