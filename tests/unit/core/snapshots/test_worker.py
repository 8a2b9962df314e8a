from __future__ import annotations

import os
import socket
import subprocess

import pytest

from clawfactory_core.snapshots.worker import Confinement, Worker, wait

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can confine a child")


def found_in(task, directory, uid: int = 23456):
    """What ``task`` returns in a confined child."""
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        worker = Worker(lambda report: task(), Confinement(root, uid, uid))
        wait([worker], lambda message: None)
    finally:
        os.close(root)
    assert worker.failure is None, worker.failure
    return worker.result


def opened_by(uid: int, path: str) -> str:
    """Why a process of this user cannot open a file; empty if it can."""
    command = ["dd", f"if={path}", "count=0", "status=none"]
    done = subprocess.run(command, user=uid, group=uid, extra_groups=[], capture_output=True, text=True)
    return done.stderr.strip().rpartition(": ")[2]


@ROOT
def test_no_directory_that_was_open_leads_out(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir(mode=0o755)
    (tmp_path / "secret").write_text("x")
    outside = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)

    def look() -> list[str]:
        try:
            return os.listdir(outside)
        except OSError as error:
            return [os.strerror(error.errno)]

    try:
        assert found_in(look, inside) == ["Bad file descriptor"]
        assert os.listdir(outside)
    finally:
        os.close(outside)


@ROOT
def test_a_confined_child_is_nobody_else_and_can_become_nobody_else(tmp_path):
    tmp_path.chmod(0o755)

    def look() -> list[object]:
        return [os.getresuid(), os.getresgid(), os.getgroups(), os.listdir("/")]

    assert found_in(look, tmp_path) == [[23456] * 3, [23456] * 3, [], []]


@ROOT
def test_no_process_of_the_same_user_looks_into_a_confined_child(tmp_path):
    """It was forked from one that has private keys in its memory."""
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    reading, writing = os.pipe()
    worker = Worker(lambda report: [report({"ready": True}), os.read(reading, 1)], Confinement(root, 23456, 23456))
    try:
        worker.messages.readline()
        for name in ("mem", "environ", "maps"):
            # Opens it, and reads nothing. Of the process itself, which does not hide, that works.
            done = {owner: opened_by(23456, f"/proc/{owner}/{name}") for owner in (str(worker.pid), "self")}
            assert done == {str(worker.pid): "Permission denied", "self": ""}
    finally:
        worker.stop()
        for descriptor in (root, reading, writing):
            os.close(descriptor)


@ROOT
def test_a_confined_child_has_no_network(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def connect() -> str:
            with socket.socket() as client:
                return os.strerror(client.connect_ex(server.getsockname()))

        assert found_in(connect, tmp_path) == "Network is unreachable"
