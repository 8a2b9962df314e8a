"""Digests of blocks, files and whole trees, and how paths are written in text (docs/snapshot-format.md)."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable

from ..errors import InvalidInput

BLOCK_SIZE = 4096
DIGEST_SIZE = 16
KEY_SIZE = 64
_LINES = 4096
_PLAIN = re.compile(rb"[A-Za-z0-9._/-]*")
_SPECIAL = re.compile(rb"[^A-Za-z0-9._/-]")
_ESCAPED = re.compile(rb"\\0([0-3][0-7]{2})")


class Digester:
    """Digests under one chain's key.

    :param key: :data:`KEY_SIZE` bytes, as much as a block of SHA-256: it is worked in once and then copied.
    :raises InvalidInput: the key has another length.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_SIZE:
            raise InvalidInput(f"a digest key has {KEY_SIZE} bytes, this one {len(key)}")
        self._keyed = hashlib.sha256(key)

    def block(self, data: bytes | bytearray | memoryview) -> bytes:
        """Digest of one block, :data:`DIGEST_SIZE` bytes."""
        state = self._keyed.copy()
        state.update(data)
        return state.digest()[:DIGEST_SIZE]

    def blocks(self, data: bytes | bytearray | memoryview) -> bytes:
        """Digests of all blocks of ``data``, joined; it starts at a multiple of :data:`BLOCK_SIZE` of its file."""
        if len(data) <= BLOCK_SIZE:
            return self.block(data) if data else b""
        # In one thread: two would hand the interpreter to each other at every block, and take twice as long.
        view, copy = memoryview(data), self._keyed.copy
        joined = []
        for start in range(0, len(view), BLOCK_SIZE):
            state = copy()
            state.update(view[start : start + BLOCK_SIZE])
            joined.append(state.digest()[:DIGEST_SIZE])
        return b"".join(joined)

    def file(self, blocks: Iterable[bytes]) -> bytes:
        """Digest of a file from the digests of its blocks, singly or joined; :data:`DIGEST_SIZE` bytes."""
        state = self._keyed.copy()
        for block in blocks:
            state.update(block)
        return state.digest()[:DIGEST_SIZE]


def escape_path(path: bytes) -> str:
    r"""A path as text without spaces: other bytes than ``A-Z a-z 0-9 . _ / -`` become ``\0`` and three octal digits."""
    if _PLAIN.fullmatch(path):
        return path.decode("ascii")
    return _SPECIAL.sub(lambda match: b"\\0%03o" % match.group()[0], path).decode("ascii")


def unescape_path(text: str) -> bytes:
    """The path that :func:`escape_path` wrote.

    :raises InvalidInput: ``text`` is not what it writes.
    """
    try:
        path = _ESCAPED.sub(lambda match: bytes([int(match.group(1), 8)]), text.encode("ascii"))
    except UnicodeEncodeError:
        path = b""
    # One spelling only: two texts for one path would pass for two paths.
    if not text or escape_path(path) != text:
        raise InvalidInput(f"escaped path {text!r} is not valid")
    return path


def sort_key(path: bytes) -> list[bytes]:
    """Order of entries in an archive: by component, byte by byte."""
    return path.split(b"/")


def tree_line(path: bytes, kind: str, mode: int, mtime_ns: int, size: int, digest: str) -> bytes:
    """Line of an entry in the digest of a tree.

    :param kind: ``f``, ``d`` or ``l``.
    :param digest: as in the manifest: hex for a file, escaped target of a link, empty for a directory.
    """
    return f"{escape_path(path)} {kind} {mode:04o} {mtime_ns} {size} {digest}\n".encode("ascii")


def tree_digest(lines: Iterable[bytes]) -> str:
    """Digest of a whole tree from its lines in archive order, 64 hex digits."""
    state, rest = hashlib.sha256(), iter(lines)
    while some := b"".join(itertools.islice(rest, _LINES)):
        state.update(some)
    return state.hexdigest()


class TreeDigest:
    """Digest of a tree that changes: after each archive of a chain most of its lines are as they were before."""

    def __init__(self) -> None:
        # NUL is in no path and below every other byte: by these keys, the order is that of the components.
        self._lines: dict[bytes, bytes] = {}
        self._order: list[bytes] | None = None

    def set(self, path: bytes, line: bytes) -> None:
        """Add an entry, or change it.

        :param line: as of :func:`tree_line`.
        """
        key = path.replace(b"/", b"\0")
        if key not in self._lines:
            self._order = None
        self._lines[key] = line

    def remove(self, path: bytes) -> None:
        """Take out an entry that is there."""
        del self._lines[path.replace(b"/", b"\0")]
        self._order = None

    def hexdigest(self) -> str:
        """As :func:`tree_digest` of the tree as it is now."""
        if self._order is None:
            self._order = sorted(self._lines)
        return tree_digest(map(self._lines.__getitem__, self._order))
