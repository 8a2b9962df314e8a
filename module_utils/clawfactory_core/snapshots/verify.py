"""Verifies snapshots: the archives as they lie on disk, and with a key everything in them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

from ..errors import Conflict, CoreError, InvalidInput
from ..locks import check_unlocked
from . import swap as swap_steps
from .chains import BrokenChain, chain_of, list_snapshots
from .digests import escape_path
from .progress import Meter, Progress
from .records import SnapshotRecord, timestamp, write_record
from .restore import RestoreRequest, discard, unpack_beside
from .tar_reader import ReadLimits
from .unpack import Unpacked, open_archive
from .worker import Confinement, Report, Worker, wait

_BUFFER = 1 << 20
_SQLITE = b"SQLite format 3\0"
_SECONDS_FOR_A_DATABASE = 900
_SECONDS_FOR_ALL = 4 * 3600
# Of files that look like a database and were not stored as one, so many are looked at.
_MOST_OTHERS = 100
_HEAP = 512 << 20
_CALLBACK_EVERY = 100_000  # SQLite's virtual machine instructions


@dataclass
class VerifyReport:
    """What was verified.

    :param checks: ``{"name", "ok", "detail"}`` of every archive and every database.
    :param broken: which link is broken and how, empty if none is.
    """

    checks: list[dict[str, Any]] = field(default_factory=list)
    broken: str = ""

    @property
    def ok(self) -> bool:
        """Whether everything is as it should be."""
        return not self.problem

    @property
    def problem(self) -> str:
        """What does not pass, the first of it; empty if all is as it should be."""
        failed = (f"{check['name']}: {check['detail']}" for check in self.checks if not check["ok"])
        return self.broken or next(failed, "")

    def add(self, name: str, ok: bool, detail: str) -> None:
        """Note one check."""
        self.checks.append({"name": name, "ok": ok, "detail": detail})


def verify_snapshot(
    directory: Path,
    record: SnapshotRecord,
    identities: Sequence[str] | None,
    *,
    content: bool,
    staging: Path | None = None,
    owner: int | None = None,
    limits: ReadLimits | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> VerifyReport:
    """Verify a snapshot and all that it builds upon.

    :param identities: private keys; needed for ``content`` only.
    :param content: decrypt and unpack everything, compare every digest and check every database; otherwise compare the
        archives with their records.
    :param staging: directory that the state lies in; needed for ``content``: what is unpacked there is removed again.
    :param owner: if given, a success is noted in the record, which gets this owner.
    :raises InvalidInput: there is no key, or ``staging`` is missing.
    :raises Conflict: the bot is locked, a restore or verification runs beside ``staging``, or its disk is too full.
    """
    report = VerifyReport()
    try:
        chain = chain_of(list_snapshots(directory), record)
    except BrokenChain as error:
        report.broken = str(error)
        return report
    if content:
        _verify_content(directory, chain, identities, staging, limits or ReadLimits(), report, progress)
    else:
        _verify_digests(directory, chain, report, progress)
    if report.ok and owner is not None and record.kind != "legacy" and not record.problem:
        how = "content" if content else "digest"
        # The lesser proof does not replace the greater.
        if content or record.verified_how != "content":
            now = timestamp(datetime.now(timezone.utc))
            write_record(directory, replace(record, verified=now, verified_how=how), owner)
    return report


def _verify_digests(
    directory: Path,
    chain: Sequence[SnapshotRecord],
    report: VerifyReport,
    progress: Callable[[Progress], None] | None,
) -> None:
    meter = Meter(progress, "comparing digests", sum(link.size for link in chain))
    done = 0
    digests = []
    for number, link in enumerate(chain):
        digest = hashlib.sha256()
        try:
            with open_archive(directory, link) as file:
                while data := file.read(_BUFFER):
                    digest.update(data)
                    done += len(data)
                    meter.count(done)
        except (BrokenChain, OSError) as error:
            report.broken = report.broken or f"{link.file_name} cannot be read: {error}"
            report.add(link.file_name, False, str(error))
            return
        digests.append(digest.hexdigest())
        problem = _digest_problem(link, digests, number)
        report.add(
            link.file_name, not problem, problem or ("as recorded" if link.sha256 else "has no record to compare with")
        )
        report.broken = report.broken or (f"{link.file_name} {problem}" if problem else "")
    meter.count(done, last=True)


def _digest_problem(link: SnapshotRecord, digests: Sequence[str], number: int) -> str:
    if link.sha256 and link.sha256 != digests[number]:
        return f"has SHA-256 {digests[number]}, its record says {link.sha256}"
    if number and link.parent_sha256 != digests[number - 1]:
        return "was made for another parent than the one there is"
    return ""


def _verify_content(
    directory: Path,
    chain: Sequence[SnapshotRecord],
    identities: Sequence[str] | None,
    staging: Path | None,
    limits: ReadLimits,
    report: VerifyReport,
    progress: Callable[[Progress], None] | None,
) -> None:
    if not identities:
        raise InvalidInput("to verify the content the private key is needed; give it, or verify the digests alone")
    if staging is None:
        raise InvalidInput("to verify the content a directory beside the bot's state is needed; give it")
    with contextlib.ExitStack() as stack:
        try:
            aside = stack.enter_context(unpacked_aside(directory, chain, identities, staging, limits, progress))
        except (Conflict, InvalidInput):
            # A full disk says nothing about the archive.
            raise
        except CoreError as error:
            report.broken = str(error)
            report.add(chain[-1].file_name, False, str(error))
            return
        for link, digest in zip(chain, aside.unpacked.sha256, strict=True):
            report.add(link.file_name, True, f"complete, SHA-256 {digest}")
        listed = None if chain[-1].kind == "legacy" else frozenset(aside.unpacked.databases)
        _verify_databases(aside, listed, report, progress)


@dataclass(frozen=True)
class Aside:
    """A chain that was unpacked to be looked at.

    :param path: the tree, of user ``uid`` and group ``gid``.
    """

    path: Path
    uid: int
    gid: int
    unpacked: Unpacked


@contextlib.contextmanager
def unpacked_aside(
    directory: Path,
    chain: Sequence[SnapshotRecord],
    identities: Sequence[str],
    staging: Path,
    limits: ReadLimits,
    progress: Callable[[Progress], None] | None = None,
    listed: bytes | None = None,
) -> Iterator[Aside]:
    """Unpack a chain beside the state while the block is open; the state is not touched, and nothing is left of it.

    :param staging: directory that the state lies in.
    :param listed: see :func:`.restore.unpack_beside`.
    :raises Conflict: the bot is locked, a restore or another look runs beside ``staging``, or its disk is too full.
    :raises InvalidInput, BrokenChain, BadArchive, WrongKey, Damaged: as :func:`.restore.unpack_beside`.
    """
    state = staging / "state"
    owner = os.stat(state if state.is_dir() else staging)
    uid, gid = (owner.st_uid, owner.st_gid) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    request = RestoreRequest(
        directory.parent.parent, "", state, directory, chain[-1].id, tuple(identities), uid, gid, limits=limits
    )
    path = staging / f"{swap_steps.CHECKING}{chain[-1].id}"
    check_unlocked(directory.parent.parent, directory.name)
    with swap_steps.checking(state, directory):
        unpacked = unpack_beside(request, chain, path, progress, checking=True, listed=listed)
        try:
            yield Aside(path / "state", uid, gid, unpacked)
        finally:
            discard(path)


def _verify_databases(
    aside: Aside,
    listed: frozenset[str] | None,
    report: VerifyReport,
    progress: Callable[[Progress], None] | None,
) -> None:
    """Check every SQLite database of it in a child of its user.

    :param listed: those of the manifest, escaped. Others that look like one may be anything: reported, not judged.
    """
    root = os.open(aside.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    meters: list[Meter] = []
    try:
        worker = Worker(lambda report: _check_databases(listed, report), Confinement(root, aside.uid, aside.gid))

        def found(message: dict[str, Any]) -> None:
            if "done" in message:
                meters[:] = meters or [Meter(progress, "checking databases", message["total"])]
                meters[0].count(message["done"])
                return
            ok, detail = message["ok"], message["detail"]
            if not ok and listed is not None and message["name"] not in listed:
                ok, detail = True, f"stored as a plain file, not as a database: {detail}"
            report.add(message["name"], ok, detail)

        wait([worker], found)
    finally:
        os.close(root)
    if worker.failure is not None:
        report.add("databases", False, str(worker.failure.error))
    missing = (listed or frozenset()) - {check["name"] for check in report.checks}
    for name in sorted(missing):
        report.add(name, False, "is no SQLite database, yet the manifest says so")


def _check_databases(listed: frozenset[str] | None, report: Report) -> None:
    databases = list(_databases())
    if listed is not None:
        others = [item for item in databases if escape_path(item[0]) not in listed]
        databases = [item for item in databases if escape_path(item[0]) in listed] + others[:_MOST_OTHERS]
    end = time.monotonic() + _SECONDS_FOR_ALL
    done, total = 0, sum(size for _, size in databases)
    for path, size in databases:
        report({"done": done, "total": total})
        done += size
        # It was the journal of another one, which was rolled back.
        if not os.path.exists(path):
            continue
        # For the one operation that SQLite does not interrupt: ends this process.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_SECONDS_FOR_A_DATABASE + 60)
        try:
            ok, detail = _check_database(path, min(end, time.monotonic() + _SECONDS_FOR_A_DATABASE))
        except (sqlite3.Error, OSError) as error:
            ok, detail = False, f"{type(error).__name__}: {error}"
        # Names of tables and the like are the bot's.
        shown = "".join(letter if letter.isprintable() else "?" for letter in detail[:500])
        report({"name": escape_path(path), "ok": ok, "detail": shown})
    signal.alarm(0)


def _databases() -> Iterator[tuple[bytes, int]]:
    """Path and bytes of what looks like a database."""
    for directory, directories, files in os.walk(b"."):
        # Nothing of this is kept, and some of it may be unreadable even for its owner.
        for names, mode in ((directories, 0o700), (files, 0o600)):
            for name in names:
                path = os.path.join(directory, name)
                if not os.path.islink(path):
                    os.chmod(path, mode)
        for name in files:
            path = os.path.join(directory, name)
            if not os.path.islink(path) and _looks_like_one(path):
                yield path[2:], os.path.getsize(path)


def _looks_like_one(path: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def _check_database(path: bytes, end: float) -> tuple[bool, str]:
    # A hot journal has to be rolled back first, which needs to write; without one nothing has.
    mode = "mode=rw" if os.path.lexists(path + b"-journal") else "mode=ro&immutable=1"
    connection = sqlite3.connect(f"file:{quote_from_bytes(b'./' + path)}?{mode}", uri=True, isolation_level=None)
    with contextlib.closing(connection):
        connection.set_progress_handler(lambda: time.monotonic() > end, _CALLBACK_EVERY)
        connection.text_factory = bytes
        pragmas = ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "temp_store=MEMORY")
        # CHECK constraints say what rows may be, not whether the file is whole. They are expressions of the bot's, with
        # functions that need not be here: OpenClaw's (2026.9.6) have octet_length, which SQLite has since 3.43.
        for pragma in (*pragmas, "ignore_check_constraints=ON", f"hard_heap_limit={_HEAP}"):
            connection.execute(f"PRAGMA {pragma}")
        found = _integrity(connection)
    return found == "ok", found


def _integrity(connection: sqlite3.Connection) -> str:
    rows = connection.execute("PRAGMA integrity_check(5)")
    return "; ".join(bytes(row[0]).decode("utf-8", "replace") for row in rows)
