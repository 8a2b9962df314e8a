"""What is noted while a snapshot is made: its manifest, its list of changes, and what was left out."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from typing import Any

from . import capture
from .digests import escape_path
from .rules import EXCLUDED
from .tar_writer import seconds_text

SCHEMA = 1
MAX_LISTED = 1000
# Paths can be long, and what is listed here is sent to another process and shown.
_MAX_LISTED_BYTES = 2 << 20
_BUFFER = 1 << 16
# What an operator should look at first; the table of rules comes last.
_IMPORTANT = (
    capture.UNREADABLE,
    capture.TOO_LARGE,
    capture.TOO_MUCH,
    capture.TOO_MANY,
    capture.TOO_DEEP,
    capture.UNSTEADY,
    capture.FOREIGN_LINK,
    capture.OTHER_FILE_SYSTEM,
    capture.RESERVED_NAME,
    EXCLUDED,
)


class Spool:
    """Bytes that are written once and read once, compressed in memory: no file, and a fraction of their size."""

    def __init__(self) -> None:
        self.size = 0
        self._compressor = zlib.compressobj(1)
        self._buffer = bytearray()
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Add to the end."""
        self.size += len(data)
        self._buffer += data
        if len(self._buffer) >= _BUFFER:
            self._pack()

    def _pack(self) -> None:
        self._pieces.append(self._compressor.compress(self._buffer))
        self._buffer.clear()

    def take(self) -> Iterator[bytes]:
        """All of it, piece by piece; it is empty afterwards."""
        self._pack()
        pieces = [*self._pieces, self._compressor.flush()]
        self._pieces = []
        decompressor = zlib.decompressobj()
        for piece in pieces:
            while piece:
                yield decompressor.decompress(piece, 1 << 20)
                piece = decompressor.unconsumed_tail
        yield decompressor.flush()


class Notes:
    """Gathers in memory that goes with the number of entries, a few bytes for each."""

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0
        self.disk = 0
        self.changed: list[str] = []
        self.databases: list[dict[str, str]] = []
        self.warnings: list[str] = []
        self.patches = 0
        self.left_out_count: dict[str, int] = {}
        self._left_out: dict[str, list[str]] = {}
        self._listed_bytes = 0
        self._entries = Spool()
        self._deleted = Spool()
        self._patched = Spool()
        self._tree = hashlib.sha256()

    def left_out(self, path: bytes, reason: str) -> None:
        """Note that an entry is not in the snapshot."""
        self.left_out_count[reason] = self.left_out_count.get(reason, 0) + 1
        listed = self._left_out.setdefault(reason, [])
        if len(listed) < MAX_LISTED and self._room(path):
            listed.append(escape_path(path))

    def went_on_changing(self, path: bytes) -> None:
        """Note that a file is in the snapshot as it was while it changed."""
        text = escape_path(path)
        if len(self.changed) < MAX_LISTED and text not in self.changed and self._room(path):
            self.changed.append(text)

    def warn(self, text: str) -> None:
        """Note something for the operator."""
        if len(self.warnings) < MAX_LISTED and self._room(text.encode()):
            self.warnings.append(text)

    def _room(self, text: bytes) -> bool:
        self._listed_bytes += len(text)
        return self._listed_bytes <= _MAX_LISTED_BYTES

    def database(self, path: bytes, as_of: str) -> None:
        """Note the moment a database is of."""
        self.databases.append({"path": escape_path(path), "as_of": as_of})

    def entry(
        self,
        path: bytes,
        kind: str,
        mode: int,
        mtime_ns: int,
        size: int,
        digest: str,
        *,
        stored: bool,
        blocks: int | None = None,
    ) -> None:
        """Note an entry of the state, in the order of the archive.

        :param digest: as in the manifest.
        :param stored: whether this archive has it.
        :param blocks: of 512 bytes, that a file takes on disk; ``None`` if its size tells.
        """
        self.count += 1
        self.bytes += size
        self.disk += size if blocks is None else min(size, 512 * blocks)
        text = escape_path(path)
        # As tree_line of digests, and as json.dumps, at a fraction of the time.
        self._tree.update(f"{text} {kind} {mode:04o} {mtime_ns} {size} {digest}\n".encode("ascii"))
        if stored:
            start = "" if self._entries.size else "["
            line = f'{start}["{text}","{kind}",{mode},{mtime_ns},{size},"{digest}"]'.replace("\\", "\\\\")
            self._entries.write((",\n" * (not start) + line).encode("ascii"))

    def delete(self, path: bytes) -> None:
        """Note that an entry of the parent, and all below it, goes."""
        self._deleted.write(f"delete {escape_path(path)}\n".encode("ascii"))

    def patch(self, number: int, path: bytes, size: int, mode: int, mtime_ns: int) -> None:
        """Note what a file is like after a patch."""
        line = f"patch {number} {size} {mode:04o} {seconds_text(mtime_ns)} {escape_path(path)}\n"
        self._patched.write(line.encode("ascii"))

    def changes(self) -> tuple[int, Iterator[bytes]]:
        """Size and content of the list of changes; once."""
        size = self._deleted.size + self._patched.size
        return size, (piece for spool in (self._deleted, self._patched) for piece in spool.take())

    def manifest(self, finished: str) -> tuple[int, Iterator[bytes]]:
        """Size and content of the manifest; once."""
        rest: dict[str, Any] = {
            "schema": SCHEMA,
            "tree": self._tree.hexdigest(),
            "count": self.count,
            "bytes": self.bytes,
            "databases": self.databases,
            "databases_as_of": self._databases_as_of(),
            "finished": finished,
            "left_out": self.listed(),
            "left_out_count": self.left_out_count,
            "changed": self.changed,
        }
        start = b'{"entries":' + (b"" if self._entries.size else b"[")
        end = b"],\n" + json.dumps(rest, separators=(",", ":")).removeprefix("{").encode("ascii") + b"\n"

        def pieces() -> Iterator[bytes]:
            yield start
            yield from self._entries.take()
            yield end

        return len(start) + self._entries.size + len(end), pieces()

    def listed(self) -> list[dict[str, str]]:
        """What was left out and why, most important first."""
        ranks = {reason: rank for rank, reason in enumerate(_IMPORTANT)}

        def rank(reason: str) -> int:
            return ranks.get(reason.partition(":")[0], len(ranks))

        pairs = ((reason, path) for reason in sorted(self._left_out, key=rank) for path in self._left_out[reason])
        return [{"path": path, "reason": reason} for (reason, path), _ in zip(pairs, range(MAX_LISTED), strict=False)]

    def _databases_as_of(self) -> list[str] | None:
        moments = [item["as_of"] for item in self.databases]
        return [min(moments), max(moments)] if moments else None
