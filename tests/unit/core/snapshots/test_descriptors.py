"""What is written is on its way to the disk before the end, and what soon goes again is not."""

from __future__ import annotations

import os

import pytest

from clawfactory_core.snapshots.create import apply_snapshot
from clawfactory_core.snapshots.tar_reader import ReadLimits
from clawfactory_core.snapshots.tree_writer import TreeWriter
from tests.support.snapshot_states import Bench

MIB = 1 << 20


@pytest.fixture
def begun(monkeypatch) -> list[tuple[int, int, int]]:
    """Ranges that the kernel was asked to begin to write."""
    found: list[tuple[int, int, int]] = []
    real = os.posix_fadvise

    def advise(descriptor: int, offset: int, length: int, advice: int) -> None:
        found.append((offset, length, advice))
        real(descriptor, offset, length, advice)

    monkeypatch.setattr(os, "posix_fadvise", advise)
    return found


@pytest.mark.parametrize("passing", [False, True])
def test_a_large_file_is_begun_to_be_written_piece_by_piece(tmp_path, begun, passing):
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    tree = TreeWriter(root, ReadLimits(min_free_bytes=0), passing=passing)
    data = os.urandom(MIB)
    with tree.file(b"large", 0o600, 0) as file:
        for _ in range(20):
            file.write(data)
    os.close(root)
    assert (tmp_path / "large").read_bytes() == data * 20
    pieces = [] if passing else [(0, 8 * MIB), (8 * MIB, 8 * MIB)]
    assert begun == [(*piece, os.POSIX_FADV_DONTNEED) for piece in pieces]


def test_an_archive_is_begun_to_be_written_while_it_grows(tmp_path, monkeypatch):
    told = tmp_path / "told"

    def advise(descriptor: int, offset: int, length: int, advice: int) -> None:
        with told.open("a") as file:
            file.write(f"{offset} {length} {os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))}\n")

    # The process that encrypts is another one.
    monkeypatch.setattr(os, "posix_fadvise", advise)
    bench = Bench(tmp_path)
    (bench.state / "noise").write_bytes(os.urandom(20 * MIB))
    record = apply_snapshot(bench.request()).record
    lines = [line.split() for line in told.read_text().splitlines()]
    assert [int(first) for first, _, _ in lines] == [sum(int(line[1]) for line in lines[:n]) for n in range(len(lines))]
    assert 8 * MIB <= sum(int(length) for _, length, _ in lines) <= record.size
    assert all(name.endswith(".partial") for _, _, name in lines)
