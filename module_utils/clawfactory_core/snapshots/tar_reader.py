"""Reads the tar inside a snapshot: strictly, as a stream, one member after the other.

Python's ``tarfile`` accepts far more than the format allows (GNU types, numbers in base 256, a missing end) and is the
slowest part of a restore. This reader knows the few things that docs/snapshot-format.md allows and refuses all others.
Layout of headers: POSIX.1-2017, ``pax``, "ustar Interchange Format" and "pax Header Block".
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO, NoReturn

from ..errors import CoreError

BLOCK = 512
#: Data is handed on in pieces of at most this many bytes; a multiple of the block of digests.
PIECE = 1 << 18
_ZEROS = bytes(BLOCK)
_HOLE = bytes(PIECE)
# Of a tar beyond its files' bytes: headers, and what is about the snapshot.
_BESIDE_FILES = 1 << 30
_OCTAL = re.compile(rb"([0-7]+)[ \0]*")
_NUMBER = re.compile(r"[0-9]{1,19}")
_SECONDS = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,9}))?")
_RECORD_LENGTH = re.compile(rb"([1-9][0-9]{0,6}) ")
_PAX_KEYS = frozenset({"hdrcharset", "path", "linkpath", "size", "mtime", "uid", "gid"})
_CHARSETS = frozenset({b"BINARY", b"ISO-IR 10646 2000 UTF-8"})
_KINDS = {b"0": "f", b"2": "l", b"5": "d"}
_MAX_NAME = 255
_MAX_TARGET = 4095
# What most paths are: components of at most 255 bytes, none of which begins with a point.
_COMPONENT = rb"[^./\0][^/\0]{0,254}"
_COMMON_PATH = re.compile(_COMPONENT + rb"(?:/" + _COMPONENT + rb")*")


class BadArchive(CoreError):
    """An archive breaks the format; nothing of it may be used."""


class EndsEarly(BadArchive):
    """The stream ends inside the archive."""

    def __init__(self, text: str = "it ends early; it is incomplete") -> None:
        super().__init__(text)


@dataclass(frozen=True)
class ReadLimits:
    """What an archive, or a chain of them, may ask of the machine.

    :param max_entries: entries of the restored state, and members of one archive.
    :param max_bytes: bytes of the restored state's files; of an archive's plain tar four times as many and 1 GiB.
    :param max_depth: components of a path.
    :param max_ratio: plaintext bytes for each byte of the archive; zstd reaches 20 000, real states stay below 20.
        Zeros of files do not count: they become holes, which take no disk, and ``max_bytes`` bounds the time they take.
    :param ratio_floor: plaintext bytes of an archive that are allowed whatever the ratio.
    :param max_document: bytes of the manifest, or of the list of changes, which are held in memory.
    :param max_chain: archives of a chain.
    :param min_free_bytes: what must stay free on the disk.
    """

    max_entries: int = 2_000_000
    max_bytes: int = 1 << 40
    max_depth: int = 128
    max_ratio: int = 2000
    ratio_floor: int = 1 << 30
    max_document: int = 1 << 29
    max_chain: int = 200
    min_free_bytes: int = 1 << 28

    @cached_property
    def max_path(self) -> int:
        """Bytes of a path."""
        return min(self.max_depth * (_MAX_NAME + 1), 32768)

    def plaintext(self, size: int) -> int:
        """Plaintext bytes, without holes, that an archive of ``size`` bytes may have."""
        return min(self.most_plaintext, max(self.ratio_floor, size * self.max_ratio))

    @cached_property
    def most_plaintext(self) -> int:
        """Plaintext bytes that any archive may have."""
        # A file that goes on changing is in it up to four times (stored_file.py); max_bytes bounds the state.
        return 4 * self.max_bytes + _BESIDE_FILES


@dataclass(frozen=True)
class Member:
    """One entry of a tar.

    :param kind: ``f`` regular file, ``d`` directory, ``l`` symbolic link.
    :param mode: permission bits as stored, up to 0o7777.
    :param size: bytes of a regular file, otherwise 0.
    :param target: of a link.
    """

    path: bytes
    kind: str
    mode: int
    mtime_ns: int
    size: int
    target: bytes = b""


def is_hole(piece: bytes) -> bool:
    """Whether a piece of a file is nothing but zeros."""
    return piece == (_HOLE if len(piece) == PIECE else _HOLE[: len(piece)])


def show(path: bytes) -> str:
    """A path for a message: readable, on one line, not too long."""
    return repr(path[:200])[1:]


def byte_sum(block: bytes) -> int:
    """Sum of the bytes of a header of 512, or of less: ``sum(block)`` in a tenth of the time."""
    # The lower half of Adler-32 is 1 and the sum, modulo 65521: that of 256 bytes is below.
    return (zlib.adler32(block[:256]) & 0xFFFF) + (zlib.adler32(block[256:]) & 0xFFFF) - 2


def check_path(path: bytes, limits: ReadLimits) -> None:
    """:raises BadArchive: ``path`` could lead out of the directory that it is relative to, or is too long."""
    if _COMMON_PATH.fullmatch(path) and len(path) <= limits.max_path and path.count(b"/") < limits.max_depth:
        return
    if not path or b"\0" in path:
        raise BadArchive(f"path {show(path)} is empty or has a NUL byte")
    if len(path) > limits.max_path:
        raise BadArchive(f"path {show(path)}… has {len(path)} bytes, more than {limits.max_path}")
    components = path.split(b"/")
    if len(components) > limits.max_depth:
        raise BadArchive(f"path {show(path)}… is {len(components)} deep, deeper than max_depth {limits.max_depth}")
    for component in components:
        if component in (b"", b".", b".."):
            raise BadArchive(f"path {show(path)} is absolute or has an empty, '.' or '..' component")
        if len(component) > _MAX_NAME:
            raise BadArchive(f"path {show(path)}… has a component of more than {_MAX_NAME} bytes")


def check_target(path: bytes, target: bytes) -> None:
    """:raises BadArchive: no file system could hold a link to ``target``."""
    if not target or b"\0" in target or len(target) > _MAX_TARGET:
        raise BadArchive(f"link {show(path)} has a target that is empty, too long or has a NUL byte")


class TarReader:
    """Walks a tar once.

    :param stream: plain tar, buffered; its ``read(n)`` gives fewer than ``n`` bytes at the end only.
    :param max_stream: bytes that the tar may have, without holes of files.
    """

    def __init__(self, stream: BinaryIO, limits: ReadLimits, max_stream: int) -> None:
        self._stream = stream
        self._limits = limits
        self._max_stream = max_stream
        self._left = 0
        self._padding = 0
        self._holes = 0
        self.position = 0

    def members(self) -> Iterator[Member]:
        """Every member in order; what was not read of one is skipped. Ends after nothing but zeros is left.

        :raises BadArchive: anything that the format does not allow.
        """
        count = 0
        while True:
            header = self._next_header()
            if header == _ZEROS:
                break
            count += 1
            # A member's directories come first, so twice the entries is never reached by what we write.
            if count > 2 * self._limits.max_entries + 16:
                raise BadArchive(f"it has more than {count - 1} members; max_entries is {self._limits.max_entries}")
            records: dict[str, bytes] = {}
            if header[156:157] == b"x":
                records, header = self._pax(header)
            member = self._member(header, records)
            self._left = member.size
            self._padding = -member.size % BLOCK
            yield member
        self._finish()

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes of the current member; empty after its last."""
        size = min(size, self._left)
        data = self._exactly(size) if size else b""
        self._left -= len(data)
        return data

    def pieces(self, *, sparse: bool = False) -> Iterator[bytes]:
        """What is left of the current member, :data:`PIECE` bytes at a time.

        :param sparse: the caller writes no disk for pieces that :func:`is_hole`.
        """
        while self._left:
            piece = self.read(PIECE)
            if sparse and is_hole(piece):
                self._holes += len(piece)
            yield piece

    def document(self, name: str, most: int) -> bytes:
        """The whole current member, for small ones that are held in memory.

        :raises BadArchive: it has more than ``most`` bytes.
        """
        if self._left > most:
            raise BadArchive(f"its {name} has {self._left} bytes, more than {most}")
        return b"".join(self.pieces())

    def _exactly(self, size: int) -> bytes:
        position = self.position = self.position + size
        if position - self._holes > self._max_stream or position > self._limits.most_plaintext:
            raise BadArchive(f"it unpacks to more than {self._max_stream} bytes; see max_bytes and max_ratio")
        data = self._stream.read(size)
        if len(data) != size:
            raise EndsEarly
        return data

    def _next_header(self) -> bytes:
        """Skip what is left of the current member."""
        while self._left:
            self.read(PIECE)
        padding, self._padding = self._padding, 0
        return self._exactly(padding + BLOCK)[padding:]

    def _finish(self) -> None:
        if self._exactly(BLOCK) != _ZEROS:
            raise BadArchive("one block of zeros is followed by something else; the end is two")
        while rest := self._stream.read(PIECE):
            self.position += len(rest)
            if self.position - self._holes > self._max_stream or self.position > self._limits.most_plaintext:
                raise BadArchive("what follows its end is too long")
            if rest.count(0) != len(rest):
                raise BadArchive("something follows its end")

    def _pax(self, header: bytes) -> tuple[dict[str, bytes], bytes]:
        """:returns: its records, and the header that follows."""
        _check_header(header)
        size = _octal(header, 124, 12, "size")
        most = 4 * self._limits.max_path
        if size > most:
            raise BadArchive(f"a pax header has {size} bytes, more than {most}")
        data = self._exactly(size + -size % BLOCK + BLOCK)
        return _pax_records(data[:size]), data[-BLOCK:]

    def _member(self, header: bytes, records: dict[str, bytes]) -> Member:
        _check_header(header)
        kind = _KINDS.get(header[156:157])
        if kind is None:
            raise BadArchive(f"a member has type {header[156:157]!r}; only files, directories and links are allowed")
        prefix, name = _text(header, 345, 155, "prefix"), _text(header, 0, 100, "name")
        path = records.get("path", prefix + b"/" + name if prefix else name)
        check_path(path, self._limits)
        size = self._size(header, records, path)
        target = records.get("linkpath", _text(header, 157, 100, "linkname"))
        if kind == "l":
            check_target(path, target)
        elif target:
            raise BadArchive(f"{show(path)} is no link, yet has a target")
        if kind != "f" and size:
            raise BadArchive(f"{show(path)} is no file, yet has {size} bytes")
        mtime = _seconds(records["mtime"]) if "mtime" in records else _octal(header, 136, 12, "mtime") * 10**9
        return Member(path, kind, _mode(header, path), mtime, size, target)

    def _size(self, header: bytes, records: dict[str, bytes], path: bytes) -> int:
        size = _octal(header, 124, 12, "size")
        if "size" in records:
            real = _decimal(records["size"], "size")
            if size not in (0, real):
                raise BadArchive(f"{show(path)} has two sizes, {size} and {real}")
            size = real
        if size > self._limits.max_bytes:
            raise BadArchive(f"{show(path)} has {size} bytes; max_bytes is {self._limits.max_bytes}")
        return size


