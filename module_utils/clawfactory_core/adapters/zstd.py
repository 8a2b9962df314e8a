"""zstd streams by zstandard (https://pypi.org/project/zstandard/)."""

from __future__ import annotations

import io
from typing import Any, BinaryIO, cast

from ..errors import MissingDependency
from .age import Damaged

#: What RFC 8878, 3.1.1.1.2 asks every decoder to support; level 1 writes 512 KiB.
MAX_WINDOW_BYTES = 8 << 20
_CHUNK = 1 << 20
# Content of a frame put behind the stream's end; as runs of one byte, so that its text is nowhere in the frame itself.
_END = bytes([0x5A]) * 64 + bytes([0xA5]) * 64


def compressor(level: int = 1, threads: int = 2) -> Any:
    """A compressor with content checksums; ``.stream_writer(file, closefd=False)`` gives a file to write to.

    :raises MissingDependency: zstandard cannot be imported.
    """
    return _zstandard().ZstdCompressor(level=level, threads=threads, write_checksum=True)


def decompress_reader(source: BinaryIO) -> BinaryIO:
    """A file whose ``read`` gives the content of all frames in ``source``.

    Reading raises :class:`~.age.Damaged` if ``source`` is not zstd, was changed, or ends within a frame.

    :raises MissingDependency: zstandard cannot be imported.
    """
    return cast(BinaryIO, io.BufferedReader(_Frames(source), _CHUNK))


class _Frames(io.RawIOBase):
    """zstandard gives no error where a frame is cut: one more frame behind the end shows whether it was."""

    def __init__(self, source: BinaryIO) -> None:
        zstandard = _zstandard()
        self._error = zstandard.ZstdError
        end = zstandard.ZstdCompressor(level=1, write_content_size=False).compress(_END)
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
        self._reader = decompressor.stream_reader(_Appended(source, end), read_across_frames=True, read_size=_CHUNK)
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        while view:
            # The last bytes may be those of the extra frame: hold as many back.
            chunk = self._read(len(view))
            if not chunk:
                if self._held != _END:
                    raise Damaged("the compressed data end within a frame; the archive is cut short")
                return 0
            chunk = self._held + chunk
            self._held = chunk[-len(_END) :]
            ready = len(chunk) - len(self._held)
            if ready:
                view[:ready] = chunk[:ready]
                return ready
        return 0

    def _read(self, size: int) -> bytes:
        try:
            return cast(bytes, self._reader.read(size))
        except self._error as error:
            raise Damaged(f"zstd cannot decompress the archive: {error}") from error


class _Appended:
    """A source, and a few bytes behind it."""

    def __init__(self, source: BinaryIO, end: bytes) -> None:
        self._source = source
        self._end = end

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        if not data:
            data, self._end = self._end, b""
        return data


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise MissingDependency("zstandard") from error
    return zstandard
