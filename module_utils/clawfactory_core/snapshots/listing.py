"""What is in one directory of a state, as the manifests of a chain have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidInput
from .archive import Entry
from .digests import escape_path

#: Entries of a directory that are told of, and characters of their names and targets together: they are the bot's.
MOST = 1000
MOST_TEXT = 1 << 20


def list_directory(state: Mapping[bytes, Entry], directory: bytes) -> dict[str, Any]:
    """Tell of what lies directly in a directory: directories first, then by name.

    :param state: all entries by their paths.
    :param directory: its path, empty for the state itself.
    :returns: ``{"entries": [{"name", "kind", "bytes", "files", "mtime_ns", "target"}, …], "count"}``. Names and
        targets are escaped; ``kind`` is ``f``, ``d`` or ``l``; ``bytes`` and ``files`` of a directory are those of all
        below it; ``count`` is how many entries there are, of which at most :data:`MOST` are told of, and fewer where
        they have more than :data:`MOST_TEXT` characters.
    :raises InvalidInput: there is no such directory.
    """
    if directory and (directory not in state or state[directory].kind != "d"):
        raise InvalidInput(f"the snapshot has no directory {escape_path(directory)}")
    start = directory + b"/" if directory else b""
    found: dict[bytes, dict[str, Any]] = {}
    for path, entry in state.items():
        if not path.startswith(start):
            continue
        name, below, _ = path[len(start) :].partition(b"/")
        new = {"name": escape_path(name), "kind": "d", "bytes": 0, "files": 0, "mtime_ns": 0, "target": ""}
        one = found.setdefault(name, new)
        if not below:
            one.update(kind=entry.kind, mtime_ns=entry.mtime_ns, target=entry.digest if entry.kind == "l" else "")
        if entry.kind == "f":
            one["bytes"] += entry.size
            one["files"] += 1
    ordered = sorted(found.items(), key=lambda item: (item[1]["kind"] != "d", item[0]))
    told: list[dict[str, Any]] = []
    text = 0
    for _, one in ordered[:MOST]:
        text += len(one["name"]) + len(one["target"])
        if text > MOST_TEXT:
            break
        told.append(one)
    return {"entries": told, "count": len(ordered)}
