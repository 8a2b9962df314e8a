"""Archives made to do harm: each is refused with a message and leaves everything as it was."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace

import pyrage
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clawfactory_core.errors import CoreError
from clawfactory_core.snapshots.chains import BrokenChain
from clawfactory_core.snapshots.records import SnapshotRecord
from clawfactory_core.snapshots.replay import Replay
from clawfactory_core.snapshots.restore import stage_restore
from clawfactory_core.snapshots.script import SCRIPT
from clawfactory_core.snapshots.tar_reader import ReadLimits
from clawfactory_core.snapshots.tree_writer import TreeWriter
from tests.unit.core.snapshots.archive_maker import (
    KEY,
    Archive,
    Directory,
    File,
    Link,
    Maker,
    entry,
    escape,
    expected,
    header,
    legacy_tar,
    manifest,
    member,
    pad,
    patch_line,
    patch_pair,
    pax,
    read_tree,
    record,
)
from tests.unit.core.snapshots.restore_machine import BASE, BOT, Machine

EVIL = File(b"evil")


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


#: Makes the tar of a bad archive out of a good one.
Bend = Callable[[Archive], bytes]


def with_members(*members: bytes, **listed: object) -> Bend:
    """More members, in the manifest too where it can say them."""

    def bend(archive: Archive) -> bytes:
        tree = {**BASE, **{name.encode(): item for name, item in listed.items()}}
        return replace(archive, members=[*archive.members, *members], manifest=manifest(tree, list(tree))).tar()

    return bend


def with_header(**values: object) -> Bend:
    return lambda archive: replace(archive, header={**archive.header, **values}).tar()


def with_manifest(bend: Callable[[bytes], bytes]) -> Bend:
    return lambda archive: replace(archive, manifest=bend(archive.manifest)).tar()


def named(path: bytes) -> bytes:
    return member(path, EVIL) if len(path) <= 100 else pax(record(b"path", path)) + header(path, size=4) + pad(b"evil")


PATHS = {
    "traversal": (b"../outside/canary", "component"),
    "traversal below": (b"etc/../../../../outside/canary", "component"),
    "absolute": (b"/outside/canary", "component"),
    "dot": (b"./empty2", "component"),
    "trailing slash": (b"etc/x/", "component"),
    "double slash": (b"etc//x", "component"),
    "empty": (b"", "empty"),
    "below a file": (b"empty/x", "is no directory"),
    "below a link": (b"etc/link/x", "is no directory"),
    "below nothing": (b"nowhere/x", "is no directory"),
    "long component": (b"x" * 256, "component of more than 255"),
    "deep": (b"/".join([b"d"] * 129), "deeper than max_depth"),
    "very long": (b"/".join([b"d" * 250] * 300), "bytes, more than"),
    "own directory": (b".clawfactory/evil", "no place there"),
    "own directory itself": (b".clawfactory", "no place there"),
    "second header": (b".clawfactory/snapshot.json", "no place there"),
    "late script": (b".clawfactory/restore.sh", "no place there"),
    "patch in a full one": (b".clawfactory/patch/0.ranges", "no place there"),
    "changes in a full one": (b".clawfactory/changes", "no place there"),
}


HEADERS = {
    "hard link": (header(b"x", b"1", link=b"/etc/passwd"), "type b'1'"),
    "character device": (header(b"x", b"3"), "type b'3'"),
    "block device": (header(b"x", b"4"), "type b'4'"),
    "fifo": (header(b"x", b"6"), "type b'6'"),
    "contiguous": (header(b"x", b"7"), "type b'7'"),
    "old regular": (header(b"x", b"\0"), "type"),
    "gnu long name": (header(b"././@LongLink", b"L", 512) + bytes(512), "type b'L'"),
    "gnu long link": (header(b"././@LongLink", b"K", 512) + bytes(512), "type b'K'"),
    "gnu sparse": (header(b"x", b"S"), "type b'S'"),
    "gnu dump": (header(b"x", b"D"), "type b'D'"),
    "global pax": (pax(record(b"path", b"evil"), b"g") + header(b"x"), "type b'g'"),
    "gnu magic": (header(b"x", magic=b"ustar  \0"), "no ustar header"),
    "v7": (header(b"x", magic=bytes(8)), "no ustar header"),
    "checksum": (header(b"x", checksum=b"000000\0 "), "checksum"),
    "base 256 size": (header(b"x", size_field=b"\x80" + bytes(10) + b"\x04") + pad(b"evil"), "is no number"),
    "negative size": (header(b"x", size_field=b"\xff" * 12), "is no number"),
    "minus sign": (header(b"x", size_field=b"-0000000004\0"), "is no number"),
    "empty size": (header(b"x", size_field=bytes(12)), "is no number"),
    "huge size": (header(b"x", size_field=b"77777777777\0"), "ends early"),
    "huge pax size": (pax(record(b"size", b"9" * 18)) + header(b"x"), "max_bytes"),
    "pax size lies": (pax(record(b"size", b"9")) + header(b"x", size=4) + pad(b"evil"), "two sizes"),
    "pax size negative": (pax(record(b"size", b"-1")) + header(b"x"), "is no number"),
    "pax size no number": (pax(record(b"size", b"1e3")) + header(b"x"), "is no number"),
    "pax path out": (pax(record(b"path", b"../../outside/canary")) + header(b"x", size=4) + pad(b"evil"), "component"),
    "pax path empty": (pax(record(b"path", b"")) + header(b"x"), "empty"),
    "pax path nul": (pax(record(b"path", b"a\0b")) + header(b"x"), "NUL"),
    "pax twice": (pax(record(b"path", b"a") + record(b"path", b"../b")) + header(b"x"), "comes twice"),
    "pax after pax": (pax(record(b"path", b"a")) * 2 + header(b"x"), "type b'x'"),
    "pax sparse": (pax(record(b"GNU.sparse.major", b"1")) + header(b"x"), "not allowed"),
    "pax mode": (pax(record(b"SCHILY.xattr.security.capability", b"1")) + header(b"x"), "not allowed"),
    "pax length lies": (pax(b"99 path=x\n") + header(b"x"), "cannot be read"),
    "pax length zero": (pax(b"0 path=x\n") + header(b"x"), "cannot be read"),
    "pax length short": (pax(b"5 path=x\n") + header(b"x"), "cannot be read"),
    "pax no text": (pax(b"\xff" * 20) + header(b"x"), "cannot be read"),
    "pax charset": (pax(record(b"hdrcharset", b"UTF-16")) + header(b"x"), "charset"),
    "pax mtime": (pax(record(b"mtime", b"nan")) + header(b"x"), "is no number"),
    "pax huge": (pax(record(b"path", b"x" * 200_000)) + header(b"x"), "a pax header has"),
    "pax at the end": (pax(record(b"path", b"x")) + bytes(1024), "no ustar header"),
    "nul in name": (header(name_field=b"a\0b".ljust(100, b"\0")), "NUL"),
    "mode": (header(b"x", mode_field=b"7777777\0"), "has mode"),
    "directory with data": (header(b"x", b"5", 4) + pad(b"evil"), "is no file"),
    "link with data": (header(b"x", b"2", 4, link=b"y") + pad(b"evil"), "is no file"),
    "link to nothing": (header(b"x", b"2"), "target"),
    "file with target": (header(b"x", link=b"/etc/passwd"), "is no link"),
    "link too long": (pax(record(b"linkpath", b"x" * 5000)) + header(b"x", b"2", link=b"y"), "target"),
}


TWICE = {
    "file then link": (
        member(b"x", EVIL),
        member(b"x", Link(b"../../../outside/canary")),
        Link(b"../../../outside/canary"),
    ),
    "link then file": (member(b"x", Link(b"../../../outside/canary")), member(b"x", EVIL), EVIL),
    "directory then link": (member(b"x", Directory()), member(b"x", Link(b"/outside")), Link(b"/outside")),
    "directory twice": (member(b"x", Directory()), member(b"x", Directory()), Directory()),
    "link twice": (member(b"x", Link(b"a")), member(b"x", Link(b"b")), Link(b"b")),
    "file then directory": (member(b"x", EVIL), member(b"x", Directory()), Directory()),
}


def test_a_file_through_a_link_that_leads_out(machine):
    out = os.fsencode(machine.root / "outside")
    archive = machine.maker.full(BASE)
    bend = with_members(member(b"d", Link(out)), member(b"d/canary", EVIL))
    machine.maker.write(archive, tar=bend(archive))
    machine.refuses("is no directory")


def test_links_that_lead_out_are_links_and_nothing_more(machine):
    tree = {**BASE, b"out": Link(os.fsencode(machine.root / "outside" / "canary"))}
    machine.maker.write(machine.maker.full(tree))
    assert machine.restore() == expected(tree, BOT, BOT)
    assert (machine.root / "outside" / "canary").read_text() == "nobody touches this"


def test_an_increment_cannot_write_through_a_link_of_its_parent(machine):
    before = {**BASE, b"d": Link(os.fsencode(machine.root / "outside")), b"f": Link(b"../../../../outside/canary")}
    full = machine.maker.write(machine.maker.full(before))
    archive = machine.maker.inc(full, before, {**before, b"d/canary": EVIL})
    machine.maker.write(archive)
    machine.refuses("is no directory")
    after = {**before, b"f": EVIL}
    archive = machine.maker.inc(full, before, after)
    archive.changes = b""
    made = machine.maker.write(archive)
    machine.refuses("changes its type, yet is not deleted", name=made.id)
    line = patch_line(0, b"f", File(bytes(300_000)))
    archive = machine.maker.inc(full, before, before)
    archive.members, archive.changes = patch_pair(0, b"0 1\n", b"evil".ljust(4096)), line.encode() + b"\n"
    made = machine.maker.write(archive)
    machine.refuses("is patched, yet", name=made.id)


WHOLES: dict[str, tuple[Bend, str]] = {
    "no header": (lambda archive: b"".join(archive.members) + bytes(1024), "begin with its header"),
    "nothing": (lambda archive: b"", "ends early"),
    "zeros": (lambda archive: bytes(1024), "begin with its header"),
    "no manifest": (
        lambda archive: archive.tar()[: archive.tar().rindex(b".clawfactory/man") - 1024] + bytes(1024),
        "manifest is missing",
    ),
    "manifest first": (
        lambda archive: member(b".clawfactory/manifest.json", File(archive.manifest)) + archive.tar(),
        "begin with its header",
    ),
    "after the manifest": (
        lambda archive: archive.tar()[:-1024] + named(b"late") + bytes(1024),
        "follows its manifest",
    ),
    "cut": (lambda archive: archive.tar()[:-5000], "ends early"),
    "no end": (lambda archive: archive.tar()[:-1024], "ends early"),
    "half an end": (lambda archive: archive.tar()[:-512], "ends early"),
    "garbage at the end": (lambda archive: archive.tar() + b"garbage", "follows its end"),
    "a second tar": (lambda archive: archive.tar() + bytes(512) + archive.tar(), "follows its end"),
    "no tar": (lambda archive: os.urandom(4096), "ustar"),
}


def test_zeros_at_the_end_are_allowed(machine):
    archive = machine.maker.full(BASE)
    machine.maker.write(archive, tar=archive.tar() + bytes(10240))
    assert machine.restore() == expected(BASE, BOT, BOT)


HEADER_VALUES = {
    "newer": ({"schema": 2}, r"written by a newer ClawFactory \(schema 2\); update first"),
    "older": ({"schema": 0}, "schema"),
    "schema is true": ({"schema": True}, "schema"),
    "another id": ({"id": "other--2026-01-01T00-00-01Z"}, "is snapshot other"),
    "another kind": ({"kind": "inc"}, "without parent"),
    "unknown kind": ({"kind": "huge"}, "neither"),
    "a parent": ({"parent": "x"}, "yet has a parent"),
    "block size": ({"block_size": 1}, "block_size"),
    "key": ({"digest_key": "00"}, "digest_key"),
    "another key": ({"digest_key": "00" * 64}, "is not what its manifest says"),
    "another bot": ({"bot": "bot2"}, "is a snapshot of bot 'bot2'"),
    "no bot": ({"bot": None}, "bot is"),
}


def lie(key: str, value: object) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps({**json.loads(data), key: value}).encode()


def swap_entry(position: int, value: object) -> Callable[[bytes], bytes]:
    def bend(data: bytes) -> bytes:
        raw = json.loads(data)
        raw["entries"][0][position] = value
        return json.dumps(raw).encode()

    return bend


MANIFESTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "not json": (lambda data: b"{", "not JSON"),
    "not utf-8": (lambda data: b"\xff", "not JSON"),
    "deep json": (lambda data: b"[" * 100_000, "not JSON"),
    "no object": (lambda data: b"[]", "not a JSON object"),
    "newer": (lie("schema", 2), "newer ClawFactory"),
    "no entries": (lie("entries", []), "its manifest 0"),
    "entries no list": (lie("entries", {}), "not list"),
    "bad entry": (lie("entries", [1]), "cannot be read"),
    "twice": (lambda data: lie("entries", json.loads(data)["entries"][:1] * 2)(data), "twice"),
    "tree": (lie("tree", "0" * 64), "not that of its manifest"),
    "tree no digest": (lie("tree", "x"), "64 hex"),
    "count": (lie("count", 1), "its manifest says 1"),
    "count is true": (lie("count", True), "count is"),
    "bytes": (lie("bytes", 1), "its manifest says"),
    "databases": (lie("databases", [1]), "databases"),
    "digest": (swap_entry(5, "0" * 32), "is not what its manifest says"),
    "no digest": (swap_entry(5, "0"), "32 hex"),
    "mode": (swap_entry(2, 0o777), "is not what its manifest says"),
    "mode is text": (swap_entry(2, "0644"), "wrong type"),
    "time": (swap_entry(3, 0), "is not what its manifest says"),
    "size": (swap_entry(4, 0), "is not what its manifest says"),
    "kind": (swap_entry(1, "d"), "is not what its manifest says"),
    "unknown kind": (swap_entry(1, "x"), "wrong type"),
    "another path": (swap_entry(0, "other"), "which it has not"),
    "a path out": (swap_entry(0, "../x"), "component"),
    "a path badly escaped": (swap_entry(0, "a b"), "escaped path"),
}


FULLS: dict[str, tuple[Bend, str]] = {
    **{f"path, {case}": (with_members(named(path)), message) for case, (path, message) in PATHS.items()},
    **{f"header, {case}": (with_members(data), message) for case, (data, message) in HEADERS.items()},
    **{case: (with_members(one, two, x=item), "comes twice") for case, (one, two, item) in TWICE.items()},
    **WHOLES,
    **{f"value, {case}": (with_header(**values), message) for case, (values, message) in HEADER_VALUES.items()},
    **{f"manifest, {case}": (with_manifest(bend), message) for case, (bend, message) in MANIFESTS.items()},
}


@pytest.mark.parametrize("case", FULLS)
def test_a_bad_archive_is_refused(machine, case):
    bend, message = FULLS[case]
    archive = machine.maker.full(BASE)
    machine.maker.write(archive, tar=bend(archive))
    machine.refuses(message)


GROWN = File(BASE[b"big"].data + b"more" * 2000, mtime_ns=5)
CHANGED = File(b"x" * 4096 + BASE[b"big"].data[4096:], mtime_ns=5)
LINE = patch_line(0, b"big", CHANGED).encode() + b"\n"
GROWN_LINE = patch_line(0, b"big", GROWN).encode() + b"\n"
PAIR = patch_pair(0, b"0 1\n", b"x" * 4096)
NO_BLOCKS = patch_pair(0, b"", b"")
INCREMENTS: dict[str, tuple[File, bytes | None, list[bytes], str]] = {
    "no changes": (CHANGED, None, PAIR, "changes are missing"),
    "no patch line": (CHANGED, b"", PAIR, "has 1 patches, its changes name 0"),
    "no patch": (CHANGED, LINE, [], "has 0 patches"),
    "ranges alone": (CHANGED, LINE, patch_pair(0, b"0 1\n", b"")[:1], "has 0 patches"),
    "wrong number": (CHANGED, b"", patch_pair(1, b"0 1\n", b"x" * 4096), "no place"),
    "data too short": (CHANGED, b"", patch_pair(0, b"0 1\n", b""), "not what its ranges say"),
    "data too long": (CHANGED, b"", patch_pair(0, b"0 1\n", b"x" * 8192), "not what its ranges say"),
    "short block inside": (CHANGED, LINE, patch_pair(0, b"0 1\n", b"x" * 4000), "does not fit"),
    "beyond the end": (CHANGED, LINE, patch_pair(0, b"128 1\n", b"x" * 4096), "does not fit"),
    "overlap": (CHANGED, b"", patch_pair(0, b"0 2\n1 1\n", b"x" * 12288), "does not ascend"),
    "no blocks": (CHANGED, b"", patch_pair(0, b"0 0\n", b""), "cannot be read"),
    "negative": (CHANGED, b"", patch_pair(0, b"-1 1\n", b"x" * 4096), "cannot be read"),
    "huge": (CHANGED, b"", patch_pair(0, b"0 999999999999999\n", b"x" * 4096), "not what its ranges say"),
    "other content": (CHANGED, LINE, patch_pair(0, b"0 1\n", b"y" * 4096), "is not what its manifest says"),
    "grown without blocks": (GROWN, GROWN_LINE, NO_BLOCKS, "is not what its manifest says"),
    "becomes huge": (GROWN, GROWN_LINE.replace(b"%d" % len(GROWN.data), b"9" * 18), NO_BLOCKS, "max_bytes"),
    "becomes small": (GROWN, GROWN_LINE.replace(b"%d" % len(GROWN.data), b"10"), NO_BLOCKS, "is patched, yet"),
    "of a small file": (CHANGED, patch_line(0, b"empty", CHANGED).encode() + b"\n", PAIR, "is patched, yet"),
    "path out": (CHANGED, patch_line(0, b"../../../outside/canary", CHANGED).encode() + b"\n", PAIR, "component"),
    "delete out": (CHANGED, b"delete ../../outside\n", [], "component"),
    "delete absolute": (CHANGED, b"delete /outside\n", [], "component"),
    "delete after patch": (CHANGED, LINE + b"delete etc\n", PAIR, "line 2 of its changes"),
    "unknown change": (CHANGED, b"move a b\n", [], "line 1 of its changes"),
    "no line's end": (CHANGED, b"delete etc", [], "line's end"),
    "not ascii": (CHANGED, b"delete \xff\n", [], "not ASCII"),
    "deletes what it patches": (CHANGED, b"delete big\n" + LINE, PAIR, "is patched, yet"),
    "member below what it deletes": (CHANGED, b"delete etc\n", [member(b"etc/config", EVIL)], "is no directory"),
}


@pytest.mark.parametrize("case", INCREMENTS)
def test_increments(machine, case):
    item, changes, members, message = INCREMENTS[case]
    full = machine.maker.write(machine.maker.full(BASE))
    archive = machine.maker.inc(full, BASE, {**BASE, b"big": item})
    archive.members, archive.changes = members, changes
    machine.maker.write(archive)
    machine.refuses(message)


def test_bombs(machine):
    tree = {b"same": File(b"a" * (20 << 20))}
    machine.maker.write(machine.maker.full(tree))
    machine.refuses("unpacks to more than", limits=ReadLimits(ratio_floor=1 << 20, max_ratio=100))
    machine.refuses("max_bytes", limits=ReadLimits(max_bytes=10 << 20))
    many = {b"%d" % number: File() for number in range(200)}
    machine.maker.write(machine.maker.full(many))
    machine.refuses("max_entries", limits=ReadLimits(max_entries=100))
    machine.refuses("manifest has .* bytes", limits=ReadLimits(max_document=100))
    sums = {b"%d" % number: File(bytes(1000)) for number in range(200)}
    machine.maker.write(machine.maker.full(sums))
    machine.refuses("more than max_bytes", limits=ReadLimits(max_bytes=100_000))


def test_zeros_of_files_are_no_bomb_within_max_bytes_and_take_no_disk(machine):
    tree = {b"zeros": File(bytes(20 << 20))}
    machine.maker.write(machine.maker.full(tree))
    machine.refuses("max_bytes", limits=ReadLimits(max_bytes=10 << 20))
    staged = stage_restore(machine.request(limits=ReadLimits(ratio_floor=1 << 20, max_ratio=100)))
    found = (staged.path / "zeros").stat()
    assert (found.st_size, found.st_blocks) == (20 << 20, 0)


def test_zeros_of_patches_are_a_bomb(machine):
    data = bytes(range(256)) * 4096
    full = machine.maker.write(machine.maker.full({b"big": File(data)}))
    archive = machine.maker.inc(full, {b"big": File(data)}, {b"big": File(data)})
    archive.members = patch_pair(0, b"0 5120\n", bytes(20 << 20))
    machine.maker.write(archive)
    machine.refuses("unpacks to more than", limits=ReadLimits(ratio_floor=4 << 20, max_ratio=100))


def test_zeros_without_end_behind_the_end(machine):
    archive = machine.maker.full(BASE)
    machine.maker.write(archive, tar=archive.tar() + bytes(30 << 20))
    machine.refuses("too long", limits=ReadLimits(ratio_floor=1 << 20, max_ratio=2))


def test_a_window_larger_than_any_writer_needs(machine):
    archive = machine.maker.full(BASE)
    parameters = zstandard.ZstdCompressionParameters(window_log=27, compression_level=1)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    machine.maker.write_packed(archive, stream.compress(archive.tar()) + stream.flush())
    machine.refuses("zstd cannot decompress")


def test_bytes_that_are_no_zstd_and_a_frame_that_is_cut(machine):
    archive = machine.maker.full(BASE)
    machine.maker.write_packed(archive, archive.tar())
    machine.refuses("zstd cannot decompress")
    packed = zstandard.ZstdCompressor(write_checksum=True).compress(archive.tar())
    machine.maker.write_packed(archive, packed[:-3])
    machine.refuses("zstd cannot decompress|cut short")


def test_two_frames_are_one_archive(machine):
    archive = machine.maker.full(BASE)
    compressor, data = zstandard.ZstdCompressor(write_checksum=True), archive.tar()
    machine.maker.write_packed(archive, compressor.compress(data[:3000]) + compressor.compress(data[3000:]))
    assert machine.restore() == expected(BASE, BOT, BOT)


def test_ciphertext_that_was_changed(machine):
    archive = machine.maker.full({**BASE, b"noise": File(os.urandom(200_000))})
    good = machine.maker.write(archive)
    data = (machine.directory / good.file_name).read_bytes()
    flipped = bytearray(data)
    flipped[100_000] ^= 1
    for bad in (bytes(flipped), data[:-1], data[:70_000], data[:100], b"", data + b"x", b"age-encryption.org/v1\n"):
        machine.maker.write_encrypted(archive, bad)
        machine.refuses(good.file_name.replace(".", r"\."))


def test_an_archive_that_its_record_does_not_describe(machine):
    archive = machine.maker.full(BASE)
    machine.maker.write(archive, sha256="0" * 64)
    machine.refuses("is not the archive that its record describes", BrokenChain)


def test_a_parent_that_was_made_anew(machine):
    first = machine.maker.full(BASE)
    full = machine.maker.write(first)
    machine.maker.write(machine.maker.inc(full, BASE, {}))
    # The same content, encrypted once more: by its own record it is fine.
    again = machine.maker.write(first)
    assert again.sha256 != full.sha256
    machine.refuses("is not the archive that .* was made for", BrokenChain)
    # And one whose record was forged to match.
    machine.maker.write(first, sha256=full.sha256)
    machine.refuses("is not the archive that its record describes", BrokenChain)
    (machine.directory / f"{full.id}.full.json").unlink()
    machine.refuses("was made for", BrokenChain)


def test_an_increment_of_another_chain(machine):
    full = machine.maker.write(machine.maker.full(BASE))
    archive = machine.maker.inc(full, BASE, {})
    archive.header["digest_key"] = KEY[::-1].hex()
    machine.maker.write(archive)
    machine.refuses("not of the same chain")
    archive = machine.maker.inc(full, BASE, {})
    archive.header["parent"] = "else--2026-01-01T00-00-01Z"
    machine.maker.write(archive, parent=full.id)
    machine.refuses("builds upon else")


def test_a_chain_that_loops(machine):
    full = machine.maker.write(machine.maker.full(BASE))
    one = machine.maker.inc(full, BASE, {})
    two = machine.maker.inc(machine.maker.write(one), {}, BASE)
    second = machine.maker.write(two)
    machine.maker.write(one, parent=second.id, parent_sha256=second.sha256)
    machine.maker.write(two, parent_sha256=machine.maker.write(one, parent=second.id).sha256)
    machine.refuses("loops|is not the archive", BrokenChain)


def test_a_chain_that_is_too_long(machine):
    record = machine.maker.write(machine.maker.full(BASE))
    for _ in range(3):
        record = machine.maker.write(machine.maker.inc(record, BASE, BASE))
    machine.refuses("max_chain", limits=ReadLimits(max_chain=3))


def test_things_in_the_directory_that_are_no_archives(machine):
    archive = machine.maker.full(BASE)
    made = machine.maker.write(archive)
    path = machine.directory / made.file_name
    path.unlink()
    path.symlink_to(machine.root / "outside" / "canary")
    machine.refuses("not a regular file")
    path.unlink()
    os.mkfifo(path)
    machine.refuses("not a regular file")


def info(name: str, type_: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = type_, link
    return made


LEGACY = {
    "traversal": ([info("./a"), info("../outside/canary")], "component"),
    "absolute": ([info("/outside/canary")], "component"),
    "device": ([info("x", tarfile.CHRTYPE)], "only files"),
    "fifo": ([info("x", tarfile.FIFOTYPE)], "only files"),
    "hard link out": ([info("x", tarfile.LNKTYPE, "/etc/passwd")], "hard link to"),
    "hard link through a link": (
        [info("l", tarfile.SYMTYPE, "/etc"), info("x", tarfile.LNKTYPE, "l/passwd")],
        "hard link to",
    ),
    "below a link": ([info("l", tarfile.SYMTYPE, "/etc"), info("l/x")], "no directory"),
    "link twice": ([info("l", tarfile.SYMTYPE, "/etc"), info("l")], "twice"),
    "nothing": ([], "nothing in it"),
}


@pytest.mark.parametrize("case", LEGACY)
def test_archives_of_the_original(machine, case):
    items, message = LEGACY[case]
    machine.maker.legacy(legacy_tar(tarfile.GNU_FORMAT, [(item, b"") for item in items]))
    machine.refuses(message)


def test_an_archive_of_the_original_that_is_cut_or_none(machine):
    data = legacy_tar(tarfile.GNU_FORMAT, [(info("x"), b"content" * 10_000)])
    for bad in (data[:20_000], os.urandom(10_000), b""):
        machine.maker.legacy(bad)
        machine.refuses("old--2025")


def replayed(data: bytes, directory) -> dict[bytes, tuple[object, ...]]:
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        limits = ReadLimits(max_bytes=1 << 24, max_document=1 << 20, min_free_bytes=0)
        with open(os.open(directory.parent, os.O_TMPFILE | os.O_RDWR), "w+b") as spool:
            replay = Replay(TreeWriter(root, limits), spool, limits, single=True)
            replay.apply(io.BytesIO(data), 1 << 24, "made--2026-01-01T00-00-01Z")
            replay.finish()
    finally:
        os.close(root)
    return read_tree(directory)


SMALL = {b"a": File(b"text", 0o600), b"d": Directory(0o700), b"d/l": Link(b"../a"), b"x" * 120: File(b"y" * 600)}


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=3))
def test_any_flipped_byte_of_the_plain_tar_is_found_or_changes_nothing(tmp_path_factory, flips):
    maker = Maker(tmp_path_factory.mktemp("s"))
    data = bytearray(maker.full(SMALL).tar())
    for place, value in flips:
        data[int(place * len(data))] ^= value
    target = tmp_path_factory.mktemp("t") / "target"
    target.mkdir()
    try:
        found = replayed(bytes(data), target)
    except CoreError:
        return
    assert found == expected(SMALL, os.geteuid(), os.getegid())


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(1, 255))
def test_any_flipped_byte_of_the_ciphertext_is_found(tmp_path_factory, place, value):
    machine = Machine(tmp_path_factory.mktemp("m"))
    archive = machine.maker.full(SMALL)
    data = bytearray(pyrage.encrypt(zstandard.compress(archive.tar()), [machine.maker.recipient]))
    data[int(place * len(data))] ^= value
    # The record agrees: whoever could change the one could change the other.
    machine.maker.write_encrypted(archive, bytes(data))
    machine.refuses(r"\w")


def test_entries_of_the_maker_are_those_of_the_format():
    assert entry(b"a b", Link(b"x\n")) == ["a\\0040b", "l", 0o777, Link().mtime_ns, 0, "x\\0012"]


STANZAS = b"-> X25519 aaaa\nAAAA\n" * 20_000
AGE_HEADERS = {
    "without an end": b"age-encryption.org/v1\n" + STANZAS,
    "with an end that does not end": b"age-encryption.org/v1\n-> X25519 aaaa\nAAAA\n--- " + b"A" * 400_000,
    "with two ends": b"age-encryption.org/v1\n-> X25519 aaaa\nAAAA\n--- " + b"A" * 43 + b"\n" + STANZAS,
    "with a long first stanza": b"age-encryption.org/v1\n-> " + b"a " * 200_000 + b"\n--- " + b"A" * 43 + b"\n",
}


@pytest.mark.parametrize("case", AGE_HEADERS)
def test_a_header_of_age_does_not_keep_root_busy(machine, case):
    machine.maker.write_encrypted(machine.maker.full(BASE), AGE_HEADERS[case])
    begun = time.monotonic()
    machine.refuses(".")
    assert time.monotonic() - begun < 20


def by_hand(machine: Machine, *archives: SnapshotRecord, shell: str = "sh") -> subprocess.CompletedProcess[str]:
    """What somebody does who has nothing but age, zstd and tar."""
    (machine.root / "restore.sh").write_bytes(SCRIPT)
    (machine.root / "key").write_text(f"{machine.maker.identity}\n")
    files = [str(machine.directory / archive.file_name) for archive in archives]
    target = str(machine.root / "by-hand")
    command = [shell, "restore.sh", "-i", "key", target, *files]
    return subprocess.run(command, cwd=machine.root, check=False, capture_output=True, text=True, errors="replace")


OUT = {
    "a member below a link": ([], member(b"a/evil", File(b"evil"))),
    "a member far below a link": ([], member(b"d/a/sub/evil", File(b"evil"))),
    "a directory below a link": ([], member(b"a/evil", Directory())),
    "a member below a link, with odd names": ([], member(b"odd \n\\ \xff/evil", File(b"evil"))),
    "a deletion below a link": (["delete a/canary"], b""),
    "a deletion of the way out": (["delete d/../../outside"], b""),
    "a deletion of what is above": (["delete .."], b""),
    "a patch below a link": ([f"patch 0 0 0644 1.000000000 {escape(b'a/canary')}"], b""),
    "a patch of the way out": ([f"patch 0 0 0644 1.000000000 {escape(b'../outside/canary')}"], b""),
}


@pytest.mark.parametrize("shell", [shell for shell in ("sh", "bash", "busybox") if shutil.which(shell)])
@pytest.mark.parametrize("case", OUT)
def test_the_script_in_an_archive_writes_and_deletes_nothing_outside_its_target(machine, case, shell):
    changes, members = OUT[case]
    out = Link(os.fsencode(machine.root / "outside"))
    tree = {b"a": out, b"d": Directory(), b"d/a": out, b"odd \n\\ \xff": out}
    full = machine.maker.write(machine.maker.full(tree))
    archive = machine.maker.inc(full, tree, tree)
    archive.changes = "".join(f"{line}\n" for line in changes).encode()
    archive.members.extend([members, *patch_members(0)] if "patch" in "".join(changes) else [members])
    done = by_hand(machine, full, machine.maker.write(archive), shell=shell)
    assert done.returncode == 1, done
    assert "throw" in done.stderr
    assert os.listdir(machine.root / "outside") == ["canary"]
    assert (machine.root / "outside" / "canary").read_text() == "nobody touches this"


def patch_members(number: int) -> list[bytes]:
    name = b".clawfactory/patch/%d" % number
    return [member(name + b".ranges", File(b"")), member(name + b".data", File(b""))]


def test_the_script_restores_a_chain_with_odd_names(machine):
    odd = b"odd \n\\ \xff"
    before = {odd: Directory(), b"link": Link(b"odd"), odd + b"/old": File(b"old")}
    after = {odd: Directory(), odd + b"/\t new": File(b"new"), b"link": Directory(), b"link/x": File(b"x")}
    full = machine.maker.write(machine.maker.full(before))
    done = by_hand(machine, full, machine.maker.write(machine.maker.inc(full, before, after)))
    assert done.returncode == 0, done
    assert set(read_tree(machine.root / "by-hand")) - {b"", b"."} == set(after)
