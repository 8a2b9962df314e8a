"""Disk limits that the file system enforces: project quotas of ext4 and XFS.

Done with the kernel's own calls, so a machine needs no quota tools. The calls are the same for both file systems.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import CoreError
from .tree import MAX_DEPTH, walk_tree

_FS_IOC_FSGETXATTR = 0x801C581F
_FS_IOC_FSSETXATTR = 0x401C5820
#: ``struct fsxattr``: flags, extent size, number of extents, project id, extent size for copies, padding.
_FSXATTR = struct.Struct("=IIIII8x")
_PROJECT_INHERIT = 0x200
_PRJQUOTA = 2
_Q_GETQUOTA = 0x800007
_Q_SETQUOTA = 0x800008
_QIF_BLIMITS = 1
_QUOTA_BLOCK = 1024
_MOUNT_OPTIONS = {"ext4": {"prjquota"}, "xfs": {"prjquota", "pquota"}}


class _Quota(ctypes.Structure):
    """``struct if_dqblk`` of linux/quota.h; limits count blocks of 1024 bytes."""

    _fields_ = [
        *((name, ctypes.c_uint64) for name in ("hard", "soft", "space", "inode_hard", "inode_soft", "inodes")),
        ("block_time", ctypes.c_uint64),
        ("inode_time", ctypes.c_uint64),
        ("valid", ctypes.c_uint32),
    ]


@dataclass(frozen=True)
class Mount:
    """A line of ``/proc/self/mountinfo``; options are those of the mount and of its file system."""

    device: str
    point: str
    fs_type: str
    options: frozenset[str]


@dataclass(frozen=True)
class QuotaSupport:
    """:param device: block device with project quotas, ``None`` if there are none. :param reason: why so."""

    device: str | None
    reason: str


def parse_mounts(text: str) -> list[Mount]:
    """Read ``/proc/self/mountinfo``, see proc(5)."""
    mounts = []
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if separator and len(fields) >= 6 and len(tail) >= 3:
            options = frozenset([*fields[5].split(","), *tail[2].split(",")])
            mounts.append(Mount(_unescape(tail[1]), _unescape(fields[4]), tail[0], options))
    return mounts


def mount_of(path: Path, mounts: Iterable[Mount]) -> Mount | None:
    """The mount that holds ``path``, which is absolute and free of links; of two at one place the later one."""
    found = None
    for mount in mounts:
        inside = mount.point == "/" or path == Path(mount.point) or Path(mount.point) in path.parents
        if inside and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def detect_quota(path: Path, mounts: Iterable[Mount]) -> QuotaSupport:
    """Whether the file system of a directory enforces project quotas, and else why not."""
    mount = mount_of(Path(os.path.realpath(path)), mounts)
    if mount is None:
        return QuotaSupport(None, f"no mount holds {path}")
    wanted = _MOUNT_OPTIONS.get(mount.fs_type)
    if wanted is None:
        return QuotaSupport(None, f"{mount.point} is {mount.fs_type}; only ext4 and xfs have project quotas")
    if not wanted & mount.options:
        return QuotaSupport(None, f"{mount.point} ({mount.fs_type}) is mounted without {' or '.join(sorted(wanted))}")
    try:
        read_quota(mount.device, 0)
    except OSError as error:
        return QuotaSupport(None, f"{mount.point} has project quotas, but they cannot be used here: {error}")
    return QuotaSupport(mount.device, f"{mount.point} ({mount.fs_type}) enforces project quotas")


def read_quota(device: str, project: int) -> int:
    """Hard limit of a project in bytes, 0 for none.

    :raises OSError: quotas are off, or not allowed to us.
    """
    try:
        return int(_quotactl(_Q_GETQUOTA, device, project, _Quota()).hard) * _QUOTA_BLOCK
    except FileNotFoundError:
        if os.path.exists(device):
            return 0  # XFS keeps nothing for a project that never had a limit or a file
        raise


def write_quota(device: str, project: int, limit_bytes: int) -> None:
    """Set the hard and soft limit of a project, rounded up to 1024 bytes; 0 takes it away.

    :raises OSError: quotas are off, or not allowed to us.
    """
    blocks = -(-limit_bytes // _QUOTA_BLOCK)
    _quotactl(_Q_SETQUOTA, device, project, _Quota(hard=blocks, soft=blocks, valid=_QIF_BLIMITS))


def _quotactl(command: int, device: str, project: int, quota: _Quota) -> _Quota:
    libc = ctypes.CDLL(None, use_errno=True)
    request = (command << 8) | _PRJQUOTA
    # The kernel takes the request as an unsigned number; C's int would call it negative.
    code = ctypes.c_int(request - (1 << 32) if request >= 1 << 31 else request)
    if libc.quotactl(code, os.fsencode(device), ctypes.c_int(project), ctypes.byref(quota)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), device)
    return quota


def read_project(path: Path) -> int:
    """Project id that new files in a directory inherit, 0 for none.

    :raises OSError: the directory is missing, or its file system has no projects.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        flags, _, _, project, _ = _FSXATTR.unpack(_attributes(descriptor))
    finally:
        os.close(descriptor)
    return int(project) if flags & _PROJECT_INHERIT else 0


def write_project(path: Path, project: int) -> None:
    """Give a directory and what is in it already to a project; what comes later inherits it. 0 takes them out.

    :raises OSError: the directory is missing, or its file system has no projects.
    :raises CoreError: something in it could not be put into the project.
    """
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        # The top first: from then on nothing new is outside the project.
        _assign(top, project)
    finally:
        os.close(top)

    def assign(name: str, found: os.stat_result, parent: int) -> None:
        # Links and devices take no blocks, and opening a device can do things.
        if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
            try:
                _assign(descriptor, project)
            finally:
                os.close(descriptor)

    report = walk_tree(path, assign)
    if report.too_deep or report.problem:
        problem = report.problem or f"it is nested deeper than {MAX_DEPTH} directories"
        raise CoreError(f"{path} cannot be put under its disk limit completely: {problem}")


def _assign(descriptor: int, project: int) -> None:
    flags, extent, extents, _, copy_extent = _FSXATTR.unpack(_attributes(descriptor))
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        flags = flags | _PROJECT_INHERIT if project else flags & ~_PROJECT_INHERIT
    fcntl.ioctl(descriptor, _FS_IOC_FSSETXATTR, _FSXATTR.pack(flags, extent, extents, project, copy_extent))


def _attributes(descriptor: int) -> bytes:
    return fcntl.ioctl(descriptor, _FS_IOC_FSGETXATTR, bytes(_FSXATTR.size))


def _unescape(text: str) -> str:
    """Mount points have blanks, tabs, newlines and backslashes as octal numbers."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def read_mounts() -> list[Mount]:
    """Mounts of this process.

    :raises CoreError: the kernel does not tell.
    """
    try:
        return parse_mounts(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError as error:
        raise CoreError(f"the mounts of this machine cannot be read: {error}") from error
