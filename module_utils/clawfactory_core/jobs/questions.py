"""What the controller asks to show it: reads only. All but :func:`machine_info` run in a process of their own."""

from __future__ import annotations

import json
import os
import stat
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .. import audit as audit_log
from ..snapshots.records import timestamp
from ..snapshots.schedule import describe_schedule
from .work import Report, Work

#: Lines of one answer, and bytes of them together; a line may have 64 KiB.
PAGE = 50
_PAGE_BYTES = 1 << 20
_DENIED_SHOWN = 20
_EGRESS_LINES = 400
_EGRESS_BYTES = 1 << 20
_DENIED = 403
_LONGEST = 255  # characters of a host's name


def machine_info(root: Path, bot: str) -> dict[str, Any]:
    """Whether the bot is locked, whether its snapshots can be read here, the last scheduled one, and the disk."""
    keys = root / "secrets" / bot
    found = os.statvfs(root)
    return {
        "locked": os.path.lexists(root / "locks" / bot),
        "key": (keys / "snapshot.key").is_file() or any((keys / "snapshot.keys").glob("*.key")),
        "free_bytes": found.f_bavail * found.f_frsize,
        "total_bytes": found.f_blocks * found.f_frsize,
        "schedule": describe_schedule(root, bot),
    }


def memory_info(work: Work, _report: Report) -> dict[str, Any]:
    """What a backup of the memory would save now; nothing is written."""
    from ..promotion.memory import backup_memory

    found = backup_memory(work.root, work.bot, actor="operator", check=True)
    return {
        "commit": found.commit,
        "changed": found.changed,
        "files": found.files,
        "left_out": found.left_out,
        "indexes": found.indexes,
        "remote": found.pushed,
    }


def egress_info(work: Work, _report: Report) -> dict[str, Any]:
    """Hosts that the egress proxy refused lately, as the end of its log has them."""
    from ..adapters.container_log import read_log

    text = read_log(f"clawfactory-{work.bot}-egress", lines=_EGRESS_LINES, largest=_EGRESS_BYTES)
    lines = text.splitlines()
    return {"lines": len(lines), "denied": denied_hosts(lines)}


def denied_hosts(lines: list[str]) -> list[dict[str, Any]]:
    """What was refused, by who asked and for what; the latest first."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for entry in filter(None, map(_egress_entry, lines)):
        key = (str(entry["from"])[:20], str(entry["host"])[:_LONGEST], str(entry["port"])[:5])
        count = found.pop(key, {"count": 0})["count"]
        moment = timestamp(datetime.fromtimestamp(float(entry["time"]), timezone.utc))
        found[key] = {"time": moment, "from": key[0], "host": key[1], "port": key[2], "count": count + 1}
    return list(reversed(found.values()))[:_DENIED_SHOWN]


def _egress_entry(line: str) -> Mapping[str, Any] | None:
    """A line about a request that was refused; what else a proxy says is none."""
    try:
        entry = json.loads(line)
        if not isinstance(entry, dict) or entry["status"] != _DENIED or not {"from", "host", "port"} <= set(entry):
            return None
        datetime.fromtimestamp(float(entry["time"]), timezone.utc)
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        return None
    return entry


def audit_page(work: Work, _report: Report) -> dict[str, Any]:
    """A page of the log of decisions, the newest first; ``event`` and ``before`` are the options."""
    wanted = work.options.get("event", "")
    before = int(work.options.get("before", "0")) or None
    path = work.root / "audit" / f"{work.bot}.jsonl"
    page: deque[dict[str, Any]] = deque(maxlen=PAGE + 1)
    total = 0
    for number, line in enumerate(_lines(path), start=1):
        total = number
        if before is not None and number >= before:
            continue
        entry = _audit_entry(number, line)
        if entry["event"].startswith(wanted):
            page.append(entry)
    entries = _bounded(reversed(page))
    return {"entries": entries, "total": total, "more": len(entries) < len(page)}


def audit_verification(work: Work, _report: Report) -> dict[str, Any]:
    """Whether every line of the log of decisions names the one before it."""
    found = audit_log.verify(work.root / "audit" / f"{work.bot}.jsonl")
    return {"lines": found.lines, "problems": list(found.problems[:PAGE])}


def _bounded(entries: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    taken: list[dict[str, Any]] = []
    size = 0
    for entry in entries:
        size += len(json.dumps(entry))
        if len(taken) == PAGE or (taken and size > _PAGE_BYTES):
            break
        taken.append(entry)
    return taken


def _lines(path: Path) -> Iterator[bytes]:
    for file in (audit_log.rotated(path), path):
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        with os.fdopen(descriptor, "rb") as stream:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                while line := stream.readline(audit_log.LINE_BYTES + 1):
                    yield line


def _audit_entry(number: int, line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return {"number": number, "time": "", "event": "unreadable", "fields": {}}
    fields = {name: value for name, value in found.items() if name not in ("time", "event", "bot", "previous")}
    return {
        "number": number,
        "time": str(found.get("time", "")),
        "event": str(found.get("event", "")),
        "fields": fields,
    }
