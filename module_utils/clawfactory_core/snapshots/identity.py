"""A restored state that becomes another bot's must not speak with the first one's identity."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import time
from pathlib import Path

from ..errors import CoreError
from .worker import Confinement, Worker, wait

#: Directories of older OpenClaws, and tables of state/openclaw.sqlite since (2026.9.6).
_DIRECTORIES = ("identity", "devices")
_DATABASE = Path("state") / "openclaw.sqlite"
_TABLES = ("device_identities", "device_pairing_paired", "device_pairing_pending", "state_leases")
_SECONDS = 60
_GRACE = 10
# Bytes by which the database, or its log, may grow while rows are deleted from it; and pages.
_MORE = 1 << 30
_MORE_PAGES = 1024
_HEAP = 512 << 20
_CALLBACK_EVERY = 100_000  # SQLite's virtual machine instructions


def renew_identity(state: Path, uid: int, gid: int) -> None:
    """Take device identity, paired devices and leases out of a staged state; OpenClaw makes new ones when it starts.

    Runs as the bot's user in a process of its own: the database is whatever the bot made of it.

    :param state: staged state that no bot uses.
    :raises CoreError: the identity could not be taken out; the state must not be used.
    """
    root = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # Locked into the state: only root passes the directory above, and no link in it leads out.
        worker = Worker(lambda _: _renew_within_limits(), Confinement(root, uid, gid))
        wait([worker], lambda _: None)
    finally:
        os.close(root)
    if worker.failure is not None:
        raise CoreError(
            f"the identity of the other bot could not be taken out of {state / _DATABASE}: {worker.failure.error}; "
            "verify the snapshot by content"
        )


def _renew_within_limits() -> None:
    # The database's triggers are the bot's, too. What SQLite does not interrupt ends with this process.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_SECONDS + _GRACE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    most = max((path.lstat().st_size for path in Path(_DATABASE.parent).glob(f"{_DATABASE.name}*")), default=0) + _MORE
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    _renew(Path("."))


def _renew(state: Path) -> None:
    for name in _DIRECTORIES:
        path = state / name
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
    database = state / _DATABASE
    if database.is_symlink() or database.parent.is_symlink():
        raise CoreError(f"{database} leads elsewhere")
    if not database.is_file():
        return
    connection = sqlite3.connect(database, timeout=5)
    try:
        end = time.monotonic() + _SECONDS
        connection.set_progress_handler(lambda: time.monotonic() > end, _CALLBACK_EVERY)
        for pragma in ("trusted_schema=OFF", "temp_store=MEMORY", "mmap_size=0", f"hard_heap_limit={_HEAP}"):
            connection.execute(f"PRAGMA {pragma}")
        pages = int(connection.execute("PRAGMA page_count").fetchone()[0])
        connection.execute(f"PRAGMA max_page_count={pages + _MORE_PAGES}")
        # A private key must not stay behind in a page that is free.
        connection.execute("PRAGMA secure_delete=ON")
        known = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table in _TABLES:
            if table in known:
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 - a name of ours
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
