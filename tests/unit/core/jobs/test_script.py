"""The program as the machine runs it, with the core where the role puts it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clawfactory_core.adapters.age import make_key_pair
from clawfactory_core.jobs.protocol import Refusal

from .conftest import until

REPOSITORY = Path(__file__).parents[4]
PROGRAM = REPOSITORY / "roles" / "host" / "files" / "jobs" / "clawfactory-jobs"


@pytest.fixture
def install(machine) -> None:
    lib = machine.root / "lib"
    lib.mkdir()
    (lib / "clawfactory_core").symlink_to(REPOSITORY / "module_utils" / "clawfactory_core")
    (lib / "clawfactory-jobs").symlink_to(PROGRAM)
    venv = machine.root / "venv" / "bin"
    venv.mkdir(parents=True)
    # A link would not find the libraries of this interpreter's environment.
    (venv / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (venv / "python").chmod(0o755)


@pytest.fixture
def launch(machine, install) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def begin(*more: str) -> subprocess.Popen[str]:
        program = machine.root / "lib" / "clawfactory-jobs"
        command = [sys.executable, "-B", str(program), "serve", "--root", str(machine.root), *more]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def test_it_serves_and_ends_when_told(machine, launch):
    pidfile = machine.root / "pid"
    process = launch("--pidfile", str(pidfile))
    until(machine.answers)
    assert pidfile.read_text() == f"{process.pid}\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert not pidfile.exists()


def test_a_second_one_is_not_wanted(machine, launch):
    first = launch()
    until(machine.answers)
    second = launch()
    assert second.wait(10) == 75
    assert second.stderr is not None
    assert "another service" in second.stderr.read()
    assert machine.answers()
    first.kill()
    first.wait()
    launch()
    until(machine.answers)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads a bot's state as the bot's user")
def test_a_snapshot_is_made_by_a_process_of_its_own(machine, launch):
    state = machine.root / "bot_repos" / "bot1" / "state"
    state.mkdir(parents=True)
    (state / "file").write_text("content")
    for path in (state, state / "file"):
        os.chown(path, 20001, 20001)
    (machine.root / "bot_repos" / "bot1").chmod(0o755)
    secrets = machine.root / "secrets" / "bot1"
    secrets.mkdir(parents=True)
    (secrets / "snapshot.pub").write_text(f"{make_key_pair()[1]}\n")
    machine.settle_snapshots("bot1", 1, many=100_000)
    launch()
    until(machine.answers)
    done = machine.finished(machine.client().ask("snapshot", actor="agent", label="mine")["job"]["id"])
    assert done["error"] is None
    assert (done["result"]["label"], done["result"]["kind"]) == ("mine", "full")
    assert [job["progress"] for job in machine.client().ask("jobs")["jobs"]] == [None]
    listed = machine.client().ask("snapshots")["snapshots"]
    assert [entry["id"] for entry in listed] == [done["result"]["id"]]
    assert listed[0].items() <= done["result"].items()
    with pytest.raises(Refusal) as caught:
        machine.client().ask("snapshot", actor="agent")
    assert caught.value.status == 429


def test_a_failure_of_the_core_comes_back_in_its_own_words(machine, launch):
    launch()
    until(machine.answers)
    failed = machine.finished(machine.client().ask("snapshot", actor="operator")["job"]["id"])
    assert failed["error"]["status"] == 422
    assert "snapshot.pub" in failed["error"]["detail"]


def test_without_the_libraries_questions_are_answered_and_jobs_say_what_is_missing(machine, launch):
    shutil.rmtree(machine.root / "venv")
    launch()
    until(machine.answers)
    assert machine.client().ask("snapshots") == {"snapshots": []}
    failed = machine.finished(machine.client().ask("snapshot", actor="operator")["job"]["id"])
    assert "venv/bin/python cannot be started" in failed["error"]["detail"]


def test_serving_needs_nothing_but_the_standard_library(machine, install):
    code = "import sys; sys.path.insert(0, sys.argv[1]); import clawfactory_core.jobs.service, clawfactory_core.pidfile"
    command = [sys.executable, "-I", "-S", "-c", code, str(machine.root / "lib")]
    subprocess.run(command, check=True)
