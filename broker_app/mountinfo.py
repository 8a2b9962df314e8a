"""The kernel's own word on what is mounted where: ``/proc/self/mountinfo`` (proc_pid_mountinfo(5))."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

_ESCAPE = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line.

    :param device: ``major:minor`` of the file system.
    :param root: path within the file system that is visible at the mount point.
    :param point: the mount point as this process sees it.
    """

    device: str
    root: str
    point: str


def parse(text: str) -> list[Mount]:
    """Read every line, in the kernel's order.

    :raises ValueError: a line has another form.
    """
    return [_parse_line(line) for line in text.split("\n") if line]


def locate(entries: Sequence[Mount], path: str) -> tuple[str, str]:
    """Say where a path lies: ``(device, path within that file system)``, by the longest mount point above it.

    :param path: absolute and normalised; symbolic links in it are not followed.
    :raises ValueError: no mount, or more than one at the deciding point.
    """
    above = [entry for entry in entries if _is_at_or_below(path, entry.point)]
    longest = max((len(entry.point) for entry in above), default=0)
    deciding = [entry for entry in above if len(entry.point) == longest]
    if len(deciding) != 1:
        raise ValueError("not exactly one mount decides where the path lies")
    mount = deciding[0]
    rest = posixpath.relpath(path, mount.point)
    return mount.device, mount.root if rest == "." else posixpath.join(mount.root, rest)


def _parse_line(line: str) -> Mount:
    fields = line.split(" ")
    if len(fields) < 10 or "-" not in fields[6:-3] or not re.fullmatch(r"[0-9]+:[0-9]+", fields[2]):
        raise ValueError("a line of mountinfo has an unknown form")
    root, point = _decode(fields[3]), _decode(fields[4])
    if not root.startswith("/") or not point.startswith("/"):
        raise ValueError("a line of mountinfo has a path that is not absolute")
    return Mount(fields[2], root, point)


def _decode(field: str) -> str:
    raw = _ESCAPE.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field.encode("utf-8", "surrogateescape"))
    return raw.decode("utf-8", "surrogateescape")


def _is_at_or_below(path: str, directory: str) -> bool:
    return directory == "/" or path == directory or path.startswith(directory + "/")
