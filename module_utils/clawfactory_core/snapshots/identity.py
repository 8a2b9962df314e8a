"""A restored state that becomes another bot's must not speak with the first one's identity."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from pathlib import Path

from ..errors import CoreError

#: Directories of older OpenClaws, and tables of state/openclaw.sqlite since (2026.9.6).
_DIRECTORIES = ("identity", "devices")
_DATABASE = Path("state") / "openclaw.sqlite"
_TABLES = ("device_identities", "device_pairing_paired", "device_pairing_pending", "state_leases")
_SECONDS = 120
_MESSAGE_BYTES = 512


def renew_identity(state: Path, uid: int, gid: int) -> None:
    """Take device identity, paired devices and leases out of a staged state; OpenClaw makes new ones when it starts.

    Runs as the bot's user in a process of its own: the database is whatever the bot made of it.

    :param state: staged state that no bot uses.
    :raises CoreError: the identity could not be taken out; the state must not be used.
    """
    heard, telling = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(heard)
            if os.geteuid() == 0:
                # Only root passes the directory above, and no link in the state leads out.
                os.chroot(state)
                os.chdir("/")
                state = Path("/")
                os.setgroups([])
                os.setresgid(gid, gid, gid)
                os.setresuid(uid, uid, uid)
            # The database's triggers are the bot's, too.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_SECONDS)
            _renew(state)
            code = 0
        except (OSError, sqlite3.Error, CoreError) as error:
            os.write(telling, str(error).encode()[:_MESSAGE_BYTES])
        finally:
            os._exit(code)
    os.close(telling)
    with open(heard, "rb") as pipe:
        reason = pipe.read(_MESSAGE_BYTES).decode(errors="replace")
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise CoreError(
            f"the identity of the other bot could not be taken out of {state / _DATABASE}: {reason or 'unknown'}; "
            "verify the snapshot by content"
        )


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
        connection.execute("PRAGMA trusted_schema=OFF")
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
