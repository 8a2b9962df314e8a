"""What was approved, for the copies away from the machine: the history of a bot whose repository has no remote.

A Git bundle of ``main``, encrypted like the archives it lies beside: ``age -d -i KEY FILE > bundle; git clone bundle``.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO

from ..adapters import age
from ..adapters.git_repo import GitCall, call_git, run_git
from ..errors import Conflict
from ..files import write_atomic
from ..promotion.remotes import CHECKED
from ..promotion.repository import MAIN, main_commit
from ..repository import BRANCH, RepositoryRequest, adopt_repository

#: Pattern of the names of packed histories, for rclone.
HISTORIES = "approved--*.bundle.age"
#: SHA-256 of the recipients that the packed one is for, which age does not tell.
_READERS = "approved.recipients"
_NAME = re.compile(r"approved--\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ\.(?P<commit>[0-9a-f]{12})\.bundle\.age")


def packed_histories(names: Iterable[str]) -> list[str]:
    """Those of some file names that are packed histories, the oldest first."""
    return sorted(name for name in names if _NAME.fullmatch(name))


def pack_history(origin: Path, directory: Path, recipients: Sequence[str], now: datetime) -> None:
    """Pack a history beside the archives, unless it is packed as it is, for these recipients; one from before goes.

    :param origin: bare repository, read as its owner.
    :param directory: ``<clawfactory_root>/snapshots/<bot>``.
    :param recipients: age recipients.
    :param now: with a time zone.
    :raises CoreError: there is no such repository, or git fails; what was packed before stays.
    """
    uid = origin.stat().st_uid if origin.is_dir() else os.geteuid()
    tip = main_commit(origin, uid)
    before = packed_histories(os.listdir(directory))
    name = f"approved--{now.astimezone(timezone.utc):%Y-%m-%dT%H-%M-%SZ}.{tip[:12]}.bundle.age"
    readers = hashlib.sha256("\n".join(sorted(recipients)).encode()).hexdigest()
    if before and before[-1].partition(".")[2] == name.partition(".")[2] and _read(directory / _READERS) == readers:
        return
    partial = directory / f".{name}.partial"
    try:
        with _workplace(uid) as work:
            run_git(origin, "bundle", "create", "--quiet", str(work / "bundle"), MAIN, uid=uid)
            with _open(work / "bundle", os.O_RDONLY) as plain, _open(partial, os.O_WRONLY | os.O_CREAT) as packed:
                age.encrypt_stream(plain, packed, recipients)
                packed.flush()
                os.fsync(packed.fileno())
        os.replace(partial, directory / name)
    finally:
        partial.unlink(missing_ok=True)
    # Of the same second and commit, it has the same name.
    for old in set(before) - {name}:
        (directory / old).unlink(missing_ok=True)
    # Last: what was cut short before is packed again.
    write_atomic(directory / _READERS, readers.encode())


def adopt_history(request: RepositoryRequest, packed: Path, identities: Sequence[str]) -> str:
    """Make a bot's repositories from a packed history.

    :returns: the commit that is approved now.
    :raises Conflict: the bot has a repository here.
    :raises WrongKey, Damaged: it cannot be opened; nothing was made.
    :raises InvalidInput: a tree that may not be approved; nothing was made.
    :raises CoreError: git fails; what exists is complete.
    """
    if (request.origin / "HEAD").exists():
        raise Conflict(f"{request.bot} has a repository here, which stays")
    uid = request.owner
    with _workplace(uid) as work:
        bundle, bare = work / "bundle", work / "history.git"
        with _open(packed, os.O_RDONLY) as source, _open(bundle, os.O_WRONLY | os.O_CREAT) as plain:
            age.decrypt_stream(source, plain, identities)
            plain.flush()
            os.fchown(plain.fileno(), uid, uid)
        bare.mkdir(mode=0o700)
        os.chown(bare, uid, uid)
        run_git(bare, "init", "--quiet", "--bare", "--initial-branch", BRANCH, "--template=", uid=uid)
        fetch = ("fetch", "--quiet", "--no-write-fetch-head", "--", str(bundle), f"{MAIN}:{MAIN}")
        call_git(bare, GitCall(uid, settings=CHECKED), *fetch)
        adopt_repository(request, bare)
    return main_commit(request.origin, uid)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""  # nothing is packed yet, or by who did not write this


@contextmanager
def _workplace(uid: int) -> Iterator[Path]:
    """A directory for what lies open for a moment, the user's alone."""
    with tempfile.TemporaryDirectory(prefix="clawfactory-history-") as made:
        os.chown(made, uid, uid)
        yield Path(made)


@contextmanager
def _open(path: Path, flags: int) -> Iterator[BinaryIO]:
    new = os.O_EXCL if flags & os.O_CREAT else 0
    descriptor = os.open(path, flags | new | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb" if new else "rb", 1 << 20) as file:
        yield file
