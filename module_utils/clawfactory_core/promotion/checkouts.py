"""Makes a checkout of a commit that shares its history with ``origin.git``, aside and then in one step."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..adapters.git_repo import GitCall, call_git
from ..errors import CoreError
from ..files import sync_directory
from .names import SHA, check_sha

# Files come out as they were committed, whatever a .gitattributes asks for.
_ATTRIBUTES = "* -text -eol -working-tree-encoding -ident -filter -export-subst\n"
_SETTINGS = (
    ("core.autocrlf", "false"),
    ("core.fileMode", "true"),
    ("core.symlinks", "true"),
    ("core.protectHFS", "true"),
    ("core.protectNTFS", "true"),
    ("core.sparseCheckout", "false"),
    ("core.logAllRefUpdates", "false"),
)
#: Above this many files one flush of the whole file system is faster than one for each.
_MANY = 200
_FLUSHES = 16


def checkout(origin: Path, uid: int, commit: str, directory: Path, spare: Path | None = None) -> None:
    """Make ``directory`` a detached checkout of ``commit``, readable by everybody but for ``.git``, and on disk.

    :param directory: must not exist; made aside as ``<directory>.partial``. It borrows objects of ``origin`` by a
        relative path, so it may be renamed where it is, but not be moved elsewhere.
    :param spare: an earlier checkout beside it that nothing uses any more; what is the same in it is kept, which saves
        writing it again. It is gone afterwards, unless it was not made by this function.
    :raises CoreError: Git fails or the disk is full; ``directory`` does not exist then.
    """
    check_sha(commit)
    if os.path.lexists(directory):
        raise CoreError(f"{directory} exists already; move it away")
    partial = directory.with_name(f"{directory.name}.partial")
    _remove(partial)
    borrowed = os.path.relpath(origin / "objects", directory / ".git" / "objects")
    before = _take(spare, partial, borrowed)
    try:
        if not before:
            _make(partial, uid, borrowed)
        call = GitCall(uid, settings=_SETTINGS, umask=0o022)
        write = ("checkout", "--quiet", "--force", "--detach", commit, "--")
        if before:
            _bring_up(partial, call, before, commit, write)
        else:
            call_git(partial, call, *write)
            _flush(partial, None)
        os.rename(partial, directory)
    except (CoreError, OSError) as error:
        _remove(partial)
        if isinstance(error, CoreError):
            raise
        raise CoreError(f"cannot make {directory}: {error.strerror or error}; nothing was changed") from error
    sync_directory(directory.parent)


def _take(spare: Path | None, partial: Path, borrowed: str) -> str:
    """Let an earlier checkout be the new one's beginning.

    :returns: the commit it is at, empty if it cannot be used.
    """
    if spare is None or spare.is_symlink() or not spare.is_dir():
        return ""
    try:
        head = (spare / ".git" / "HEAD").read_text(encoding="ascii").strip()
        borrows = (spare / ".git" / "objects" / "info" / "alternates").read_text(encoding="utf-8").rstrip("\n")
        attributes = (spare / ".git" / "info" / "attributes").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""  # not one of ours, or half of one: it is made from nothing then
    unfinished = (spare / ".git" / "index.lock").exists()
    if not SHA.fullmatch(head) or borrows != borrowed or attributes != _ATTRIBUTES or unfinished:
        return ""
    os.rename(spare, partial)
    return head


def _make(partial: Path, uid: int, borrowed: str) -> None:
    partial.mkdir(mode=0o755)
    os.chmod(partial, 0o755)  # noqa: S103 - the gateway reads it and has another user
    os.chown(partial, uid, uid)
    call_git(partial, GitCall(uid), "init", "--quiet", "--initial-branch", "main", "--template=")
    git = partial / ".git"
    (git / "info").mkdir(exist_ok=True)
    (git / "objects" / "info").mkdir(exist_ok=True)
    (git / "objects" / "info" / "alternates").write_text(f"{borrowed}\n", encoding="utf-8")
    (git / "info" / "attributes").write_text(_ATTRIBUTES, encoding="utf-8")
    for path in (git / "info", git / "info" / "attributes", git / "objects" / "info" / "alternates"):
        os.chown(path, uid, uid)
    os.chown(git / "objects" / "info", uid, uid)
    os.chmod(git, 0o700)


def _bring_up(partial: Path, call: GitCall, before: str, commit: str, write: tuple[str, ...]) -> None:
    """Turn an earlier checkout into that of another commit; what does not touch the same is done side by side."""
    with ThreadPoolExecutor(1) as beside:
        changed = beside.submit(_changed, partial, call, before, commit)
        call_git(partial, call, *write)
        # Takes away what nobody committed; what is flushed was.
        cleaned = beside.submit(call_git, partial, call, "clean", "-ffdxq")
        _flush(partial, changed.result())
        cleaned.result()


def _changed(partial: Path, call: GitCall, before: str, commit: str) -> list[str] | None:
    """Paths that a checkout writes, ``None`` if they are many."""
    arguments = ("diff-tree", "-r", "-z", "--name-only", "--no-renames", "--diff-filter=d", before, commit, "--")
    listed = call_git(partial, call, *arguments).output
    paths = [os.fsdecode(path) for path in listed.split(b"\0") if path]
    return paths if len(paths) <= _MANY else None


def _flush(partial: Path, changed: Iterable[str] | None) -> None:
    """Put on disk what a checkout has written, so that a power cut after the switch finds it."""
    if changed is None:
        _flush_file_system(partial)
        return
    directories = {partial, partial / ".git"}
    files = [partial / ".git" / "index"]
    for name in changed:
        path = partial / name
        if not path.is_symlink():
            files.append(path)
        directories.update(_between(path, partial))
    # At once, and not one after another: a disk's journal takes all that wait for it in one go.
    with ThreadPoolExecutor(_FLUSHES) as pool:
        list(pool.map(_flush_file, files))
        list(pool.map(sync_directory, directories))


def _between(path: Path, top: Path) -> Iterator[Path]:
    for parent in path.parents:
        if parent == top:
            return
        yield parent


def _flush_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_file_system(path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if libc.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if os.path.lexists(path):
        shutil.rmtree(path)
