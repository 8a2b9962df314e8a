"""Writes the entries of a snapshot below one directory, never through a link."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType

from ..errors import Conflict, InvalidInput
from .descriptors import WriteBehind, write_at
from .tar_reader import PIECE, ReadLimits, is_hole, show

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHECK_EVERY = 64 << 20


class TreeWriter:
    """A tree in the making; nobody else may write to it.

    Every path is walked from ``root`` one component after the other without following links. Directories are 0700 until
    :meth:`finish`.

    :param root: descriptor of the directory.
    :param wanted: tells of a path, and of whether it is a directory, whether it is written; the others are left out.
    :param private: files become 0600 and directories 0700 whatever their mode was.
    :param passing: what is written is soon removed again and need not reach the disk.
    """

    def __init__(
        self,
        root: int,
        limits: ReadLimits,
        wanted: Callable[[bytes, bool], bool] | None = None,
        *,
        private: bool = False,
        passing: bool = False,
    ) -> None:
        self.root = root
        self.passing = passing
        self._limits = limits
        self._wanted = wanted or (lambda path, directory: True)
        self._private = private
        # Descriptors of the directory of the last path and those above it.
        self._open: list[tuple[bytes, int]] = []
        self._unchecked = _CHECK_EVERY

    def directory(self, path: bytes) -> None:
        """Make an empty directory."""
        if self._wanted(path, True):
            parent, name = self._parent(path)
            os.mkdir(name, 0o700, dir_fd=parent)
            self.spend(4096)

    def link(self, path: bytes, target: bytes, mtime_ns: int) -> None:
        """Make a symbolic link; one that is there is replaced."""
        if not self._wanted(path, False):
            return
        parent, name = self._parent(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)
        os.symlink(target, name, dir_fd=parent)
        os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=parent, follow_symlinks=False)
        self.spend(4096)

    def file(self, path: bytes, mode: int, mtime_ns: int, *, left_out: bool = False) -> FileWriter:
        """Make a file; one that is there is replaced. The result must be closed (``with``).

        :param left_out: nothing is there, and the content is taken without being written.
        """
        if left_out or not self._wanted(path, False):
            return FileWriter(self, -1, 0, 0)
        parent, name = self._parent(path)
        try:
            descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=parent)
        except FileExistsError:
            os.unlink(name, dir_fd=parent)
            descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=parent)
        return FileWriter(self, descriptor, self._mode(mode), mtime_ns)

    def pieces(self, path: bytes) -> Iterator[bytes]:
        """Content of a file that was written before."""
        if not self._wanted(path, False):
            raise InvalidInput(f"another path asked for is a hard link to {show(path)}; ask for that one too")
        parent, name = self._parent(path)
        # It may be unreadable even for its owner. Nobody else writes here, so this is the file it was.
        mode = stat.S_IMODE(os.lstat(name, dir_fd=parent).st_mode)
        os.chmod(name, 0o600, dir_fd=parent)
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        with os.fdopen(descriptor, "rb", 0) as content:
            os.fchmod(descriptor, mode)
            while piece := content.read(PIECE):
                yield piece

    def patch(self, path: bytes, size: int, mode: int, mtime_ns: int) -> FileWriter:
        """Change a file in place: :meth:`FileWriter.write_at`."""
        if not self._wanted(path, False):
            return FileWriter(self, -1, 0, 0)
        parent, name = self._parent(path)
        # It may be read-only even for its owner. Nobody else writes here, so this is the file it was.
        os.chmod(name, 0o600, dir_fd=parent)
        descriptor = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        return FileWriter(self, descriptor, self._mode(mode), mtime_ns, size)

    def remove(self, path: bytes, *, directory: bool) -> None:
        """Remove an entry, with all that is below it. A file that was left out is no error."""
        if not self._wanted(path, directory):
            return
        parent, name = self._parent(path)
        if directory:
            self._forget(0)
            parent, name = self._parent(path)
            remove_tree(parent, name)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=parent)

    def finish(self, directories: Iterable[tuple[bytes, int, int]]) -> None:
        """Give directories their modes and times.

        :param directories: path, mode and mtime in nanoseconds; what is below a directory comes before it.
        """
        for path, mode, mtime_ns in directories:
            if self._wanted(path, True):
                parent, name = self._parent(path)
                os.chmod(name, 0o700 if self._private else mode & 0o777, dir_fd=parent)
                os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=parent, follow_symlinks=False)
        self._forget(0)

    def spend(self, size: int) -> None:
        """Count bytes that are written.

        :raises Conflict: the disk has less room left than it should.
        """
        self._unchecked += size
        if self._unchecked >= _CHECK_EVERY:
            self._unchecked = 0
            found = os.fstatvfs(self.root)
            free = found.f_bavail * found.f_frsize
            if free < self._limits.min_free_bytes:
                raise Conflict(
                    f"only {free} bytes of the disk are left, less than {self._limits.min_free_bytes}; make room"
                )

    def _mode(self, mode: int) -> int:
        return 0o600 if self._private else mode & 0o777

    def _parent(self, path: bytes) -> tuple[int, bytes]:
        *above, name = path.split(b"/")
        depth = 0
        for component, (known, _) in zip(above, self._open, strict=False):
            if component != known:
                break
            depth += 1
        self._forget(depth)
        for component in above[depth:]:
            parent = self._open[-1][1] if self._open else self.root
            self._open.append((component, os.open(component, _DIRECTORY, dir_fd=parent)))
        return (self._open[-1][1] if self._open else self.root), name

    def _forget(self, depth: int) -> None:
        for _, descriptor in self._open[depth:]:
            os.close(descriptor)
        del self._open[depth:]


class FileWriter:
    """An open file of the tree. Blocks of zeros stay holes.

    :param descriptor: -1 for one that is not wanted: nothing is written.
    :param size: what it has in the end; ``None``: what was written.
    """

    def __init__(self, tree: TreeWriter, descriptor: int, mode: int, mtime_ns: int, size: int | None = None) -> None:
        self._tree = tree
        self._descriptor = descriptor
        self._mode = mode
        self._mtime_ns = mtime_ns
        self._size = size
        self._position = 0
        self._end = 0
        self._behind = None if tree.passing else WriteBehind(descriptor)
        self.written = descriptor >= 0

    def __enter__(self) -> FileWriter:
        return self

    def write(self, data: bytes) -> None:
        """Append; at most :data:`PIECE` bytes."""
        if self._descriptor >= 0 and not is_hole(data):
            self.write_at(self._position, data)
            if self._behind is not None:
                self._behind.grown(self._position + len(data))
        self._position += len(data)

    def write_at(self, offset: int, data: bytes) -> None:
        """Write at ``offset``, in bytes."""
        if self._descriptor < 0:
            return
        self._tree.spend(len(data))
        write_at(self._descriptor, data, offset)
        self._end = max(self._end, offset + len(data))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor < 0:
            return
        try:
            if kind is None:
                size = self._position if self._size is None else self._size
                if self._size is not None or self._end != size:
                    os.ftruncate(self._descriptor, size)
                os.fchmod(self._descriptor, self._mode)
                os.utime(self._descriptor, ns=(self._mtime_ns, self._mtime_ns))
        finally:
            os.close(self._descriptor)


def remove_tree(parent: int, name: bytes) -> None:
    """Remove a directory and all that is in it, without following links. What is not there is no error.

    Directories are moved up to the top before they are emptied, so that no depth is too deep.

    :raises OSError: something was put in while it was emptied, or the file system's own.
    """
    try:
        top = _open_directory(parent, name)
    except FileNotFoundError:
        return
    try:
        waiting = [os.fsencode(entry) for entry in os.listdir(top)]
        taken = set(waiting)
        count = 0
        while waiting:
            entry = waiting.pop()
            if not _is_directory(top, entry):
                os.unlink(entry, dir_fd=top)
                continue
            # By its descriptor: a path of two components could lead through a link that is there by now.
            opened = _open_directory(top, entry)
            try:
                for child in _subdirectories(opened):
                    while (moved := b".%d" % count) in taken:
                        count += 1
                    taken.add(moved)
                    os.rename(child, moved, src_dir_fd=opened, dst_dir_fd=top)
                    waiting.append(moved)
            finally:
                os.close(opened)
            os.rmdir(entry, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _subdirectories(descriptor: int) -> list[bytes]:
    """Remove everything but directories from a directory; the names of those."""
    found = []
    for entry in os.listdir(descriptor):
        child = os.fsencode(entry)
        if _is_directory(descriptor, child):
            _own(descriptor, child)
            found.append(child)
        else:
            os.unlink(child, dir_fd=descriptor)
    return found


def _is_directory(parent: int, name: bytes) -> bool:
    return stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode)


def _own(parent: int, name: bytes) -> None:
    # Root needs no permission, and may be in a directory where somebody can still put a link in place of an entry.
    if os.geteuid() != 0:
        os.chmod(name, 0o700, dir_fd=parent)


def _open_directory(parent: int, name: bytes) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        _own(parent, name)
        return os.open(name, _DIRECTORY, dir_fd=parent)
