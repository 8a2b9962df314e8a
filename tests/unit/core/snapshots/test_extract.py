from __future__ import annotations

import fcntl
import os
import tarfile

import pytest

from clawfactory_core.errors import InvalidInput
from clawfactory_core.snapshots.extract import extract_paths
from tests.unit.core.snapshots.archive_maker import Directory, File, Link, legacy_tar, read_tree
from tests.unit.core.snapshots.restore_machine import BASE, Machine


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


TREE = {**BASE, b"etc/deep": Directory(0o777), b"etc/deep/run": File(b"#!/bin/sh\n", 0o4777), b"etcetera": File(b"no")}


def test_a_directory_and_a_file_of_the_operators_choice(machine):
    machine.maker.write(machine.maker.full(TREE))
    before = machine.everything()
    destination = machine.root / "out"
    found = extract_paths(machine.request(destination=destination, paths=("./etc/", "empty")))
    assert found == ["empty", "etc", "etc/config", "etc/deep", "etc/deep/run", "etc/link"]
    tree = read_tree(destination)
    assert sorted(tree) == [path.encode() for path in found]
    assert {item[1:3] for item in tree.values()} == {(os.geteuid(), os.getegid())}
    assert {item[0] for item in tree.values()} == {"0o100600", "0o40700", "0o120777"}
    assert (destination / "etc/config").read_bytes() == TREE[b"etc/config"].data
    assert os.lstat(destination).st_mode & 0o777 == 0o700
    after = machine.everything()
    assert {path: after[path] for path in before} == before


def test_a_patched_file_out_of_a_chain(machine):
    changed = bytearray(BASE[b"big"].data)
    changed[9000:9010] = b"0123456789"
    after = {**BASE, b"big": File(bytes(changed))}
    full = machine.maker.write(machine.maker.full(BASE))
    machine.maker.write(machine.maker.inc(full, BASE, after))
    destination = machine.root / "out"
    destination.mkdir()
    assert extract_paths(machine.request(destination=destination, paths=("big",))) == ["big"]
    assert (destination / "big").read_bytes() == changed
    assert extract_paths(machine.request(full.id, destination=machine.root / "two", paths=("etc/config",))) == [
        "etc",
        "etc/config",
    ]


def test_a_directory_that_becomes_a_file_on_the_way(machine):
    before = {**BASE, b"etc": Directory(), b"etc/config": File(b"x")}
    after = {path: item for path, item in BASE.items() if not path.startswith(b"etc")}
    full = machine.maker.write(machine.maker.full(before))
    inc = machine.maker.write(machine.maker.inc(full, before, {**after, b"etc": Link(b"/etc")}))
    machine.maker.write(machine.maker.inc(inc, {**after, b"etc": Link(b"/etc")}, before))
    destination = machine.root / "out"
    assert extract_paths(machine.request(destination=destination, paths=("etc/config",))) == ["etc", "etc/config"]
    with machine.refused("is not in snapshot", InvalidInput):
        extract_paths(machine.request(inc.id, destination=machine.root / "two", paths=("etc/config",)))


def test_without_paths_everything(machine):
    machine.maker.write(machine.maker.full(TREE))
    assert len(extract_paths(machine.request(destination=machine.root / "out"))) == len(TREE)


def test_nothing_appears_if_anything_does_not_match(machine):
    archive = machine.maker.full(TREE)
    archive.manifest = archive.manifest.replace(b'"count": 8', b'"count": 9')
    machine.maker.write(archive)
    with machine.refused("its manifest says"):
        extract_paths(machine.request(destination=machine.root / "out", paths=("empty",)))


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (("nothing",), "'nothing' is not in snapshot"),
        (("empty", "etc/none"), "'etc/none' is not in snapshot"),
        (("../outside",), "relative to the bot's state"),
        (("/etc/passwd",), "relative to the bot's state"),
        (("",), "relative to the bot's state"),
    ],
)
def test_paths_that_are_not_there(machine, paths, message):
    machine.maker.write(machine.maker.full(TREE))
    with machine.refused(message, InvalidInput):
        extract_paths(machine.request(destination=machine.root / "out", paths=paths))


def test_destinations_that_will_not_do(machine):
    machine.maker.write(machine.maker.full(TREE))
    (machine.root / "link").symlink_to(machine.root / "locks")
    for destination in ("outside", "outside/canary", "link", "none/below"):
        with machine.refused("destination|not empty|cannot be used|no directory", InvalidInput):
            extract_paths(machine.request(destination=machine.root / destination))
    with machine.refused("not absolute", InvalidInput):
        extract_paths(machine.request())


def test_what_a_killed_run_left_is_removed_and_what_is_in_use_is_not(machine):
    machine.maker.write(machine.maker.full(TREE))
    left, used = (machine.root / f".clawfactory-extract-{name}" for name in ("left", "used"))
    for path in (left, used):
        path.mkdir()
        (path / "plaintext").write_text("secret")
    descriptor = os.open(used, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    extract_paths(machine.request(destination=machine.root / "out", paths=("empty",)))
    os.close(descriptor)
    assert not left.exists() and used.exists()


def test_a_hard_link_of_an_archive_of_the_original_needs_what_it_links_to(machine):
    def info(name: str, link: str = "") -> tarfile.TarInfo:
        made = tarfile.TarInfo(name)
        made.type, made.linkname = (tarfile.LNKTYPE, link) if link else (tarfile.REGTYPE, "")
        return made

    machine.maker.legacy(legacy_tar(tarfile.GNU_FORMAT, [(info("a"), b"text"), (info("b", "a"), b"")]))
    with machine.refused("hard link to 'a'"):
        extract_paths(machine.request(destination=machine.root / "out", paths=("b",)))
    assert extract_paths(machine.request(destination=machine.root / "out", paths=("a", "b"))) == ["a", "b"]
