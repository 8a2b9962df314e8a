from __future__ import annotations

import os
import socket

import pytest

from clawfactory_core.errors import InvalidInput
from clawfactory_core.workspace import workspace_entries


@pytest.fixture
def workspace(tmp_path):
    directory = tmp_path / "workspace"
    directory.mkdir()
    return directory


def test_entries_are_sorted_with_their_kind(tmp_path, workspace):
    (workspace / "skills").mkdir()
    (workspace / "AGENTS.md").touch()
    (workspace / ".hidden").touch()
    (workspace / "with space é").touch()
    assert workspace_entries(tmp_path) == [
        {"name": ".hidden", "kind": "file"},
        {"name": "AGENTS.md", "kind": "file"},
        {"name": "skills", "kind": "directory"},
        {"name": "with space é", "kind": "file"},
    ]


def test_absent_workspace_has_no_entries(tmp_path):
    assert workspace_entries(tmp_path / "absent") == []


@pytest.mark.parametrize("target", ["/etc", "/etc/passwd", "nothing", "AGENTS.md"])
def test_link_is_refused(tmp_path, workspace, target):
    (workspace / "AGENTS.md").touch()
    (workspace / "link").symlink_to(target)
    with pytest.raises(InvalidInput, match="link' is a link or special file"):
        workspace_entries(tmp_path)


def test_fifo_is_refused_without_opening_it(tmp_path, workspace):
    os.mkfifo(workspace / "pipe")
    with pytest.raises(InvalidInput, match="pipe"):
        workspace_entries(tmp_path)


def test_socket_is_refused(tmp_path, workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        with pytest.raises(InvalidInput, match="special file"):
            workspace_entries(tmp_path)


@pytest.mark.parametrize("kind", ["link", "file", "fifo"])
def test_workspace_that_is_no_directory_is_refused(tmp_path, kind):
    path = tmp_path / "workspace"
    {"link": lambda: path.symlink_to("/etc"), "file": path.touch, "fifo": lambda: os.mkfifo(path)}[kind]()
    with pytest.raises(InvalidInput, match="not a directory"):
        workspace_entries(tmp_path)


@pytest.mark.parametrize("name", ["a:b", "a,b", "a\nb", "a\x1b[31m", "a\\b", 'a"b', "a'b", "\u202eevil", b"\xff"])
@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_name_that_mounts_cannot_carry_is_refused_in_printable_words(tmp_path, workspace, name, kind):
    path = os.path.join(os.fsencode(workspace), os.fsencode(name))
    {"file": lambda: os.close(os.open(path, os.O_CREAT)), "directory": lambda: os.mkdir(path),
     "link": lambda: os.symlink("/etc", path)}[kind]()  # fmt: skip
    with pytest.raises(InvalidInput) as caught:
        workspace_entries(tmp_path)
    assert str(caught.value).isprintable()
