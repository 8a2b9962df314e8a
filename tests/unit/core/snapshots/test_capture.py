from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawfactory_core.snapshots import capture
from clawfactory_core.snapshots.capture import LeaveOut, Limits, OpenFile, Vanished, Walk, read_link
from clawfactory_core.snapshots.rules import Rules


class Seen:
    """A walk, and what it left out."""

    def __init__(self, state, **limits):
        self.left_out: list[tuple[bytes, str]] = []
        self.top = os.open(state, os.O_RDONLY)
        self.walk = Walk(self.top, Rules(), Limits(**limits), lambda path, reason: self.left_out.append((path, reason)))

    def paths(self) -> list[bytes]:
        return [entry.path for entry in self.walk]


@pytest.fixture
def state(tmp_path):
    return tmp_path


@settings(deadline=None)
@given(st.sets(st.lists(st.sampled_from([b"a", b"a-", b"a.", b"b", b"\xff", b"B"]), min_size=1, max_size=3).map(tuple)))
def test_the_order_is_that_of_the_archive(paths):
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        for path in paths:
            os.makedirs(os.path.join(os.fsencode(scratch), *path), exist_ok=True)
        found = Seen(scratch).paths()
    assert found == sorted(found, key=lambda path: path.split(b"/"))
    assert set(found) == {b"/".join(path[:length]) for path in paths for length in range(1, len(path) + 1)}


def test_descriptors_are_closed_even_when_a_walk_is_given_up(state):
    (state / "a" / "b" / "c").mkdir(parents=True)
    seen = Seen(state)
    before = sorted(os.listdir("/proc/self/fd"))
    entries = iter(seen.walk)
    next(entries)
    next(entries)
    assert sorted(os.listdir("/proc/self/fd")) != before
    entries.close()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_directory_that_vanished_or_became_a_link_is_not_entered(state, monkeypatch):
    (state / "a").mkdir()
    (state / "b").mkdir()
    (state / "b" / "inside").touch()
    look = capture.look

    def swap(name, directory):
        found = look(name, directory)
        if name == b"a":
            os.rmdir("a", dir_fd=directory)
        if name == b"b":
            os.rename("b", "c", src_dir_fd=directory, dst_dir_fd=directory)
            os.symlink("/etc", "b", dir_fd=directory)
        return found

    monkeypatch.setattr(capture, "look", swap)
    seen = Seen(state)
    assert seen.paths() == []
    assert [path for path, _ in seen.left_out] == [b"b"]


@pytest.mark.parametrize(
    ("become", "error"),
    [
        (lambda path: None, None),
        (lambda path: path.unlink(), Vanished),
        (lambda path: (path.unlink(), path.symlink_to("/etc/passwd")), LeaveOut),
        (lambda path: (path.unlink(), os.mkfifo(path)), LeaveOut),
        (lambda path: (path.unlink(), path.mkdir()), LeaveOut),
        (lambda path: (path.unlink(), path.write_text("another")), None),
        (lambda path: (path.unlink(), os.link(path.parent.parent / "foreign", path)), LeaveOut),
    ],
)
def test_a_file_that_became_something_else_is_not_opened(tmp_path, become, error):
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 20001, 20001)
    (tmp_path / "foreign").write_text("secret")
    path = state / "file"
    path.write_text("first")
    os.chown(path, 20001, 20001)
    seen = Seen(state)
    (entry,) = [entry for entry in seen.walk if entry.path == b"file"]
    entry.directory = seen.top
    become(path)
    if error is None:
        with seen.walk.open_file(entry) as file:
            assert file.read(0, 100) == path.read_bytes()
            assert (entry.found.st_ino, file.found.st_ino) == (path.stat().st_ino,) * 2
    else:
        with pytest.raises(error):
            seen.walk.open_file(entry)


def test_a_link_that_became_something_else_has_no_target(state):
    (state / "link").symlink_to("there")
    seen = Seen(state)
    (entry,) = list(seen.walk)
    entry.directory = seen.top
    assert read_link(entry) == b"there"
    (state / "link").unlink()
    with pytest.raises(Vanished):
        read_link(entry)
    (state / "link").touch()
    with pytest.raises(LeaveOut, match="replaced again and again"):
        read_link(entry)


def test_reads_are_as_long_as_they_can_be(state, monkeypatch):
    (state / "file").write_bytes(b"0123456789")
    descriptor = os.open(state / "file", os.O_RDONLY)
    pread = os.pread
    # A file system may give less than was asked for.
    monkeypatch.setattr(os, "pread", lambda file, length, offset: pread(file, min(length, 3), offset))
    with OpenFile(descriptor, os.fstat(descriptor)) as file:
        assert (file.read(0, 8), file.read(5, 100), file.read(10, 5)) == (b"01234567", b"56789", b"")


def test_no_more_names_are_held_than_may_be_looked_at(state):
    for number in range(50):
        (state / f"{number:02}").touch()
    seen = Seen(state, max_entries=20)
    assert len(seen.paths()) == 20
    assert seen.left_out == [(b".", "beyond max_entries")]
