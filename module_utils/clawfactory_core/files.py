"""A set of files and directories, brought to a wanted state in one go and each of them atomically.

Ansible's own ``copy`` and ``file`` handle one path per task; a bot has dozens, and a task costs a third of a second.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import InvalidInput

_STATES = ("file", "directory", "absent")
_KEYS = {"path", "state", "content", "owner", "group", "mode", "secret", "once"}


@dataclass(frozen=True)
class FileSpec:
    """One wanted path.

    :param path: absolute path.
    :param state: ``file``, ``directory`` or ``absent`` (a file or an empty directory is removed).
    :param content: text of a file, written as UTF-8.
    :param owner: numeric user id, ``None`` leaves it.
    :param group: numeric group id, ``None`` leaves it.
    :param mode: permission bits, ``None`` leaves them (a new file gets 0600, a new directory 0700).
    :param secret: never show the content in a diff.
    :param once: write the content only if the file does not exist; owner and mode are kept up to date.
    """

    path: Path
    state: str = "file"
    content: str = field(default="", repr=False)
    owner: int | None = None
    group: int | None = None
    mode: int | None = None
    secret: bool = False
    once: bool = False


@dataclass
class FileChange:
    """What differs for one path: ``reasons`` are words such as ``content``, ``mode``, ``absent``."""

    spec: FileSpec
    reasons: list[str]
    before: str | None = field(default=None, repr=False)


@dataclass
class FilesPlan:
    """The differences between the machine and the wanted set, in the order given."""

    changes: list[FileChange] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether anything differs."""
        return bool(self.changes)

    def diff(self) -> list[dict[str, str]]:
        """Ansible diff entries; content of secret files is replaced by a note."""
        return [_diff(change) for change in self.changes]


def parse_specs(raw: Iterable[Mapping[str, Any]]) -> list[FileSpec]:
    """Turn module arguments into specs.

    :raises InvalidInput: a path is relative, a key or state is unknown, or an owner is not a number.
    """
    return [_parse(item) for item in raw]


def _parse(item: Mapping[str, Any]) -> FileSpec:
    unknown = sorted(set(item) - _KEYS)
    if unknown:
        raise InvalidInput(f"unknown key {unknown[0]!r} for path {item.get('path')!r}; known are {sorted(_KEYS)}")
    path = Path(str(item.get("path") or ""))
    if not path.is_absolute():
        raise InvalidInput(f"path {str(path)!r} is not absolute; give the full path")
    state = str(item.get("state") or "file")
    if state not in _STATES:
        raise InvalidInput(f"state {state!r} of {path} is unknown; known are {', '.join(_STATES)}")
    return FileSpec(
        path=path,
        state=state,
        content=str(item.get("content") or ""),
        owner=_number(item.get("owner"), path),
        group=_number(item.get("group"), path),
        mode=_mode(item.get("mode"), path),
        secret=bool(item.get("secret")),
        once=bool(item.get("once")),
    )


def _number(value: Any, path: Path) -> int | None:
    if value is None or value == "":
        return None
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if number < 0:
        raise InvalidInput(f"owner or group {value!r} of {path} is not a number; give a numeric id")
    return number


def _mode(value: Any, path: Path) -> int | None:
    if value is None or value == "":
        return None
    # A number has lost its notation: YAML's 0640 and 416 are the same to us.
    if not isinstance(value, str) or not re.fullmatch("[0-7]{3,5}", value) or int(value, 8) > 0o7777:
        raise InvalidInput(f"mode {value!r} of {path} is not octal text; write it as '0640' in quotes")
    return int(value, 8)


def plan_files(specs: Iterable[FileSpec]) -> FilesPlan:
    """Compare the machine with the wanted set; reads only.

    :raises InvalidInput: something of another kind (or a link) stands at a wanted path.
    """
    plan = FilesPlan()
    for spec in specs:
        change = _compare(spec)
        if change is not None:
            plan.changes.append(change)
    return plan


