"""A second, small writer of the format, for archives that the real one would never make."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyrage
import zstandard

from clawfactory_core.snapshots.names import parse_file_name
from clawfactory_core.snapshots.records import SnapshotRecord, read_record

KEY = bytes(range(64))
MTIME = 1_700_000_000_123_456_789


@dataclass(frozen=True)
class File:
    data: bytes = b""
    mode: int = 0o644
    mtime_ns: int = MTIME
    kind: str = "f"


@dataclass(frozen=True)
class Directory:
    mode: int = 0o755
    mtime_ns: int = MTIME
    kind: str = "d"


@dataclass(frozen=True)
class Link:
    target: bytes = b"somewhere"
    mode: int = 0o777
    mtime_ns: int = MTIME
    kind: str = "l"


Tree = Mapping[bytes, "File | Directory | Link"]
_TYPES = {"f": b"0", "d": b"5", "l": b"2"}


def escape(path: bytes) -> str:
    plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-"
    return "".join(chr(byte) if byte in plain else f"\\0{byte:03o}" for byte in path)


def ordered(paths):
    return sorted(paths, key=lambda path: path.split(b"/"))


def header(name=b"", type_=b"0", size=0, mode=0o644, mtime=0, link=b"", uid=0, gid=0, **raw: bytes) -> bytes:
    """One ustar header; ``raw`` replaces whole fields: size_field, magic, checksum, prefix, mode_field, …"""
    fields = [
        raw.get("name_field", name[:100].ljust(100, b"\0")),
        raw.get("mode_field", b"%07o\0" % mode),
        raw.get("uid_field", b"%07o\0" % uid),
        raw.get("gid_field", b"%07o\0" % gid),
        raw.get("size_field", b"%011o\0" % size),
        raw.get("mtime_field", b"%011o\0" % mtime),
        b"        ",
        type_,
        link[:100].ljust(100, b"\0"),
        raw.get("magic", b"ustar\x0000"),
        bytes(32 + 32 + 8 + 8),
        raw.get("prefix", b"").ljust(155, b"\0"),
        bytes(12),
    ]
    block = b"".join(fields)
    assert len(block) == 512, len(block)
    checksum = raw.get("checksum", b"%06o\0 " % sum(block))
    return block[:148] + checksum + block[156:]


def record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    while len(b"%d %s=%s\n" % (length, key, value)) != length:
        length = len(b"%d %s=%s\n" % (length, key, value))
    return b"%d %s=%s\n" % (length, key, value)


def pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(records: bytes, type_: bytes = b"x") -> bytes:
    return header(b"pax", type_, len(records)) + pad(records)


def member(path: bytes, item: File | Directory | Link) -> bytes:
    records = b""
    target = item.target if isinstance(item, Link) else b""
    for key, value in ((b"path", path), (b"linkpath", target)):
        if len(value) > 100:
            records += record(b"hdrcharset", b"BINARY") if not records else b""
            records += record(key, value)
    sign, (seconds, fraction) = "-" if item.mtime_ns < 0 else "", divmod(abs(item.mtime_ns), 10**9)
    if fraction or sign:
        records += record(b"mtime", f"{sign}{seconds}.{fraction:09d}".encode())
    data = item.data if isinstance(item, File) else b""
    main = header(
        path, _TYPES[item.kind], len(data), item.mode, 0 if sign else item.mtime_ns // 10**9, target, 20001, 20001
    )
    return (pax(records) if records else b"") + main + pad(data)


def file_digest(data: bytes, key: bytes = KEY) -> str:
    blocks = [data[start : start + 4096] for start in range(0, len(data), 4096)]
    return hashlib.sha256(key + b"".join(hashlib.sha256(key + one).digest()[:16] for one in blocks)).hexdigest()[:32]


def entry(path: bytes, item: File | Directory | Link) -> list[object]:
    size, digest = 0, ""
    if isinstance(item, File):
        size, digest = len(item.data), file_digest(item.data)
    elif isinstance(item, Link):
        digest = escape(item.target)
    return [escape(path), item.kind, item.mode, item.mtime_ns, size, digest]


def manifest(tree: Tree, stored: Sequence[bytes], **other: object) -> bytes:
    lines = hashlib.sha256()
    for path in ordered(tree):
        name, kind, mode, mtime_ns, size, digest = entry(path, tree[path])
        lines.update(f"{name} {kind} {mode:04o} {mtime_ns} {size} {digest}\n".encode())
    entries = ",\n".join(json.dumps(entry(path, tree[path])).replace(", ", ",") for path in ordered(stored))
    raw = {
        "schema": 1,
        "tree": lines.hexdigest(),
        "count": len(tree),
        "bytes": sum(len(item.data) for item in tree.values() if isinstance(item, File)),
        "databases": [],
        "databases_as_of": None,
        "finished": "2026-01-01T00:00:01.000000Z",
        "left_out": [],
        "left_out_count": {},
        "changed": [],
        **other,
    }
    # One entry a line, as the script in archives reads it.
    return f'{{"entries":[{entries}],\n{json.dumps(raw)[1:]}'.encode()


@dataclass
class Archive:
    """The parts of an archive, to be bent before :meth:`Maker.write`."""

    header: dict[str, object]
    members: list[bytes]
    changes: bytes | None
    manifest: bytes
    tree: Tree = field(default_factory=dict)
    end: bytes = bytes(1024)

    @property
    def id(self) -> str:
        return str(self.header["id"])

    def tar(self) -> bytes:
        about = Directory(), b".clawfactory/"
        parts = [member(about[1] + b"snapshot.json", File(json.dumps(self.header).encode(), 0o600)), *self.members]
        if self.changes is not None:
            parts.append(member(about[1] + b"changes", File(self.changes, 0o600)))
        return b"".join([*parts, member(about[1] + b"manifest.json", File(self.manifest, 0o600)), self.end])


class Maker:
    """Makes archives of one bot in one directory."""

    def __init__(self, directory: Path, bot: str = "bot1") -> None:
        identity = pyrage.x25519.Identity.generate()
        self.identity, self.recipient = str(identity), identity.to_public()
        self.directory = directory
        self.bot = bot
        self._count = 0

    def _header(self, kind: str, parent: str | None = None, sha256: str | None = None) -> dict[str, object]:
        self._count += 1
        return {
            "schema": 1,
            "id": f"made--2026-01-01T00-00-{self._count:02d}Z",
            "kind": kind,
            "bot": self.bot,
            "label": "made",
            "parent": parent,
            "parent_sha256": sha256,
            "started": f"2026-01-01T00:00:{self._count:02d}.000000Z",
            "uid": 20001,
            "gid": 20001,
            "block_size": 4096,
            "digest_key": KEY.hex(),
            "program": "test",
        }

    def full(self, tree: Tree) -> Archive:
        parts = [member(path, tree[path]) for path in ordered(tree)]
        return Archive(self._header("full"), parts, None, manifest(tree, list(tree)), tree)

    def inc(self, parent: SnapshotRecord, before: Tree, after: Tree, block_patches: bool = True) -> Archive:
        """What a writer makes of two states: deletions, members, and patches of large files."""
        gone = [p for p in before if p not in after or after[p].kind != before[p].kind]
        stored = [path for path in after if before.get(path) != after[path]]
        parts, lines = [], [f"delete {escape(path)}" for path in ordered(gone)]
        number = 0
        for path in ordered(stored):
            old, new = before.get(path), after[path]
            if (
                block_patches
                and isinstance(old, File)
                and isinstance(new, File)
                and min(_size(old), _size(new)) > 262144
            ):
                parts += patch_members(number, old.data, new.data)
                lines.append(patch_line(number, path, new))
                number += 1
            else:
                parts.append(member(path, new))
        changes = "".join(f"{line}\n" for line in lines).encode()
        return Archive(self._header("inc", parent.id, parent.sha256), parts, changes, manifest(after, stored), after)

    def write(self, archive: Archive, *, tar: bytes | None = None, **wrong: object) -> SnapshotRecord:
        """Compress, encrypt, and write it with its record."""
        compressor = zstandard.ZstdCompressor(write_checksum=True)
        return self.write_packed(archive, compressor.compress(archive.tar() if tar is None else tar), **wrong)

    def write_packed(self, archive: Archive, packed: bytes, **wrong: object) -> SnapshotRecord:
        return self.write_encrypted(archive, pyrage.encrypt(packed, [self.recipient]), **wrong)

    def write_encrypted(self, archive: Archive, data: bytes, **wrong: object) -> SnapshotRecord:
        kind = str(archive.header["kind"])
        name = f"{archive.id}.{kind}.tar.zst.age"
        (self.directory / name).write_bytes(data)
        made = SnapshotRecord(
            id=archive.id,
            kind=kind,
            bot=self.bot,
            label="made",
            parent=str(archive.header["parent"] or ""),
            parent_sha256=str(archive.header["parent_sha256"] or ""),
            started=str(archive.header["started"]),
            finished=str(archive.header["started"]),
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            count=len(archive.tree),
            bytes=sum(_size(item) for item in archive.tree.values()),
            recipients=(str(self.recipient),),
            file_name=name,
        )
        made = replace(made, **wrong)
        (self.directory / f"{archive.id}.{kind}.json").write_text(json.dumps(made.to_dict()))
        return made

    def legacy(self, data: bytes, name: str = "old--2025-01-01T00-00-00Z.tar.age") -> SnapshotRecord:
        (self.directory / name).write_bytes(pyrage.encrypt(data, [self.recipient]))
        file = parse_file_name(name)
        assert file is not None
        return read_record(self.directory, file)


def _size(item: File | Directory | Link) -> int:
    return len(item.data) if isinstance(item, File) else 0


def patch_members(number: int, old: bytes, new: bytes) -> list[bytes]:
    blocks = [at // 4096 for at in range(0, len(new), 4096) if old[at : at + 4096] != new[at : at + 4096]]
    ranges = "".join(f"{block} 1\n" for block in blocks).encode()
    data = b"".join(new[block * 4096 : (block + 1) * 4096] for block in blocks)
    return patch_pair(number, ranges, data)


def patch_pair(number: int, ranges: bytes, data: bytes) -> list[bytes]:
    name = b".clawfactory/patch/%d" % number
    return [member(name + b".ranges", File(ranges, 0o600)), member(name + b".data", File(data, 0o600))]


def patch_line(number: int, path: bytes, new: File) -> str:
    sign, (seconds, fraction) = "-" if new.mtime_ns < 0 else "", divmod(abs(new.mtime_ns), 10**9)
    return f"patch {number} {len(new.data)} {new.mode:04o} {sign}{seconds}.{fraction:09d} {escape(path)}"


def legacy_tar(format_: int, items: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format_) as tar:
        for info, data in items:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def read_tree(top: Path) -> dict[bytes, tuple[object, ...]]:
    """What is below a directory, to be compared."""
    found: dict[bytes, tuple[object, ...]] = {}
    root = os.fsencode(top)
    for directory, directories, files in os.walk(root):
        for name in directories + files:
            path = os.path.join(directory, name)
            stat = os.lstat(path)
            content: object = b""
            if os.path.islink(path):
                content = os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    content = hashlib.sha256(file.read()).hexdigest()
            found[os.path.relpath(path, root)] = (
                oct(stat.st_mode),
                stat.st_uid,
                stat.st_gid,
                stat.st_mtime_ns,
                content,
            )
    return found


def expected(tree: Tree, uid: int, gid: int) -> dict[bytes, tuple[object, ...]]:
    """What :func:`read_tree` gives for a restored tree."""
    found: dict[bytes, tuple[object, ...]] = {}
    for path, item in tree.items():
        if isinstance(item, File):
            mode, content = 0o100000 | item.mode & 0o777, hashlib.sha256(item.data).hexdigest()
        elif isinstance(item, Link):
            mode, content = 0o120777, item.target
        else:
            mode, content = 0o40000 | item.mode & 0o777, b""
        found[path] = (oct(mode), uid, gid, item.mtime_ns, content)
    return found
