"""Applies the archives of a chain, one after the other, and checks every digest of them on the way."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from . import archive
from .archive import Changes, Entry, Header, Manifest, Patch
from .databases import is_database
from .digests import Digester, TreeDigest, escape_path, tree_line
from .patches import PatchData, resize
from .tar_reader import BadArchive, Member, ReadLimits, TarReader, show
from .tree_writer import TreeWriter

#: The format allows patches of files above this size only, before and after.
PATCHED_ABOVE = 262144
#: SQLite rolls it back before it reads the database beside it.
_JOURNAL = b"-journal"


class Replay:
    """State of a bot as archives are applied.

    :param tree: where the entries are written.
    :param spool: empty file for the data of patches: to what they belong is known at the end of an archive only.
    :param single: only one archive is to come, a full one.
    :param databases_only: of the files, write only those in which SQLite may find a database, or that a later patch may
        make one. Nothing is read back for a digest, so all of them are checked as ever.
    """

    def __init__(
        self,
        tree: TreeWriter,
        spool: BinaryIO,
        limits: ReadLimits,
        *,
        single: bool = False,
        databases_only: bool = False,
    ) -> None:
        self.state: dict[bytes, Entry] = {}
        self.bytes = 0
        self._digest = TreeDigest()
        self._tree = tree
        self._spool = spool
        self._limits = limits
        self._single = single
        self._databases_only = databases_only
        self._header: Header | None = None
        # Digests of the blocks of files that can be patched: these are never read back.
        self._blocks: dict[bytes, bytes] = {}
        # Any will do for archives of the original, which have no digests.
        self._digester = Digester(bytes(64))
        self._added: set[bytes] = set()
        self._replaced: set[bytes] = set()

    def apply(self, stream: BinaryIO, max_stream: int, snapshot_id: str) -> tuple[Header, Manifest]:
        """Apply one archive.

        :param stream: its plain tar.
        :param max_stream: bytes that this may have.
        :param snapshot_id: which it must be.
        :raises BadArchive: anything is not as the format says; the tree must not be used.
        """
        reader = TarReader(stream, self._limits, max_stream)
        members = reader.members()
        header = _header(members, reader)
        self._check_header(header, snapshot_id)
        self._header = header
        self._digester = Digester(header.digest_key)
        self._added, self._replaced = set(), set()
        patches = PatchData(self._spool, self._digester, self._tree.spend)
        changes, manifest = self._members(members, reader, header, patches)
        patches.check_complete(len(changes.patches))
        self._delete(changes.deleted)
        for number, patch in enumerate(changes.patches):
            self._patch(patch, patches, number)
        self._check_parents()
        self._check_manifest(manifest)
        return header, manifest

    def add(self, member: Member, pieces: Iterable[bytes]) -> None:
        """Put one entry of the state in place.

        :param pieces: content of a file, each but the last a multiple of the block size.
        :raises BadArchive: its path comes twice or lies below something that is no directory.
        """
        path, kind = member.path, member.kind
        self._check_parent(path)
        before = self.state.get(path)
        if path in self._added and not (before and before.kind == kind == "f"):
            raise BadArchive(f"{show(path)} comes twice")
        if before and before.kind != kind:
            self._tree.remove(path, directory=before.kind == "d")
            self._replaced.add(path)
            before = None
        if kind == "d":
            if before is None:
                self._tree.directory(path)
            digest = ""
        elif kind == "l":
            self._tree.link(path, member.target, member.mtime_ns)
            digest = escape_path(member.target)
        else:
            digest = self._file(member, pieces)
        self._added.add(path)
        self._set(path, Entry(kind, member.mode, member.mtime_ns, member.size, digest))

    def imply(self, path: bytes) -> None:
        """Make a directory that is no member but has members below it; archives of the original only."""
        if path not in self.state:
            self._check_parent(path)
            self._tree.directory(path)
            self._set(path, Entry("d", 0o700, 0, 0, ""))

    def finish(self) -> None:
        """Give all directories their modes and times; after the last archive."""
        found = [(path, entry.mode, entry.mtime_ns) for path, entry in self.state.items() if entry.kind == "d"]
        self._tree.finish(sorted(found, reverse=True))

    def _members(
        self, members: Iterator[Member], reader: TarReader, header: Header, patches: PatchData
    ) -> tuple[Changes, Manifest]:
        changes = None
        manifest = None
        for number, member in enumerate(members):
            if manifest is not None:
                raise BadArchive("something follows its manifest")
            if member.path.split(b"/", 1)[0] != archive.ABOUT:
                if changes is not None:
                    raise BadArchive(f"{show(member.path)} follows its changes")
                self.add(member, reader.pieces(sparse=True))
            elif member.kind != "f":
                raise BadArchive(f"{show(member.path)} is not a regular file")
            elif member.path == archive.MANIFEST:
                data = reader.document("manifest", self._limits.max_document)
                manifest = archive.parse_manifest(data, self._limits)
            elif member.path == archive.CHANGES and header.kind == "inc" and changes is None:
                changes = archive.parse_changes(reader.document("changes", self._limits.max_document), self._limits)
            elif member.path == archive.SCRIPT and number == 0:
                reader.document("script", archive.MAX_SCRIPT)
            elif header.kind == "inc" and changes is None:
                patches.read(member, reader)
            else:
                raise BadArchive(f"{show(member.path)} has no place there")
        if header.kind == "inc" and changes is None:
            raise BadArchive("its changes are missing")
        if manifest is None:
            raise BadArchive("its manifest is missing")
        return changes or Changes(), manifest

    def _check_header(self, header: Header, snapshot_id: str) -> None:
        if header.id != snapshot_id:
            raise BadArchive(f"it is snapshot {header.id}, not {snapshot_id}")
        before = self._header
        if before is None:
            if header.kind != "full":
                raise BadArchive("it is incremental, yet stands first in its chain")
            return
        if header.kind != "inc" or header.parent != before.id:
            raise BadArchive(f"it builds upon {header.parent or 'nothing'}, not upon {before.id}")
        if header.digest_key != before.digest_key or header.bot != before.bot:
            raise BadArchive(f"it is not of the same chain as {before.id}")

    def _check_parent(self, path: bytes) -> None:
        parent = path.rpartition(b"/")[0]
        if parent:
            entry = self.state.get(parent)
            if entry is None or entry.kind != "d":
                raise BadArchive(f"{show(path)} lies below {show(parent)}, which is no directory")

    def _check_parents(self) -> None:
        # A deletion may have taken away what a member lies in.
        for path in self._added:
            self._check_parent(path)

    def _set(self, path: bytes, entry: Entry) -> None:
        before = self.state.get(path)
        self.bytes += entry.size - (before.size if before else 0)
        self.state[path] = entry
        self._digest.set(path, tree_line(path, *entry))
        if self.bytes > self._limits.max_bytes:
            raise BadArchive(f"its files have more than max_bytes {self._limits.max_bytes}")
        if len(self.state) > self._limits.max_entries:
            raise BadArchive(f"it has more entries than max_entries {self._limits.max_entries}")

    def _file(self, member: Member, pieces: Iterable[bytes]) -> str:
        digests = []
        rest = iter(pieces)
        first = next(rest, b"")
        left_out = self._left_out(member, first)
        if left_out and member.path in self.state:
            self._tree.remove(member.path, directory=False)
        with self._tree.file(member.path, member.mode, member.mtime_ns, left_out=left_out) as file:
            for piece in itertools.chain((first,), rest):
                digests.append(self._digester.blocks(piece))
                file.write(piece)
        self._blocks.pop(member.path, None)
        if member.size > PATCHED_ABOVE and not self._single:
            self._blocks[member.path] = b"".join(digests)
        return self._digester.file(digests).hex()

    def _left_out(self, member: Member, first: bytes) -> bool:
        if not self._databases_only or is_database(first) or member.path.endswith(_JOURNAL):
            return False
        return self._single or member.size <= PATCHED_ABOVE

    def _delete(self, deleted: frozenset[bytes]) -> None:
        gone = deleted | self._replaced
        if not gone:
            return
        for path in self._replaced:
            if not _covered(path, deleted):
                raise BadArchive(f"{show(path)} changes its type, yet is not deleted before")
        stale = [path for path in self.state if path not in self._added and _covered(path, gone)]
        for path in sorted(stale, reverse=True):
            entry = self.state.pop(path)
            self._digest.remove(path)
            self.bytes -= entry.size
            self._blocks.pop(path, None)
            # With what changed its type, all below it went from the disk.
            if not _covered(path, self._replaced):
                self._tree.remove(path, directory=entry.kind == "d")

    def _patch(self, patch: Patch, data: PatchData, number: int) -> None:
        before = self.state.get(patch.path)
        blocks = self._blocks.get(patch.path)
        if before is None or blocks is None or patch.size <= PATCHED_ABOVE:
            raise BadArchive(f"{show(patch.path)} is patched, yet is or becomes no file above {PATCHED_ABOVE} bytes")
        if patch.size > self._limits.max_bytes:
            raise BadArchive(f"{show(patch.path)} becomes larger than max_bytes {self._limits.max_bytes}")
        patched = bytearray(blocks)
        resize(patched, before.size, patch.size)
        with self._tree.patch(patch.path, patch.size, patch.mode, patch.mtime_ns) as file:
            data.write(number, patch, patched, file)
        self._blocks[patch.path] = bytes(patched)
        self._added.add(patch.path)
        digest = self._digester.file([bytes(patched)]).hex()
        self._set(patch.path, Entry("f", patch.mode, patch.mtime_ns, patch.size, digest))

    def _check_manifest(self, manifest: Manifest) -> None:
        if len(manifest.entries) != len(self._added):
            raise BadArchive(f"it has {len(self._added)} entries, its manifest {len(manifest.entries)}")
        for path, entry in manifest.entries.items():
            if path not in self._added:
                raise BadArchive(f"its manifest has {show(path)}, which it has not")
            if self.state[path] != entry:
                raise BadArchive(f"{show(path)} is not what its manifest says")
        if (manifest.count, manifest.bytes) != (len(self.state), self.bytes):
            raise BadArchive(
                f"its state has {len(self.state)} entries and {self.bytes} bytes, "
                f"its manifest says {manifest.count} and {manifest.bytes}"
            )
        if self.tree() != manifest.tree:
            raise BadArchive("the state after it is not that of its manifest")

    def tree(self) -> str:
        """Digest of the state as it is now."""
        return self._digest.hexdigest()


def _header(members: Iterator[Member], reader: TarReader) -> Header:
    first = next(members, None)
    if first is None or first.path != archive.HEADER or first.kind != "f":
        raise BadArchive("it does not begin with its header")
    return archive.parse_header(reader.document("header", archive.MAX_HEADER))


def _covered(path: bytes, paths: frozenset[bytes] | set[bytes]) -> bool:
    """Whether ``path`` or something above it is among ``paths``."""
    if path in paths:
        return True
    end = path.find(b"/")
    while end >= 0:
        if path[:end] in paths:
            return True
        end = path.find(b"/", end + 1)
    return False
