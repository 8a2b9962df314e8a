import os
import resource
import socket
from pathlib import Path

import pytest

from clawfactory_core.disk import measure
from clawfactory_core.tree import MAX_DEPTH, walk_tree


def blocks(path: Path) -> int:
    return os.lstat(path).st_blocks * 512


def make_chain(top: Path, depth: int) -> None:
    """Nested directories, made relative to each other because their path gets longer than a path may be."""
    parent = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=parent)
        child = os.open("d", os.O_RDONLY, dir_fd=parent)
        os.close(parent)
        parent = child
    with open(os.open("f", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=parent), "wb") as handle:
        handle.write(b"x" * 100_000)
    os.close(parent)


def remove_chain(top: Path) -> None:
    """Flatten and remove it; ``shutil.rmtree`` of older Pythons recurses too deep."""
    while (top / "d").exists():
        (top / "d" / "f").unlink(missing_ok=True)
        if (top / "d" / "d").exists():
            os.rename(top / "d" / "d", top / "next")
        os.rmdir(top / "d")
        if (top / "next").exists():
            os.rename(top / "next", top / "d")


def test_measure_counts_blocks_of_files_and_directories(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"x" * 1_000_000)
    expected = blocks(tmp_path) + blocks(tmp_path / "a") + blocks(tmp_path / "a" / "file")
    usage = measure(tmp_path)
    assert (usage.used_bytes, usage.entries, usage.too_deep, usage.problem) == (expected, 2, False, "")
    assert usage.used_bytes >= 1_000_000


def test_measure_counts_a_sparse_file_by_its_blocks(tmp_path):
    with (tmp_path / "sparse").open("wb") as handle:
        handle.truncate(2**40)
    assert measure(tmp_path).used_bytes < 2**20


def test_measure_counts_hard_links_once(tmp_path):
    (tmp_path / "one").write_bytes(b"x" * 4_000_000)
    before = measure(tmp_path).used_bytes
    for number in range(9):
        os.link(tmp_path / "one", tmp_path / f"link{number}")
    assert measure(tmp_path).used_bytes == pytest.approx(before, abs=65_536)


def test_measure_follows_no_link(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "big").write_bytes(b"x" * 4_000_000)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    (inside / "loop").symlink_to(inside)
    assert measure(inside).used_bytes < 100_000


def test_measure_refuses_a_link_as_the_directory(tmp_path):
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        measure(tmp_path / "link")


def test_measure_stays_on_the_file_system(tmp_path):
    # /proc is another file system everywhere; walking / from a device of its own would find it.
    seen: list[str] = []
    walk_tree(
        Path("/sys/fs"), lambda name, found, _: seen.append(name) if found.st_dev != os.stat("/sys").st_dev else None
    )
    assert seen == []


def test_measure_takes_odd_names_and_kinds(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with open(os.open(b"\xff\xfe \n'\"", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=descriptor), "wb") as handle:
        handle.write(b"x" * 1_000_000)
    os.close(descriptor)
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        usage = measure(tmp_path)
    assert usage.entries == 3
    assert usage.used_bytes >= 1_000_000
    assert usage.problem == ""


@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, 5000])
def test_measure_survives_deep_nesting(tmp_path, depth):
    make_chain(tmp_path, depth)
    try:
        usage = measure(tmp_path)
    finally:
        remove_chain(tmp_path)
    assert usage.too_deep is (depth >= MAX_DEPTH)
    assert usage.problem == ""
    if depth < MAX_DEPTH:
        assert usage.used_bytes >= 100_000


def test_measure_leaves_no_descriptor_open(tmp_path):
    make_chain(tmp_path, 50)
    before = len(os.listdir("/proc/self/fd"))
    measure(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        walk_tree(tmp_path, interrupt)
    assert len(os.listdir("/proc/self/fd")) == before


def interrupt(name: str, found: os.stat_result, parent: int) -> None:
    if name == "f":
        raise KeyboardInterrupt


def test_walk_goes_on_past_vanished_entries(tmp_path):
    for number in range(100):
        (tmp_path / f"d{number}").mkdir()
        (tmp_path / f"d{number}" / "file").write_bytes(b"")
    names: list[str] = []

    def remove_the_rest(name: str, found: os.stat_result, parent: int) -> None:
        names.append(name)
        if len(names) == 1:
            for path in tmp_path.iterdir():
                (path / "file").unlink()
                path.rmdir()

    report = walk_tree(tmp_path, remove_the_rest)
    assert report.problem == ""
    assert len(names) < 200


def test_walk_does_not_enter_a_directory_replaced_by_a_link(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "secret").write_bytes(b"")
    top = tmp_path / "top"
    (top / "victim").mkdir(parents=True)
    names: list[str] = []

    def replace(name: str, found: os.stat_result, parent: int) -> None:
        names.append(name)
        if name == "victim":
            (top / "victim").rmdir()
            (top / "victim").symlink_to(target)

    assert walk_tree(top, replace).problem == ""
    assert names == ["victim"]


def test_walk_reports_what_it_cannot_read(tmp_path):
    def fail(name: str, found: os.stat_result, parent: int) -> None:
        raise OSError(5, "Input/output error")

    (tmp_path / "file").write_bytes(b"")
    assert "Input/output error" in walk_tree(tmp_path, fail).problem


def test_walk_ticks_and_can_be_ended_by_it(tmp_path):
    for number in range(3000):
        (tmp_path / str(number)).touch()
    ticks: list[int] = []
    walk_tree(tmp_path, lambda *_: None, lambda: ticks.append(1))
    assert len(ticks) == 2


def test_measure_takes_memory_by_depth_and_not_by_size(tmp_path):
    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    for number in range(20_000):
        (tmp_path / f"a-rather-long-name-of-a-directory-{number:06d}").mkdir()
    measure(tmp_path)
    before = peak()
    measure(tmp_path)
    assert peak() - before < 1024  # KiB
