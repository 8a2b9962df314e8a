from __future__ import annotations

import os
import tarfile
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clawfactory_core.adapters.age import WrongKey
from clawfactory_core.errors import Conflict, InvalidInput
from clawfactory_core.snapshots.chains import BrokenChain
from clawfactory_core.snapshots.progress import Progress
from clawfactory_core.snapshots.restore import keep, plan_restore, put_back, recover, stage_restore, swap
from clawfactory_core.snapshots.swap import locked
from clawfactory_core.snapshots.tar_reader import ReadLimits
from tests.unit.core.snapshots.archive_maker import (
    Directory,
    File,
    Link,
    Maker,
    expected,
    legacy_tar,
    member,
    read_tree,
)
from tests.unit.core.snapshots.restore_machine import BASE, BOT, Machine


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


def test_a_full_snapshot_is_restored_as_it_was(machine):
    tree = {
        **BASE,
        b"setuid": File(b"x", 0o4755),
        b"secret": File(b"x", 0),
        b"locked": Directory(0o500),
        b"locked/in": File(b"deep", 0o400),
        b"old": File(b"x", mtime_ns=-1_500_000_000),
        b"new\nline \xff": File(b"odd"),
        b"long" * 60: Directory(),
        b"long" * 60 + b"/" + b"\xfe" * 200: Link(b"\xff" * 150),
        b"zeros": File(bytes(3_000_001)),
        b"part": File(bytes(300_000) + b"end"),
    }
    machine.maker.write(machine.maker.full(tree))
    assert machine.restore() == expected(tree, BOT, BOT)
    assert os.lstat(machine.state / "zeros").st_blocks == 0
    assert sorted(os.listdir(machine.state.parent)) == ["state"]
    found = os.lstat(machine.state)
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (BOT, BOT, 0o700)


def test_a_chain_with_deletions_type_changes_and_patches(machine):
    big = bytearray(BASE[b"big"].data)
    states = [dict(BASE)]
    second = dict(BASE)
    del second[b"etc"], second[b"etc/config"], second[b"etc/link"]
    big[5000:5010] = b"0123456789"
    second[b"etc"] = File(b"now a file", mtime_ns=7)
    second[b"empty"] = Directory()
    second[b"empty/in"] = Link(b"/etc/passwd")
    second[b"big"] = File(bytes(big) + b"grown" * 1000, 0o444, 99)
    third = dict(second)
    third[b"etc"] = Link(b"loop")
    third[b"big"] = File(bytes(big[:400_001]), 0o600, 100)
    fourth = {b"big": File(b"small", 0o600, 101), b"empty": Directory(0o700, 5)}
    states += [second, third, fourth]
    parent = machine.maker.write(machine.maker.full(BASE))
    ids = [parent.id]
    for before, after in pairwise(states):
        parent = machine.maker.write(machine.maker.inc(parent, before, after))
        ids.append(parent.id)
    for name, tree in zip(ids, states, strict=True):
        assert machine.restore(name) == expected(tree, BOT, BOT)


def test_a_file_that_comes_again_counts_as_it_is_last(machine):
    archive = machine.maker.full(BASE)
    archive.members.insert(0, member(b"big", File(b"torn")))
    machine.maker.write(archive)
    assert machine.restore() == expected(BASE, BOT, BOT)


