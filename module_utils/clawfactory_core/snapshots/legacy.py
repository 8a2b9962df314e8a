"""Archives of the original: a tar of any kind in age, without zstd, manifest and digests."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import BinaryIO, cast

from .archive import ABOUT
from .replay import Replay
from .tar_reader import PIECE, BadArchive, EndsEarly, Member, ReadLimits, check_path, check_target, show
from .tree_writer import TreeWriter


def apply_legacy(stream: BinaryIO, replay: Replay, tree: TreeWriter, limits: ReadLimits, max_stream: int) -> None:
    """Put everything of an archive of the original in place, by the same rules on paths and types.

    :param stream: the decrypted tar.
    :raises BadArchive: a path or a type is not allowed, or it cannot be read to its end.
    """
    bounded = _Bounded(stream, max_stream)
    try:
        source = cast(BinaryIO, bounded)
        with tarfile.open(fileobj=source, mode="r|", encoding="utf-8", errors="surrogateescape") as tar:
            for info in tar:
                # It keeps all of them otherwise.
                tar.members = []  # type: ignore[attr-defined]  # typeshed does not know it
                _add(tar, info, replay, tree, limits)
    except tarfile.ReadError as error:
        if bounded.ended:
            raise EndsEarly from error
        raise BadArchive(f"it is no tar: {error}") from error
    except (tarfile.TarError, ValueError, OverflowError, IndexError, KeyError, RecursionError) as error:
        raise BadArchive(f"it is no tar that can be read: {error}") from error
    while bounded.read(PIECE):
        pass
    if not replay.state:
        raise BadArchive("it has nothing in it")


def _add(tar: tarfile.TarFile, info: tarfile.TarInfo, replay: Replay, tree: TreeWriter, limits: ReadLimits) -> None:
    path = _path(info.name)
    if path == b"." and info.isdir():
        return
    check_path(path, limits)
    # Of the first reader's own; the bot has nothing there.
    if path.split(b"/", 1)[0] == ABOUT:
        raise BadArchive(f"{show(path)} is no path of a state")
    if info.size < 0 or info.size > limits.max_bytes:
        raise BadArchive(f"{show(path)} has {info.size} bytes; max_bytes is {limits.max_bytes}")
    mtime_ns = int(info.mtime * 10**9) if abs(info.mtime) < 1e12 else 0
    _parents(path, replay)
    if info.islnk():
        _copy(path, _path(info.linkname), replay, tree, info.mode & 0o7777, mtime_ns)
        return
    kind = "d" if info.isdir() else "l" if info.issym() else "f"
    if kind == "f" and (not info.isreg() or info.issparse()):
        raise BadArchive(f"{show(path)} has type {info.type!r}; only files, directories and links are allowed")
    target = info.linkname.encode("utf-8", "surrogateescape") if kind == "l" else b""
    if kind == "l":
        check_target(path, target)
    size = info.size if kind == "f" else 0
    replay.add(Member(path, kind, info.mode & 0o7777, mtime_ns, size, target), _pieces(tar, info) if size else ())


def _path(name: str) -> bytes:
    path = name.encode("utf-8", "surrogateescape")
    while path.startswith(b"./"):
        path = path[2:]
    return path.rstrip(b"/") or b"." if not path.startswith(b"/") else path


def _parents(path: bytes, replay: Replay) -> None:
    components = path.split(b"/")
    for length in range(1, len(components)):
        replay.imply(b"/".join(components[:length]))


def _pieces(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[bytes]:
    content = tar.extractfile(info)
    left = info.size
    while left and content is not None:
        piece = content.read(min(PIECE, left))
        if not piece:
            raise EndsEarly
        left -= len(piece)
        yield piece


def _copy(path: bytes, source: bytes, replay: Replay, tree: TreeWriter, mode: int, mtime_ns: int) -> None:
    entry = replay.state.get(source)
    if entry is None or entry.kind != "f":
        raise BadArchive(f"{show(path)} is a hard link to {show(source)}, which is no file before it")
    replay.add(Member(path, "f", mode, mtime_ns, entry.size), tree.pieces(source))


class _Bounded:
    """A stream that may have so many bytes and no more."""

    def __init__(self, stream: BinaryIO, most: int) -> None:
        self.ended = False
        self._stream = stream
        self._left = most

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.ended = self.ended or len(data) < size
        self._left -= len(data)
        if self._left < 0:
            raise BadArchive("it unpacks to more than max_bytes allows")
        return data
