"""States to make snapshots of, and a second, slow reader of the format (docs/snapshot-format.md)."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import pyrage
import zstandard

from clawfactory_core.snapshots.create import SnapshotRequest
from clawfactory_core.snapshots.records import SnapshotRecord

BLOCK = 4096
OWN = b".clawfactory/"
#: kind, mode, mtime in ns, content or target
Node = tuple[str, int, int, bytes]
Tree = dict[bytes, Node]


@dataclass
class Bench:
    """One bot with its state, snapshots and key, below a scratch directory."""

    base: Path
    identity: str = field(default_factory=lambda: str(pyrage.x25519.Identity.generate()))

    def __post_init__(self):
        self.state = self.base / "state"
        self.snapshots = self.base / "snapshots"
        for path in (self.state, self.snapshots):
            path.mkdir(mode=0o700)
        self.recipient = str(pyrage.x25519.Identity.from_str(self.identity).to_public())

    @property
    def index(self) -> Path:
        return self.base / "secrets" / "bot1" / "snapshot.index"

    def request(self, **values) -> SnapshotRequest:
        wanted = {
            "root": self.base,
            "bot": "bot1",
            "state": self.state,
            "directory": self.snapshots,
            "owner": 0,
            "recipients": (self.recipient,),
            "min_free_bytes": 0,
            "max_delta_ratio": 1e9,
        }
        return SnapshotRequest(**{**wanted, **values})

    def archive(self, record: SnapshotRecord) -> Archive:
        return Archive((self.snapshots / record.file_name).read_bytes(), self.identity)

    def restored(self, *records: SnapshotRecord) -> Tree:
        """The state that a chain gives; every promise of the format about it is checked."""
        tree: Tree = {}
        before = None
        for record in records:
            archive = self.archive(record)
            assert archive.header["parent"] == (before.id if before else None)
            assert archive.header["parent_sha256"] == (before.sha256 if before else None)
            tree = archive.applied_to(tree)
            archive.check(tree)
            assert (record.count, record.bytes) == (archive.manifest["count"], archive.manifest["bytes"])
            before = record
        return tree


class Archive:
    """Plain members of an archive, in order."""

    def __init__(self, encrypted: bytes, identity: str) -> None:
        packed = pyrage.decrypt(encrypted, [pyrage.x25519.Identity.from_str(identity)])
        with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as reader:
            plain = reader.read()
        self.members: list[tuple[bytes, Node]] = []
        self.pax: list[dict[str, str]] = []
        with tarfile.open(fileobj=io.BytesIO(plain), encoding="utf-8", errors="surrogateescape") as tar:
            for member in tar:
                self.members.append((os.fsencode(member.name), _node(tar, member)))
                self.pax.append(member.pax_headers)
        own = {path[len(OWN) :]: node[3] for path, node in self.members if path.startswith(OWN)}
        self.own = own
        self.header = json.loads(own[b"snapshot.json"])
        self.manifest = json.loads(own[b"manifest.json"])
        self.changes = own.get(b"changes", b"").decode().splitlines()
        assert [path for path, _ in self.members[:2]] == [OWN + b"snapshot.json", OWN + b"restore.sh"]
        assert self.members[-1][0] == OWN + b"manifest.json"
        assert (self.header["kind"] == "inc") == (self.members[-2][0] == OWN + b"changes")

    @property
    def paths(self) -> list[bytes]:
        return [path for path, _ in self.members if not path.startswith(OWN)]

    def applied_to(self, tree: Tree) -> Tree:
        tree = dict(tree)
        for line in self.changes:
            if line.startswith("delete "):
                gone = unescape(line.split(" ")[1])
                assert gone in tree
                tree = {path: node for path, node in tree.items() if path != gone and not path.startswith(gone + b"/")}
        for path, node in self.members:
            if not path.startswith(OWN):
                assert path not in tree or tree[path][0] == node[0]
                assert b"/" not in path or tree[path.rpartition(b"/")[0]][0] == "d"
                tree[path] = node
        for line in self.changes:
            if line.startswith("patch "):
                self._patch(tree, line.split(" "))
        return tree

    def _patch(self, tree: Tree, words: list[str]) -> None:
        _, number, size, mode, mtime, path = words
        kind, _, _, content = tree[unescape(path)]
        data = io.BytesIO(self.own[f"patch/{number}.data".encode()])
        patched = bytearray(content)
        for line in self.own[f"patch/{number}.ranges".encode()].decode().splitlines():
            first, count = map(int, line.split(" "))
            blocks = data.read(count * BLOCK)
            assert first * BLOCK < int(size)
            patched[first * BLOCK : first * BLOCK + len(blocks)] = blocks
        assert not data.read()
        patched = patched[: int(size)].ljust(int(size), b"\0")
        tree[unescape(path)] = (kind, int(mode, 8), nanoseconds(mtime), bytes(patched))

    def check(self, tree: Tree) -> None:
        """The manifest says what the tree is."""
        key = bytes.fromhex(self.header["digest_key"])
        lines = []
        entries = {}
        for path in sorted(tree, key=lambda path: path.split(b"/")):
            kind, mode, mtime, content = tree[path]
            digest = file_digest(key, content) if kind == "f" else escape(content)
            size = len(content) if kind == "f" else 0
            entries[escape(path)] = [escape(path), kind, mode, mtime, size, digest]
            lines.append(f"{escape(path)} {kind} {mode:04o} {mtime} {size} {digest}\n")
        assert self.manifest["tree"] == hashlib.sha256("".join(lines).encode()).hexdigest()
        assert self.manifest["count"] == len(tree)
        assert self.manifest["bytes"] == sum(len(node[3]) for node in tree.values() if node[0] == "f")
        patched = {line.split(" ")[5] for line in self.changes if line.startswith("patch ")}
        stored = list(dict.fromkeys([escape(path) for path in self.paths]))
        listed = [entry[0] for entry in self.manifest["entries"]]
        assert sorted(listed) == sorted({*stored, *patched})
        assert all(entry == entries[entry[0]] for entry in self.manifest["entries"])
        order = [unescape(path).split(b"/") for path in listed]
        assert order == sorted(order)


def _node(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Node:
    kind = {tarfile.REGTYPE: "f", tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l"}[member.type]
    mtime = nanoseconds(member.pax_headers["mtime"]) if "mtime" in member.pax_headers else int(member.mtime) * 10**9
    content = tar.extractfile(member).read() if kind == "f" else os.fsencode(member.linkname)
    return kind, member.mode, mtime, content


def on_disk(state: Path, *, without: tuple[bytes, ...] = ()) -> Tree:
    """What is below a directory."""
    tree: Tree = {}
    top = os.fsencode(state)
    for directory, names, files in os.walk(top):
        for name in [*names, *files]:
            path = os.path.join(directory, name)
            found = os.lstat(path)
            kind = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l"}[stat.S_IFMT(found.st_mode)]
            content = b""
            if kind == "f":
                content = Path(os.fsdecode(path)).read_bytes()
            elif kind == "l":
                content = os.readlink(path)
            tree[path[len(top) + 1 :]] = (kind, stat.S_IMODE(found.st_mode), found.st_mtime_ns, content)
    return {path: node for path, node in tree.items() if path not in without}


def escape(path: bytes) -> str:
    plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-"
    return "".join(chr(byte) if byte in plain else f"\\0{byte:03o}" for byte in path)


def unescape(text: str) -> bytes:
    return re.sub(rb"\\0(\d{3})", lambda match: bytes([int(match[1], 8)]), text.encode())


def nanoseconds(text: str) -> int:
    whole, _, fraction = text.lstrip("-").partition(".")
    value = int(whole) * 10**9 + int(fraction.ljust(9, "0") or 0)
    return -value if text.startswith("-") else value


def file_digest(key: bytes, content: bytes) -> str:
    blocks = [
        hashlib.sha256(key + content[start : start + BLOCK]).digest()[:16] for start in range(0, len(content), BLOCK)
    ]
    return hashlib.sha256(key + b"".join(blocks)).digest()[:16].hex()
