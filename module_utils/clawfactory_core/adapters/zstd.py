"""zstd streams by zstandard (https://pypi.org/project/zstandard/)."""

from __future__ import annotations

from typing import Any, BinaryIO

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


def decompress_stream(source: BinaryIO, target: BinaryIO) -> None:
    """Decompress all frames of ``source`` into ``target``, which stays open.

    What has been written before an error is not all there is: use it only after a clean end.

    :raises Damaged: it is not zstd, was changed, or ends within a frame.
    :raises MissingDependency: zstandard cannot be imported.
    :raises OSError: of ``source`` or ``target``.
    """
    zstandard = _zstandard()
    # zstandard gives no error where a frame is cut: one more frame behind the end shows whether it was.
    end = zstandard.ZstdCompressor(level=1, write_content_size=False).compress(_END)
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    reader = decompressor.stream_reader(_Appended(source, end), read_across_frames=True, read_size=_CHUNK)
    view = memoryview(bytearray(_CHUNK))
    held = 0
    try:
        while count := reader.readinto(view[held:]):
            # The last bytes may be those of the extra frame: hold as many back.
            filled = held + count
            held = min(filled, len(_END))
            _write_all(target, view[: filled - held])
            view[:held] = bytes(view[filled - held : filled])
    except zstandard.ZstdError as error:
        raise Damaged(f"zstd cannot decompress the archive: {error}") from error
    if view[:held] != _END:
        raise Damaged("the compressed data end within a frame; the archive is cut short")


def _write_all(target: BinaryIO, data: memoryview) -> None:
    # A raw pipe may take less than it was given.
    while data:
        data = data[target.write(data) :]


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
