"""Writes a tar of ustar headers, with pax headers for what those cannot say (docs/snapshot-format.md)."""

from __future__ import annotations

from typing import Protocol

_BLOCK = 512
_BUFFER = 1 << 20
_ZEROS = bytes(1 << 16)
_HOLE = bytes(1 << 20)
_MAX_NAME = 100
# Octal digits of the header's fields.
_MAX_ID = 0o7777777
_MAX_SIZE = 0o77777777777
_MAX_TIME = 0o77777777777
_NS = 10**9


class Sink(Protocol):
    """What the tar is written to: takes all it is given, or raises."""

    def write(self, data: bytes | bytearray | memoryview) -> object:
        """Take ``data``."""


class TarWriter:
    """Members one after the other, gathered into large writes.

    :param uid: owner of every member; ``gid`` is its group.
    :ivar size: bytes written so far.
    :ivar holes: bytes of them that a reader need not write, as far as they came in writes of zeros alone.
    """

    def __init__(self, sink: Sink, uid: int, gid: int) -> None:
        self.size = 0
        self.holes = 0
        self._sink = sink
        self._uid = uid
        self._gid = gid
        self._buffer = bytearray()
        self._left = 0
        self._padding = 0
        self._ids = b"".join(
            _record(keyword, b"%d" % number) for keyword, number in ((b"uid", uid), (b"gid", gid)) if number > _MAX_ID
        )
        self._pax_blocks: dict[int, bytes] = {}

    def directory(self, path: bytes, mode: int, mtime_ns: int) -> None:
        """Add a directory."""
        self._header(path, b"5", mode, mtime_ns)

    def link(self, path: bytes, mode: int, mtime_ns: int, target: bytes) -> None:
        """Add a symbolic link."""
        self._header(path, b"2", mode, mtime_ns, target=target)

    def file(self, path: bytes, mode: int, mtime_ns: int, data: bytes) -> None:
        """Add a file that is in memory."""
        self.begin(path, mode, mtime_ns, len(data))
        self.write(data)
        self.end()

    def begin(self, path: bytes, mode: int, mtime_ns: int, size: int) -> None:
        """Add a file whose ``size`` bytes follow by :meth:`write`."""
        self._header(path, b"0", mode, mtime_ns, size=size)
        self._left = size
        self._padding = -size % _BLOCK

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add to the file that was begun, at most what is left of it."""
        if len(data) > self._left:
            raise ValueError(f"{len(data)} bytes for a member that has {self._left} left")
        self._left -= len(data)
        # The first look is for speed alone.
        if data and not data[0] and len(data) <= len(_HOLE) and data == _HOLE[: len(data)]:
            self.holes += len(data)
        if len(data) < _BUFFER // 4:
            self._buffer += data
            if len(self._buffer) >= _BUFFER:
                self._flush()
        else:
            self._flush()
            self._sink.write(data)
            self.size += len(data)

    def end(self) -> None:
        """End the file that was begun; what is left of it becomes zeros."""
        while self._left:
            self.write(_ZEROS[: self._left])
        self._buffer += _ZEROS[: self._padding]
        self._padding = 0

    def finish(self) -> None:
        """Write the end of the archive and all that is still gathered."""
        self._buffer += _ZEROS[: 2 * _BLOCK]
        self._flush()

    def _flush(self) -> None:
        if self._buffer:
            self._sink.write(self._buffer)
            self.size += len(self._buffer)
            self._buffer = bytearray()

    def _header(
        self, path: bytes, kind: bytes, mode: int, mtime_ns: int, *, size: int = 0, target: bytes = b""
    ) -> None:
        extended = self._extended(path, mtime_ns, size, target)
        if extended:
            block = self._pax_blocks.get(len(extended))
            if block is None:
                block = self._pax_blocks[len(extended)] = self._block(b"pax", b"x", 0o600, 0, len(extended), b"")
            self._buffer += block
            self._buffer += extended
            self._buffer += _ZEROS[: -len(extended) % _BLOCK]
        seconds = mtime_ns // _NS
        self._buffer += self._block(path, kind, mode, seconds if 0 <= seconds <= _MAX_TIME else 0, size, target)
        if len(self._buffer) >= _BUFFER:
            self._flush()

    def _extended(self, path: bytes, mtime_ns: int, size: int, target: bytes) -> bytes:
        records = self._ids
        if mtime_ns % _NS or not 0 <= mtime_ns // _NS <= _MAX_TIME:
            records += _record(b"mtime", seconds_text(mtime_ns).encode())
        if size > _MAX_SIZE:
            records += _record(b"size", b"%d" % size)
        if len(path) <= _MAX_NAME and len(target) <= _MAX_NAME:
            return records
        names = [
            (keyword, value) for keyword, value in ((b"path", path), (b"linkpath", target)) if len(value) > _MAX_NAME
        ]
        if not all(_is_utf8(value) for _, value in names):
            records += _record(b"hdrcharset", b"BINARY")
        return records + b"".join(_record(keyword, value) for keyword, value in names)

    def _block(self, path: bytes, kind: bytes, mode: int, seconds: int, size: int, target: bytes) -> bytes:
        start = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (
            path[:_MAX_NAME].ljust(_MAX_NAME, b"\0"),
            mode,
            self._uid if self._uid <= _MAX_ID else 0,
            self._gid if self._gid <= _MAX_ID else 0,
            size if size <= _MAX_SIZE else 0,
            seconds,
        )
        rest = kind + target[:_MAX_NAME].ljust(_MAX_NAME, b"\0") + b"ustar\0" + b"00"
        # The checksum counts itself as eight spaces.
        checksum = sum(start) + sum(rest) + 8 * 0x20
        return (b"%s%06o\0 %s" % (start, checksum, rest)).ljust(_BLOCK, b"\0")


def seconds_text(mtime_ns: int) -> str:
    """Nanoseconds since the epoch as decimal seconds, nine digits after the point."""
    sign = "-" if mtime_ns < 0 else ""
    seconds, fraction = divmod(abs(mtime_ns), _NS)
    return f"{sign}{seconds}.{fraction:09d}"


def _record(keyword: bytes, value: bytes) -> bytes:
    # The length counts its own digits.
    rest = len(keyword) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) > len(str(rest)):
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, keyword, value)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
