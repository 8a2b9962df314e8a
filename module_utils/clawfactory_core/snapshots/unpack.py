"""Reads a chain of archives in three children: one decrypts, one decompresses, one unpacks and checks."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import re
import stat
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..adapters import age, zstd
from ..errors import CoreError, InvalidInput
from .chains import BrokenChain
from .legacy import apply_legacy
from .listing import list_directory
from .progress import Meter, Progress
from .records import SnapshotRecord
from .replay import Replay
from .tar_reader import BadArchive, EndsEarly, ReadLimits
from .tree_writer import TreeWriter
from .worker import Confinement, Report, Worker, wait

_BUFFER = 1 << 20
# Of a pipe's ends: enough that two processes do not wake each other for pyrage's 8 KiB at a time.
_PIPE_BUFFER = 1 << 17
_F_SETPIPE_SZ = 1031  # linux/fcntl.h; Python has the name from 3.10 on some systems only
_MAX_AGE_HEADER = 16 << 10
_END_OF_HEADER = re.compile(rb"\n--- [A-Za-z0-9+/]{43}\n")
_REPORT_EVERY = 8 << 20


@dataclass(frozen=True)
class Target:
    """Where a chain is unpacked.

    :param root: descriptor of an empty directory of user ``uid``.
    :param spool: an empty file of no name, on the same disk.
    :param wanted: see :class:`.tree_writer.TreeWriter`.
    :param private: see there.
    :param databases_only: see :class:`.replay.Replay`; not for archives of the original.
    :param listed: path of the directory that is told of, see :func:`.listing.list_directory`; ``None`` for none.
    """

    root: int
    spool: BinaryIO
    uid: int
    gid: int
    wanted: Callable[[bytes, bool], bool] | None = None
    private: bool = False
    databases_only: bool = False
    listed: bytes | None = None


@dataclass(frozen=True)
class Unpacked:
    """What a chain turned out to be.

    :param count: entries of the state.
    :param bytes: bytes of its files.
    :param databases: escaped paths of the SQLite databases that its manifest names.
    :param sha256: of each archive, the full one first.
    :param listing: of the directory that was to be told of.
    """

    count: int
    bytes: int
    databases: tuple[str, ...]
    sha256: tuple[str, ...]
    listing: dict[str, Any] | None = None


def unpack_chain(
    directory: Path,
    chain: Sequence[SnapshotRecord],
    identities: Sequence[str],
    target: Target,
    limits: ReadLimits,
    *,
    bot: str = "",
    progress: Callable[[Progress], None] | None = None,
) -> Unpacked:
    """Unpack a chain and check all that can be checked of it. After an error, throw away what is below ``target.root``.

    :param chain: the full snapshot first, as :func:`.chains.chain_of` gives it.
    :param bot: whose snapshots they must be; empty for anybody's.
    :raises InvalidInput: there is no private key, or the chain is longer than it may be.
    :raises MissingDependency: pyrage or zstandard cannot be imported.
    :raises WrongKey, Damaged, BadArchive, BrokenChain: what is wrong with which archive.
    :raises Conflict: the disk is full.
    """
    if len(chain) > limits.max_chain:
        raise InvalidInput(f"the chain has {len(chain)} archives, more than max_chain {limits.max_chain}")
    for identity in identities:
        age.recipient_of(identity)
    if not identities:
        raise InvalidInput("no private key to decrypt with; give at least one")
    # In the children that are confined nothing can be imported any more.
    zstd.decompress_stream(io.BytesIO(), io.BytesIO())
    sizes = [_size(directory, link) for link in chain]
    with ExitStack() as stack:
        # Each child has the ends of pipes that it uses and no others, or it would never see that its neighbour ended.
        confinement = Confinement(target.root, target.uid, target.gid)
        packed, packing = _pipes(stack, chain)
        feeder = Worker(lambda report: _feed(directory, chain, identities, packed, packing, report))
        stack.callback(feeder.stop)
        _close(packing)
        plain, filling = _pipes(stack, chain)
        inflater = Worker(lambda report: _inflate(chain, packed, plain, filling), confinement)
        stack.callback(inflater.stop)
        _close([*packed, *filling])
        unpacker = Worker(lambda report: _unpack(chain, sizes, plain, target, limits), confinement)
        stack.callback(unpacker.stop)
        _close(plain)
        meter = Meter(progress, "unpacking and comparing", sum(sizes))
        wait([feeder, inflater, unpacker], lambda message: meter.count(message["done"]))
        # If one fails, those before it only find that nobody reads, and those after it that the input ends.
        for worker in (feeder, inflater, unpacker):
            if worker.failure:
                raise worker.failure.error
        if feeder.result["aborted"] or inflater.result["aborted"]:
            raise CoreError("the archives were not read to their end")
        meter.count(sum(sizes), last=True)
    result = unpacker.result
    _check_links(chain, result["headers"], feeder.result["sha256"], bot)
    digests = tuple(feeder.result["sha256"])
    return Unpacked(result["count"], result["bytes"], tuple(result["databases"]), digests, result["listing"])


def _pipes(stack: ExitStack, chain: Sequence[SnapshotRecord]) -> tuple[list[BinaryIO], list[BinaryIO]]:
    """Ends for reading and for writing of a pipe for each archive."""
    ends = [os.pipe2(os.O_CLOEXEC) for _ in chain]
    readers: list[BinaryIO] = [stack.enter_context(os.fdopen(reading, "rb", _PIPE_BUFFER)) for reading, _ in ends]
    writers: list[BinaryIO] = [stack.enter_context(os.fdopen(writing, "wb", _PIPE_BUFFER)) for _, writing in ends]
    for writer in writers:
        with contextlib.suppress(OSError):
            # More than this may need a privilege; less is slower and nothing else.
            fcntl.fcntl(writer.fileno(), _F_SETPIPE_SZ, _BUFFER)
    return readers, writers


def _close(files: Sequence[BinaryIO]) -> None:
    for file in files:
        file.close()


def open_archive(directory: Path, link: SnapshotRecord) -> BinaryIO:
    """An archive, open for reading.

    :raises BrokenChain: it is missing or no regular file.
    """
    try:
        # Whoever owns the directory may put anything there, a FIFO or a link too.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.fdopen(os.open(directory / link.file_name, flags), "rb", _BUFFER)
    except OSError as error:
        raise BrokenChain(f"{link.file_name} cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise BrokenChain(f"{link.file_name} is not a regular file")
    return file


def _size(directory: Path, link: SnapshotRecord) -> int:
    with open_archive(directory, link) as file:
        return os.fstat(file.fileno()).st_size


def _feed(
    directory: Path,
    chain: Sequence[SnapshotRecord],
    identities: Sequence[str],
    readers: Sequence[BinaryIO],
    writers: Sequence[BinaryIO],
    report: Report,
) -> dict[str, Any]:
    _close(readers)
    digests: list[str] = []
    done = 0
    for link, writer in zip(chain, writers, strict=True):
        try:
            with open_archive(directory, link) as file:
                # age looks for the end of its header anew with each piece: minutes for 200 kB.
                if not _END_OF_HEADER.search(os.pread(file.fileno(), _MAX_AGE_HEADER, 0)):
                    raise age.Damaged(f"it has no age header of at most {_MAX_AGE_HEADER} bytes")
                hashed = _Hashed(file, done, report)
                source = io.BufferedReader(hashed, _BUFFER)
                age.decrypt_stream(source, writer, identities)
                while source.read(_BUFFER):
                    pass
                digests.append(hashed.digest())
                done = hashed.done
            writer.close()
        except BrokenPipeError:
            return {"sha256": digests, "aborted": True}
        except CoreError as error:
            raise _named(error, chain, link) from error
    return {"sha256": digests, "aborted": False}


class _Hashed(io.RawIOBase):
    """A file that computes its SHA-256 while it is read."""

    def __init__(self, file: BinaryIO, done: int, report: Report) -> None:
        self.done = done
        self._file = file
        self._hash = hashlib.sha256()
        self._report = report
        self._next = done + _REPORT_EVERY

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        count = os.readv(self._file.fileno(), [buffer])
        self._hash.update(memoryview(buffer)[:count])
        self.done += count
        if self.done >= self._next:
            self._next = self.done + _REPORT_EVERY
            self._report({"done": self.done})
        return count

    def digest(self) -> str:
        return self._hash.hexdigest()


def _inflate(
    chain: Sequence[SnapshotRecord],
    readers: Sequence[BinaryIO],
    others: Sequence[BinaryIO],
    writers: Sequence[BinaryIO],
) -> dict[str, Any]:
    _close(others)
    for link, reader, writer in zip(chain, readers, writers, strict=True):
        try:
            if link.kind == "legacy":
                # Those of the original are not compressed.
                _copy(reader, writer)
            else:
                zstd.decompress_stream(reader, writer)
            writer.close()
        except BrokenPipeError:
            return {"aborted": True}
        except CoreError as error:
            raise _named(error, chain, link) from error
    return {"aborted": False}


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    while data := source.read(_BUFFER):
        view = memoryview(data)
        while view:
            view = view[target.write(view) :]


def _unpack(
    chain: Sequence[SnapshotRecord],
    sizes: Sequence[int],
    readers: Sequence[BinaryIO],
    target: Target,
    limits: ReadLimits,
) -> dict[str, Any]:
    # Confined to it by now, or at least in it.
    root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    tree = TreeWriter(root, limits, target.wanted, private=target.private, passing=target.databases_only)
    replay = Replay(tree, target.spool, limits, single=len(chain) == 1, databases_only=target.databases_only)
    headers = []
    databases: tuple[dict[str, str], ...] = ()
    for link, size, reader in zip(chain, sizes, readers, strict=True):
        try:
            if link.kind == "legacy":
                apply_legacy(reader, replay, tree, limits, limits.plaintext(size))
            else:
                header, manifest = replay.apply(reader, limits.plaintext(size), link.id)
                headers.append({"kind": header.kind, "bot": header.bot, "parent_sha256": header.parent_sha256})
                databases = manifest.databases
        except CoreError as error:
            raise _named(error, chain, link) from error
    replay.finish()
    return {
        "headers": headers,
        "count": len(replay.state),
        "bytes": replay.bytes,
        "databases": [database["path"] for database in databases],
        "listing": None if target.listed is None else list_directory(replay.state, target.listed),
    }


def _named(error: CoreError, chain: Sequence[SnapshotRecord], link: SnapshotRecord) -> CoreError:
    place = f", link {chain.index(link) + 1} of {len(chain)} of the chain of {chain[-1].id}" if len(chain) > 1 else ""
    text = f"{link.file_name}{place}: {error}"
    if isinstance(error, EndsEarly):
        return EndsEarly(text)
    try:
        return type(error)(text)
    except TypeError:
        return CoreError(text)


def _check_links(
    chain: Sequence[SnapshotRecord], headers: Sequence[dict[str, Any]], digests: Sequence[str], bot: str
) -> None:
    for link, digest in zip(chain, digests, strict=True):
        if link.sha256 and link.sha256 != digest:
            raise BrokenChain(f"{link.file_name} is not the archive that its record describes; its SHA-256 is {digest}")
    for link, header in zip(chain, headers, strict=False):
        if header["kind"] != link.kind:
            raise BadArchive(f"{link.file_name} is a snapshot of kind {header['kind']}")
        if bot and header["bot"] != bot:
            raise BadArchive(f"{link.file_name} is a snapshot of bot {header['bot']!r}, not of {bot!r}")
    for link, header, parent, digest in zip(chain[1:], headers[1:], chain, digests, strict=False):
        if header["parent_sha256"] != digest:
            raise BrokenChain(
                f"{parent.file_name} is not the archive that {link.file_name} was made for; restore the right one"
            )
