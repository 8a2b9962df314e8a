"""Power is cut while a snapshot is made: of what was not synced, contents are lost, and names may be or not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from clawfactory_core.snapshots.chains import chain_of, find, list_snapshots
from clawfactory_core.snapshots.create import apply_snapshot
from tests.support.snapshot_states import Bench, on_disk

#: Of each directory by its path: names with content, or with the target of a link.
Contents = dict[str, dict[str, bytes | str]]


class Disk:
    """What a power cut would leave of some directories, at each of their changes from now on."""

    def __init__(self, patch: pytest.MonkeyPatch, *directories: Path) -> None:
        self.cuts: list[Contents] = []
        self._directories = directories
        self._synced: dict[int, bytes] = {}
        for directory in directories:
            for path in directory.iterdir():
                if not path.is_symlink():
                    self._synced[path.stat().st_ino] = path.read_bytes()
        self._names = {directory: self._now(directory) for directory in directories}
        for name in ("fsync", "rename", "replace"):
            patch.setattr(os, name, self._noting(name, getattr(os, name)))

    def _noting(self, name: str, real):
        def call(*arguments, **options):
            found = real(*arguments, **options)
            if name == "fsync":
                self._sync(arguments[0])
            self._cut()
            return found

        return call

    def _now(self, directory: Path) -> dict[str, int | str]:
        return {
            path.name: os.readlink(path) if path.is_symlink() else path.stat().st_ino for path in directory.iterdir()
        }

    def _sync(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}")
        if path.is_dir():
            if path.resolve() in self._names:
                self._names[path.resolve()] = self._now(path.resolve())
        else:
            self._synced[os.fstat(descriptor).st_ino] = path.read_bytes()

    def _cut(self) -> None:
        now = {directory: self._now(directory) for directory in self._directories}
        for names in (self._names, now):
            cut = {
                str(directory): {
                    name: found if isinstance(found, str) else self._synced.get(found, b"")
                    for name, found in names[directory].items()
                }
                for directory in self._directories
            }
            if cut not in self.cuts:
                self.cuts.append(cut)


def put(contents: Contents) -> None:
    for directory, names in contents.items():
        shutil.rmtree(directory)
        Path(directory).mkdir(mode=0o700)
        for name, found in names.items():
            if isinstance(found, str):
                (Path(directory) / name).symlink_to(found)
            else:
                (Path(directory) / name).write_bytes(found)


def restored(bench: Bench):
    records = list_snapshots(bench.snapshots)
    return bench.restored(*chain_of(records, find(records, "latest")))


@pytest.mark.parametrize("kind", ["auto", "full"])
def test_whenever_power_is_cut_the_newest_opens_and_the_next_can_be_made(tmp_path, kind):
    bench = Bench(tmp_path.resolve())
    (bench.state / "large").write_bytes(os.urandom(600_000))
    (bench.state / "small").write_text("one")
    apply_snapshot(bench.request())
    before = on_disk(bench.state)
    (bench.state / "small").write_text("two")
    after = on_disk(bench.state)
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, bench.snapshots, bench.index.parent)
        apply_snapshot(bench.request(kind=kind))
    trees = []
    assert len(disk.cuts) > 8
    for contents in disk.cuts:
        put(contents)
        found = restored(bench)
        trees.append(found == after)
        assert found in (before, after)
        (bench.state / "small").write_text("three")
        apply_snapshot(bench.request())
        assert restored(bench) == on_disk(bench.state)
        (bench.state / "small").write_text("two")
    assert set(trees) == {True, False}
    # The last of what was synced is the new one.
    assert trees[-1]
