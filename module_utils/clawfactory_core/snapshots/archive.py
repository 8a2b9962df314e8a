"""What an archive says about itself: header, ranges of patches, changes and manifest, each checked as it is parsed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..errors import InvalidInput
from .digests import BLOCK_SIZE, KEY_SIZE, unescape_path
from .records import SCHEMA
from .tar_reader import BadArchive, ReadLimits, check_path, show

ABOUT = b".clawfactory"
HEADER = b".clawfactory/snapshot.json"
SCRIPT = b".clawfactory/restore.sh"
CHANGES = b".clawfactory/changes"
MANIFEST = b".clawfactory/manifest.json"
PATCH = re.compile(rb"\.clawfactory/patch/(0|[1-9][0-9]{0,8})\.(ranges|data)")
MAX_HEADER = 1 << 16
MAX_SCRIPT = 1 << 18
_DIGEST = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(f"[0-9a-f]{{{2 * KEY_SIZE}}}")
_PATCH_LINE = re.compile(r"patch (0|[1-9][0-9]{0,8}) ([0-9]{1,19}) ([0-7]{4}) (-?)([0-9]{1,12})\.([0-9]{9}) (\S+)")
_RANGE = re.compile(rb"([0-9]{1,15}) ([1-9][0-9]{0,14})")


class Entry(NamedTuple):
    """One entry of a state.

    :param kind: ``f``, ``d`` or ``l``.
    :param digest: hex for a file, escaped target of a link, empty for a directory.
    """

    kind: str
    mode: int
    mtime_ns: int
    size: int
    digest: str


@dataclass(frozen=True)
class Header:
    """``.clawfactory/snapshot.json``; ``parent`` and ``parent_sha256`` are empty for a full one."""

    id: str
    kind: str
    bot: str
    label: str
    parent: str
    parent_sha256: str
    started: str
    uid: int
    gid: int
    digest_key: bytes = field(repr=False)
    program: str


@dataclass(frozen=True)
class Patch:
    """A ``patch`` line: what the file ``path`` has after it."""

    size: int
    mode: int
    mtime_ns: int
    path: bytes


@dataclass(frozen=True)
class Changes:
    """``.clawfactory/changes``; a patch's place in the list is its number."""

    deleted: frozenset[bytes] = frozenset()
    patches: tuple[Patch, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """``.clawfactory/manifest.json``."""

    entries: dict[bytes, Entry]
    tree: str
    count: int
    bytes: int
    databases: tuple[dict[str, str], ...]
    databases_as_of: tuple[str, str] | None
    finished: str
    left_out_count: int


def parse_header(data: bytes) -> Header:
    """:raises BadArchive: it cannot be parsed, or a newer ClawFactory wrote it."""
    raw = _object(data, "header")
    _check_schema(raw)
    if raw.get("block_size") != BLOCK_SIZE:
        raise BadArchive(f"its block_size is {raw.get('block_size')!r}, not {BLOCK_SIZE}")
    kind = _get(raw, "kind", str)
    if kind not in ("full", "inc"):
        raise BadArchive(f"its kind is {kind!r}, neither 'full' nor 'inc'")
    parent = raw.get("parent") or ""
    parent_sha256 = raw.get("parent_sha256") or ""
    if not isinstance(parent, str) or not isinstance(parent_sha256, str):
        raise BadArchive("its parent is no text")
    if kind == "full" and (parent or parent_sha256):
        raise BadArchive("it is a full snapshot, yet has a parent")
    if kind == "inc" and not (parent and _SHA256.fullmatch(parent_sha256)):
        raise BadArchive("it is an incremental snapshot without parent or parent_sha256")
    key = _get(raw, "digest_key", str)
    if not _KEY.fullmatch(key):
        raise BadArchive(f"its digest_key is not {2 * KEY_SIZE} hex digits")
    texts = {name: _get(raw, name, str) for name in ("id", "bot", "label", "started", "program")}
    users = {name: _get(raw, name, int) for name in ("uid", "gid")}
    return Header(
        kind=kind, parent=parent, parent_sha256=parent_sha256, digest_key=bytes.fromhex(key), **texts, **users
    )


def parse_changes(data: bytes, limits: ReadLimits) -> Changes:
    """:raises BadArchive: it cannot be parsed."""
    deleted = set()
    patches: list[Patch] = []
    if data and not data.endswith(b"\n"):
        raise BadArchive("its changes do not end with a line's end")
    for number, line in enumerate(_ascii(data, "changes").split("\n")[:-1], 1):
        verb, _, rest = line.partition(" ")
        if verb == "delete" and not patches:
            deleted.add(_path(rest, limits))
        elif match := _PATCH_LINE.fullmatch(line):
            if int(match[1]) != len(patches):
                raise BadArchive(f"patch {match[1]} stands where patch {len(patches)} should in its changes")
            nanoseconds = int(match[5] + match[6])
            mtime_ns = -nanoseconds if match[4] else nanoseconds
            patches.append(Patch(int(match[2]), int(match[3], 8), mtime_ns, _path(match[7], limits)))
        else:
            raise BadArchive(f"line {number} of its changes cannot be read: {line[:80]!r}")
    return Changes(frozenset(deleted), tuple(patches))


def parse_ranges(data: bytes) -> list[tuple[int, int]]:
    """First block and number of blocks of each range; none for a patch of size, mode and time alone.

    :raises BadArchive: it cannot be parsed, or ranges overlap or do not ascend.
    """
    if data and not data.endswith(b"\n"):
        raise BadArchive("the ranges of a patch do not end with a line's end")
    ranges = []
    after = 0
    for line in data.split(b"\n")[:-1]:
        match = _RANGE.fullmatch(line)
        if match is None or int(match[1]) < after:
            raise BadArchive(f"range {show(line)} of a patch cannot be read or does not ascend")
        first, count = int(match[1]), int(match[2])
        ranges.append((first, count))
        after = first + count
    return ranges


def parse_manifest(data: bytes, limits: ReadLimits) -> Manifest:
    """:raises BadArchive: it cannot be parsed."""
    raw = _object(data, "manifest")
    _check_schema(raw)
    entries: dict[bytes, Entry] = {}
    for item in _get(raw, "entries", list):
        path, entry = _entry(item, limits)
        if path in entries:
            raise BadArchive(f"its manifest has {show(path)} twice")
        entries[path] = entry
    tree = _get(raw, "tree", str)
    if not _SHA256.fullmatch(tree):
        raise BadArchive("the tree digest of its manifest is not 64 hex digits")
    databases = _get(raw, "databases", list)
    for item in databases:
        if (
            not isinstance(item, dict)
            or not isinstance(item.get("path"), str)
            or not isinstance(item.get("as_of"), str)
        ):
            raise BadArchive("the databases of its manifest cannot be read")
    interval = raw.get("databases_as_of")
    if interval is not None and not (
        isinstance(interval, list) and len(interval) == 2 and all(isinstance(item, str) for item in interval)
    ):
        raise BadArchive("databases_as_of of its manifest cannot be read")
    reasons = _get(raw, "left_out_count", dict)
    return Manifest(
        entries=entries,
        tree=tree,
        count=_get(raw, "count", int),
        bytes=_get(raw, "bytes", int),
        databases=tuple({"path": item["path"], "as_of": item["as_of"]} for item in databases),
        databases_as_of=(interval[0], interval[1]) if interval else None,
        finished=_get(raw, "finished", str),
        left_out_count=sum(number for number in reasons.values() if type(number) is int),
    )


def _entry(item: Any, limits: ReadLimits) -> tuple[bytes, Entry]:
    if not isinstance(item, list) or len(item) != 6:
        raise BadArchive(f"entry {str(item)[:80]!r} of its manifest cannot be read")
    path, kind, mode, mtime_ns, size, digest = item
    if not isinstance(path, str) or not isinstance(digest, str) or not isinstance(kind, str) or len(kind) != 1:
        raise BadArchive(f"entry {str(item)[:80]!r} of its manifest has a value of the wrong type")
    if kind not in "fdl" or any(type(number) is not int for number in (mode, mtime_ns, size)):
        raise BadArchive(f"entry {str(item)[:80]!r} of its manifest has a value of the wrong type")
    if kind == "f" and not _DIGEST.fullmatch(digest):
        raise BadArchive(f"the digest of {path[:80]!r} in its manifest is not 32 hex digits")
    return _path(path, limits), Entry(kind, mode, mtime_ns, size, digest)


def _path(text: str, limits: ReadLimits) -> bytes:
    try:
        path = unescape_path(text)
    except InvalidInput as error:
        raise BadArchive(str(error)) from None
    check_path(path, limits)
    if path.split(b"/", 1)[0] == ABOUT:
        raise BadArchive(f"{show(path)} is no path of a state")
    return path


def _object(data: bytes, name: str) -> Mapping[str, Any]:
    try:
        raw = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise BadArchive(f"its {name} is not JSON") from None
    if not isinstance(raw, dict):
        raise BadArchive(f"its {name} is not a JSON object")
    return raw


def _check_schema(raw: Mapping[str, Any]) -> None:
    schema = _get(raw, "schema", int)
    if schema > SCHEMA:
        raise BadArchive(f"written by a newer ClawFactory (schema {schema}); update first")
    if schema < 1:
        raise BadArchive(f"its schema is {schema}")


def _get(raw: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    value = raw.get(name)
    # bool is an int to Python, not to the format.
    if type(value) is not kind:
        raise BadArchive(f"{name} is {str(value)[:80]!r}, not {kind.__name__}")
    return value


def _ascii(data: bytes, name: str) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise BadArchive(f"its {name} are not ASCII") from None
