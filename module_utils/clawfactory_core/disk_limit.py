"""Brings the disk limit of a bot about: by the watcher, and by the file system where it can."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from .disk import DiskLimit, check_limit, limit_file, mark_file, read_limit
from .errors import InvalidInput
from .files import write_atomic
from .quota import Mount, detect_quota, read_project, read_quota, write_project, write_quota


@dataclass(frozen=True)
class DiskRequest:
    """A wanted limit.

    :param limit: its method is decided here.
    :param project: quota project of the bot, unique on its file system, above 0.
    """

    limit: DiskLimit
    project: int


@dataclass(frozen=True)
class DiskPlan:
    """What will be set.

    :param limit: with the method that was found.
    :param device: block device of the quota, ``None`` if the watcher does it.
    :param reason: why this method.
    :param before: file of the limit as it is, empty if there is none.
    :param quota_differs: whether the file system enforces something else yet.
    """

    limit: DiskLimit
    project: int
    device: str | None
    reason: str
    before: str
    quota_differs: bool

    @property
    def changed(self) -> bool:
        """Whether anything differs."""
        return self.quota_differs or self.before != self.limit.to_json()

    def diff(self) -> dict[str, str]:
        """Ansible diff entry."""
        note = f"project quota {self.project} set\n" if self.device and not self.quota_differs else ""
        wanted = f"project quota {self.project} set\n" if self.device else ""
        return {"before": self.before + note, "after": self.limit.to_json() + wanted}


def plan_disk(directory: Path, request: DiskRequest, mounts: Iterable[Mount]) -> DiskPlan:
    """Decide on the method and compare; reads only.

    :param directory: ``<root>/disk``.
    :raises InvalidInput: a value of the request makes no sense.
    """
    limit = check_limit(request.limit)
    if not 0 < request.project < 2**31:
        raise InvalidInput(f"project id {request.project} of {limit.bot} is not between 1 and 2147483647")
    support = detect_quota(limit.path, mounts)
    limit = replace(limit, method="quota" if support.device else "watch")
    path = limit_file(directory, limit.bot)
    before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    differs = support.device is not None and _quota_differs(support.device, limit, request.project)
    return DiskPlan(limit, request.project, support.device, support.reason, before, differs)


def apply_disk(directory: Path, plan: DiskPlan) -> None:
    """Carry out a plan.

    :raises OSError: from the file system.
    """
    if plan.device is not None and plan.quota_differs:
        # The limit first: with the project set and no limit yet, the bot would have none.
        write_quota(plan.device, plan.project, plan.limit.limit_bytes)
        if read_project(plan.limit.path) != plan.project:
            write_project(plan.limit.path, plan.project)
    if plan.before != plan.limit.to_json():
        write_atomic(limit_file(directory, plan.limit.bot), plan.limit.to_json().encode(), mode=0o644)


def remove_disk(directory: Path, bot: str, project: int, mounts: Iterable[Mount], check_only: bool = False) -> bool:
    """Take a bot's limit away, with the note that it was stopped.

    :returns: whether there was one.
    """
    paths = [path for path in (limit_file(directory, bot), mark_file(directory, bot)) if path.exists()]
    if check_only or not paths:
        return bool(paths)
    limit = _readable_limit(directory, bot)
    if limit is not None and limit.method == "quota" and limit.path.is_dir():
        device = detect_quota(limit.path, mounts).device
        if device is not None:
            write_project(limit.path, 0)
            write_quota(device, project, 0)
    for path in paths:
        path.unlink(missing_ok=True)
    return True


def _quota_differs(device: str, limit: DiskLimit, project: int) -> bool:
    wanted = -(-limit.limit_bytes // 1024) * 1024
    return read_quota(device, project) != wanted or not limit.path.is_dir() or read_project(limit.path) != project


def _readable_limit(directory: Path, bot: str) -> DiskLimit | None:
    try:
        return read_limit(directory, bot)
    except InvalidInput:
        # Damaged: nothing in it to undo by, and the file is about to go.
        return None


def to_result(plan: DiskPlan) -> dict[str, object]:
    """What the Ansible module returns of a plan."""
    result: dict[str, object] = json.loads(plan.limit.to_json())
    return {"disk": result, "method": plan.limit.method, "reason": plan.reason}