def _check_header(header: bytes) -> None:
    if header[257:265] != b"ustar\x0000":
        raise BadArchive("a header is no ustar header")
    if _octal(header, 148, 8, "checksum") != byte_sum(header) - sum(header[148:156]) + 8 * 32:
        raise BadArchive("the checksum of a header is wrong")


def _mode(header: bytes, path: bytes) -> int:
    mode = _octal(header, 100, 8, "mode")
    if mode > 0o7777:
        raise BadArchive(f"{show(path)} has mode {mode:o}")
    return mode


def _octal(header: bytes, start: int, length: int, field: str) -> int:
    match = _OCTAL.fullmatch(header, start, start + length)
    if match is None:
        _bad_number(field, header[start : start + length])
    return int(match[1], 8)


def _text(header: bytes, start: int, length: int, field: str) -> bytes:
    text = header[start : start + length].rstrip(b"\0")
    if b"\0" in text:
        raise BadArchive(f"{field} {show(text)} of a header has a NUL byte")
    return text


def _bad_number(field: str, value: bytes) -> NoReturn:
    raise BadArchive(f"{field} {show(value)} of a header is no number")


def _pax_records(data: bytes) -> dict[str, bytes]:
    records: dict[str, bytes] = {}
    position = 0
    while position < len(data):
        match = _RECORD_LENGTH.match(data, position)
        end = position + int(match[1]) if match else 0
        if match is None or end > len(data) or end <= match.end() or data[end - 1 : end] != b"\n":
            raise BadArchive("a pax header cannot be read")
        key_bytes, separator, value = data[match.end() : end - 1].partition(b"=")
        key = key_bytes.decode("ascii", "replace")
        if not separator or key not in _PAX_KEYS:
            raise BadArchive(f"pax record {key[:40]!r} is not allowed")
        if key in records:
            raise BadArchive(f"pax record {key!r} comes twice")
        records[key] = value
        position = end
    if records.get("hdrcharset", b"BINARY") not in _CHARSETS:
        raise BadArchive(f"pax charset {show(records['hdrcharset'])} is not allowed")
    for key in ("uid", "gid"):
        if key in records:
            _decimal(records[key], key)
    return records


def _decimal(value: bytes, field: str) -> int:
    text = value.decode("ascii", "replace")
    if not _NUMBER.fullmatch(text):
        _bad_number(f"pax {field}", value)
    return int(text)


def _seconds(value: bytes) -> int:
    match = _SECONDS.fullmatch(value.decode("ascii", "replace"))
    if match is None:
        _bad_number("pax mtime", value)
    nanoseconds = int(match[2]) * 10**9 + int((match[3] or "").ljust(9, "0"))
    return -nanoseconds if match[1] else nanoseconds