def test_a_deleted_directory_that_is_there_again_loses_what_was_in_it(machine):
    after = {**BASE, b"etc": Directory(0o700, 5)}
    del after[b"etc/config"], after[b"etc/link"]
    full = machine.maker.write(machine.maker.full(BASE))
    archive = machine.maker.inc(full, BASE, after)
    archive.changes = b"delete etc\n"
    machine.maker.write(archive)
    assert machine.restore() == expected(after, BOT, BOT)


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_archive_of_the_original(machine, format_):
    def info(name: str, type_: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
        made = tarfile.TarInfo(name)
        made.type, made.linkname, made.mtime, made.mode = type_, link, 1_600_000_000, 0o640
        return made

    data = legacy_tar(
        format_,
        [
            (info("./", tarfile.DIRTYPE), b""),
            (info("./a/b"), b"content"),
            (info("./a/hard", tarfile.LNKTYPE, "./a/b"), b""),
            (info("./soft", tarfile.SYMTYPE, "/etc/passwd"), b""),
            (info("./a", tarfile.DIRTYPE), b""),
        ],
    )
    machine.maker.legacy(data)
    found = machine.restore()
    assert {path: item[-1] for path, item in found.items() if path in (b"soft", b"a")} == {
        b"soft": b"/etc/passwd",
        b"a": b"",
    }
    assert (machine.state / "a/b").read_bytes() == (machine.state / "a/hard").read_bytes() == b"content"
    assert {item[1:3] for item in found.values()} == {(BOT, BOT)}
    assert os.lstat(machine.state / "a/hard").st_nlink == 1


def test_the_old_state_comes_back_if_the_bot_does_not_start(machine):
    before = read_tree(machine.state)
    machine.maker.write(machine.maker.full(BASE))
    staged = stage_restore(machine.request())
    assert read_tree(machine.state) == before
    aside = swap(machine.state)
    assert read_tree(aside) == before
    assert read_tree(machine.state) == expected(BASE, BOT, BOT)
    assert not staged.path.exists()
    assert recover(machine.state) == "waiting"
    assert put_back(machine.state)
    assert read_tree(machine.state) == before
    assert os.listdir(machine.state.parent) == ["state"]
    assert not put_back(machine.state) and not keep(machine.state)


def test_a_second_restore_waits_for_the_decision_on_the_first(machine):
    machine.maker.write(machine.maker.full(BASE))
    stage_restore(machine.request())
    swap(machine.state)
    with machine.refused("decide first: .*restore_decide=kept"):
        stage_restore(machine.request())


def test_a_state_that_was_missing_is_missing_again_when_put_back(machine):
    machine.maker.write(machine.maker.full(BASE))
    (machine.state / "alive").unlink()
    machine.state.rmdir()
    stage_restore(machine.request())
    swap(machine.state)
    assert read_tree(machine.state) == expected(BASE, BOT, BOT)
    assert put_back(machine.state)
    assert os.listdir(machine.state.parent) == []


def test_swap_wants_something_staged(machine):
    machine.maker.write(machine.maker.full(BASE))
    with machine.refused("stage it again"):
        swap(machine.state)
    stage_restore(machine.request())
    with machine.refused("stage it again"):
        swap(machine.state, machine.state.parent / ".restore-another" / "state")


def test_recover_drops_a_staged_state_unless_told_otherwise(machine):
    machine.maker.write(machine.maker.full(BASE))
    staged = stage_restore(machine.request())
    assert recover(machine.state, keep_staged=True) == "staged"
    assert staged.path.is_dir()
    assert recover(machine.state) == "undone"
    assert os.listdir(machine.state.parent) == ["state"]
    assert recover(machine.state) == "nothing"


def test_a_locked_bot_is_not_restored(machine):
    machine.maker.write(machine.maker.full(BASE))
    (machine.root / "locks" / "bot1").write_text("")
    with machine.refused("is locked"):
        plan_restore(machine.request())


def test_another_restore_is_running(machine):
    machine.maker.write(machine.maker.full(BASE))
    with locked(machine.state), pytest.raises(Conflict, match="running"):
        stage_restore(machine.request())


def test_the_wrong_key(machine):
    machine.maker.write(machine.maker.full(BASE))
    other = Maker(machine.root / "outside").identity
    with machine.refused(r"made--2026-01-01T00-00-01Z\.full\.tar\.zst\.age: no private key", WrongKey):
        stage_restore(machine.request(identities=(other,)))
    stage_restore(machine.request(identities=(other, machine.maker.identity)))


def test_no_key(machine):
    machine.maker.write(machine.maker.full(BASE))
    for identities in ((), ("AGE-SECRET-KEY-NOT",)):
        with machine.refused("private key", InvalidInput):
            stage_restore(machine.request(identities=identities))


def test_a_full_disk_is_refused_before_anything_is_written(machine):
    machine.maker.write(machine.maker.full(BASE))
    with machine.refused("make room"):
        stage_restore(machine.request(limits=ReadLimits(min_free_bytes=1 << 60)))


def test_the_plan_reads_no_archive(machine):
    full = machine.maker.write(machine.maker.full(BASE))
    inc = machine.maker.write(machine.maker.inc(full, BASE, {}))
    for one in (full, inc):
        (machine.directory / one.file_name).write_bytes(bytes(one.size))
    plan = plan_restore(machine.request())
    assert [link.id for link in plan.chain] == [full.id, inc.id]
    assert (plan.count, plan.bytes, plan.size) == (0, 0, full.size + inc.size)


def test_a_broken_link_is_named(machine):
    full = machine.maker.write(machine.maker.full(BASE))
    middle = machine.maker.write(machine.maker.inc(full, BASE, {}))
    machine.maker.write(machine.maker.inc(middle, {}, BASE))
    (machine.directory / middle.file_name).unlink()
    with machine.refused(middle.id, BrokenChain):
        stage_restore(machine.request())


def test_snapshots_of_another_bot_can_be_restored_from_its_directory_only(machine):
    theirs = machine.root / "snapshots" / "other"
    theirs.mkdir()
    other = Maker(theirs, "other")
    archive = other.full(BASE)
    other.write(archive)
    request = machine.request(directory=theirs, identities=(other.identity,))
    stage_restore(request)
    recover(machine.state)
    here = Maker(machine.directory, "other")
    here.write(here.full(BASE))
    with machine.refused("is a snapshot of bot 'other'"):
        stage_restore(machine.request(identities=(here.identity,)))


def test_progress_is_reported(machine):
    record = machine.maker.write(machine.maker.full(BASE))
    seen: list[Progress] = []
    stage_restore(machine.request(), seen.append)
    *_, unpacked, last = seen
    assert (unpacked.phase, unpacked.done, unpacked.total) == ("unpacking and comparing", record.size, record.size)
    assert last == Progress("writing to disk")


NAMES = st.binary(min_size=1, max_size=6).filter(lambda name: not {0, 47} & set(name) and name not in (b".", b".."))
MODES = st.integers(0, 0o7777)
TIMES = st.integers(-(10**18), 4 * 10**18)
CONTENT = st.one_of(
    st.binary(max_size=600),
    st.tuples(st.integers(262_100, 280_000), st.binary(min_size=1, max_size=3)).map(lambda x: (x[1] * x[0])[: x[0]]),
)
FILES = st.builds(File, CONTENT, MODES, TIMES)
LINKS = st.builds(Link, st.binary(min_size=1, max_size=120).map(lambda raw: raw.replace(b"\0", b"_")), mtime_ns=TIMES)
NODES = st.recursive(
    st.one_of(FILES, LINKS),
    lambda inner: st.tuples(MODES, TIMES, st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=8,
)


def flatten(nodes: dict[bytes, object], prefix: bytes = b"") -> dict[bytes, File | Directory | Link]:
    found: dict[bytes, File | Directory | Link] = {}
    for name, node in nodes.items():
        if isinstance(node, tuple):
            found[prefix + name] = Directory(node[0], node[1])
            found.update(flatten(node[2], prefix + name + b"/"))
        else:
            found[prefix + name] = node
    return found


TREES = st.dictionaries(NAMES, NODES, max_size=5).map(flatten).filter(lambda tree: b".clawfactory" not in tree)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(states=st.lists(TREES, min_size=1, max_size=4))
def test_any_chain_of_any_trees(tmp_path_factory, states):
    machine = Machine(tmp_path_factory.mktemp("m"))
    record = machine.maker.write(machine.maker.full(states[0]))
    for before, after in pairwise(states):
        record = machine.maker.write(machine.maker.inc(record, before, after))
    staged = stage_restore(machine.request(record.id))
    assert read_tree(staged.path) == expected(states[-1], BOT, BOT)