def _compare(spec: FileSpec) -> FileChange | None:
    try:
        found = os.lstat(spec.path)
    except (FileNotFoundError, NotADirectoryError):
        return None if spec.state == "absent" else FileChange(spec, ["absent"])
    if spec.state == "absent":
        return FileChange(spec, ["present"])
    wanted_kind = stat.S_ISDIR if spec.state == "directory" else stat.S_ISREG
    if not wanted_kind(found.st_mode):
        # Following a link here would let whoever owns the directory choose what root writes to.
        raise InvalidInput(f"{spec.path} is not a {spec.state}; move it away and run again")
    reasons = []
    before = None
    if spec.state == "file" and not spec.once:
        found_bytes = spec.path.read_bytes()
        before = found_bytes.decode("utf-8", "replace")
        if found_bytes != spec.content.encode():
            reasons.append("content")
    if spec.mode is not None and stat.S_IMODE(found.st_mode) != spec.mode:
        reasons.append("mode")
    if spec.owner is not None and found.st_uid != spec.owner:
        reasons.append("owner")
    if spec.group is not None and found.st_gid != spec.group:
        reasons.append("group")
    return FileChange(spec, reasons, before) if reasons else None


def apply_files(plan: FilesPlan) -> list[str]:
    """Carry out a plan.

    :returns: the changed paths.
    :raises OSError: from the file system; every path already handled is complete, no other is half written.
    """
    for change in plan.changes:
        spec = change.spec
        if spec.state == "absent":
            _remove(spec.path)
        elif spec.state == "directory":
            _make_directory(spec)
        elif "content" in change.reasons or "absent" in change.reasons:
            write_atomic(spec.path, spec.content.encode(), mode=spec.mode, owner=spec.owner, group=spec.group)
        else:
            _set_attributes(spec)
    return [str(change.spec.path) for change in plan.changes]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink()


def _make_directory(spec: FileSpec) -> None:
    if not spec.path.is_dir():
        spec.path.mkdir(parents=True, exist_ok=True, mode=0o700 if spec.mode is None else spec.mode)
    _set_attributes(spec)


def _set_attributes(spec: FileSpec) -> None:
    # By descriptor: a bot owns some directories, and may put a link in place of an entry between look and change.
    descriptor = os.open(spec.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.fchown(descriptor, -1 if spec.owner is None else spec.owner, -1 if spec.group is None else spec.group)
        if spec.mode is not None:
            os.fchmod(descriptor, spec.mode)
    finally:
        os.close(descriptor)


def write_atomic(
    path: Path, data: bytes, *, mode: int | None = None, owner: int | None = None, group: int | None = None
) -> None:
    """Write a file so that a reader, or a machine that loses power, sees the old content or the new one.

    :param mode: permission bits; ``None`` keeps those of the file it replaces, or 0600.
    :raises OSError: nothing has been replaced.
    """
    previous = os.lstat(path) if path.is_file() and not path.is_symlink() else None
    if mode is None:
        mode = stat.S_IMODE(previous.st_mode) if previous else 0o600
    owner = owner if owner is not None else (previous.st_uid if previous else -1)
    group = group if group is not None else (previous.st_gid if previous else -1)
    # Random: what a killed process left must not stop a later one that has its number.
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.partial")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            os.fchown(handle.fileno(), owner, group)
            os.fchmod(handle.fileno(), mode)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make a rename in ``path`` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(data: bytes) -> str:
    """SHA-256 of ``data`` as 64 hex characters."""
    return hashlib.sha256(data).hexdigest()


def _diff(change: FileChange) -> dict[str, str]:
    spec = change.spec
    header = f"{spec.path} ({', '.join(change.reasons)})"
    if spec.secret or spec.state != "file" or not {"content", "absent"} & set(change.reasons):
        note = (
            "content hidden" if spec.secret else f"{spec.state} mode={spec.mode and oct(spec.mode)} owner={spec.owner}"
        )
        return {"prepared": f"{header}: {note}\n"}
    lines = difflib.unified_diff(
        (change.before or "").splitlines(keepends=True),
        spec.content.splitlines(keepends=True),
        f"before: {spec.path}",
        f"after: {spec.path}",
    )
    return {"prepared": "".join(lines) or f"{header}\n"}
