"""Room on the disk: what is needed is what files take there, not what they seem to have."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from clawfactory_core.errors import Conflict
from clawfactory_core.snapshots.create import apply_snapshot
from clawfactory_core.snapshots.records import SnapshotRecord, write_record
from clawfactory_core.snapshots.restore import RestoreRequest, stage_restore
from clawfactory_core.snapshots.tar_reader import ReadLimits
from tests.support.snapshot_states import Bench, on_disk

MIB = 1 << 20


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def disk(tmp_path):
    """Sixteen megabytes, with the place of a state in it."""
    mount = tmp_path / "disk"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", mount], check=True)
    (mount / "bot1").mkdir()
    yield mount
    subprocess.run(["umount", mount], check=True)


def request(bench: Bench, disk: Path, keep_free: int = 0) -> RestoreRequest:
    return RestoreRequest(
        root=bench.base,
        bot="bot1",
        state=disk / "bot1" / "state",
        directory=bench.snapshots,
        name="latest",
        identities=(bench.identity,),
        uid=20001,
        gid=20001,
        limits=ReadLimits(min_free_bytes=keep_free),
    )


def used(disk: Path) -> int:
    found = os.statvfs(disk)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def make(bench: Bench) -> SnapshotRecord:
    (bench.state / "sparse").write_bytes(os.urandom(2 * MIB))
    os.truncate(bench.state / "sparse", 64 * MIB)
    (bench.state / "dense").write_bytes(os.urandom(MIB))
    return apply_snapshot(bench.request()).record


def test_a_sparse_state_needs_no_more_than_it_takes(bench, disk):
    records = [make(bench)]
    (bench.state / "new").write_text("in an increment, for which the others are unchanged")
    records.append(apply_snapshot(bench.request()).record)
    for record in records:
        assert record.bytes > 64 * MIB
        assert 3 * MIB <= record.disk < 4 * MIB
    staged = stage_restore(request(bench, disk))
    assert on_disk(staged.path) == on_disk(bench.state)
    assert used(disk) < 4 * MIB


def test_a_state_that_takes_more_is_refused_before_anything_is_written(bench, disk, monkeypatch):
    (bench.state / "dense").write_bytes(bytes(range(256)) * (80 << 10))
    record = apply_snapshot(bench.request()).record
    assert record.size < 16 * MIB < record.disk == record.bytes
    monkeypatch.setattr(os, "mkdir", lambda *_, **__: pytest.fail("something was made"))
    with pytest.raises(Conflict, match=f"needs {record.disk} bytes"):
        stage_restore(request(bench, disk))


@pytest.mark.parametrize("disk_of_record", [0, -1])
def test_a_record_that_says_too_little_fills_no_disk(bench, disk, monkeypatch, disk_of_record):
    (bench.state / "dense").write_bytes(bytes(range(256)) * (80 << 10))
    record = apply_snapshot(bench.request()).record
    write_record(bench.snapshots, replace(record, disk=disk_of_record, bytes=1), os.geteuid())
    monkeypatch.setattr("clawfactory_core.snapshots.tree_writer._CHECK_EVERY", MIB)
    before = used(disk)
    with pytest.raises(Conflict, match="of the disk are left"):
        stage_restore(request(bench, disk, keep_free=4 * MIB))
    assert used(disk) == before


def test_a_record_of_before_needs_what_the_files_seem_to_have(bench, disk):
    record = make(bench)
    path = bench.snapshots / f"{record.id}.full.json"
    known = json.loads(path.read_text())
    del known["disk"]
    path.write_text(json.dumps(known))
    with pytest.raises(Conflict, match=f"needs {record.bytes} bytes"):
        stage_restore(request(bench, disk))
