"""A process is ready before its job is; it is used once, and never when it might have imported something old."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clawfactory_core.jobs.child import Children
from clawfactory_core.jobs.kinds import Work

from .conftest import WORKER, until


def processes(root: Path) -> set[int]:
    """Workers of this root that live."""
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile
            continue
        if os.fsencode(WORKER) in words and os.fsencode(root) in words:
            found.add(int(entry.name))
    return found


def waiting(root: Path) -> int:
    """The one that is ready; looked for until it has become the worker."""
    (pid,) = until(lambda: processes(root))
    return int(pid)


def kinds_of_files(pid: int) -> set[str]:
    """Path, or kind, of what a process has open beside its errors."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found |= {os.readlink(link).partition(":")[0]} if link.name != "2" else set()
        except FileNotFoundError:  # closed meanwhile
            continue
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_text("1")
    return path


@pytest.fixture
def children(tmp_path: Path, source: Path) -> Iterator[Children]:
    found = Children((sys.executable, str(WORKER), str(tmp_path)), (source,))
    yield found
    found.end()
    until(lambda: not processes(tmp_path))


def run(children: Children, root: Path) -> int:
    return int(children.run(Work(root, "bot1", "snapshot"), lambda progress: None)["pid"])


def test_job_is_done_by_the_process_that_was_ready_and_the_next_by_another(children, tmp_path):
    children.prepare()
    ready = waiting(tmp_path)
    assert run(children, tmp_path) == ready
    following = waiting(tmp_path)
    assert following != ready
    assert run(children, tmp_path) == following


def test_ready_process_knows_nothing_of_a_bot(children, tmp_path):
    """What a job of one bot leaves in a process can reach no other, and a secret is in none before it is needed."""
    children.prepare()
    ready = waiting(tmp_path)
    assert Path(f"/proc/{ready}/environ").read_bytes().count(b"\0") == 2
    # The interpreter's own pipes, and no file of any bot; it is waited for until it has read its own modules.
    until(lambda: kinds_of_files(ready) <= {"pipe", "/dev/null"})


def test_process_that_was_started_before_an_update_is_not_used(children, tmp_path, source):
    children.prepare()
    ready = waiting(tmp_path)
    source.write_text("22")
    assert run(children, tmp_path) != ready
    assert ready not in processes(tmp_path)


def test_process_that_died_while_it_was_ready_is_not_used(children, tmp_path):
    children.prepare()
    ready = waiting(tmp_path)
    os.kill(ready, 9)
    until(lambda: ready not in processes(tmp_path))
    assert run(children, tmp_path) != ready


def test_job_comes_while_none_is_ready(children, tmp_path):
    assert run(children, tmp_path)


def test_nothing_is_started_ahead_that_cannot_be(tmp_path):
    Children((str(tmp_path / "absent"),)).prepare()


def test_end_takes_the_ready_process_along_and_makes_no_other(children, tmp_path):
    children.prepare()
    waiting(tmp_path)
    children.end()
    assert not processes(tmp_path)
    children.prepare()
    assert not processes(tmp_path)


@pytest.mark.parametrize(("kind", "nice"), [("snapshot", 10), ("promotion", 0)])
def test_work_that_can_wait_leaves_the_processors_to_others(kind, nice):
    """Its session has the nice value, too: a kernel that weighs sessions looks at no other."""
    program = (
        f"import os; from clawfactory_core.jobs import child; child.give_way({kind!r});"
        "print(os.nice(0), *child._AUTOGROUP.read_text().split()[-1:] if child._AUTOGROUP.exists() else ())"
    )
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.check_output(command, env=environment, text=True, start_new_session=True).split()
    assert said and set(said) == {str(nice)}
