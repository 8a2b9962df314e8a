"""What the machine's own schedule notes of its runs, and does after one that found a chain damaged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clawfactory_core.adapters.age import make_key_pair
from clawfactory_core.errors import InvalidInput
from clawfactory_core.snapshots.schedule import (
    ScheduledRun,
    begin_run,
    describe_schedule,
    read_run,
    run_path,
    write_run,
)

REPOSITORY = Path(__file__).parents[4]
BOT = "bot1"


class Schedule:
    """A bot in a root of its own, and the program that the timer starts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state, self.directory = root / "bot_repos" / BOT / "state", root / "snapshots" / BOT
        for path in (self.state, self.directory, root / "secrets" / BOT, root / "locks", root / "lib"):
            path.mkdir(parents=True)
        identity, recipient = make_key_pair()
        (root / "secrets" / BOT / "snapshot.key").write_text(f"{identity}\n")
        (root / "secrets" / BOT / "snapshot.pub").write_text(f"{recipient}\n")
        numbers = {"controller_uid": 0, "gateway_uid": 0, "max_chain": 30, "max_delta_percent": 900, "min_free_mb": 0}
        limits = {"max_entries": 1000, "max_mb": 1000, "max_file_mb": 1000, "max_minutes": 10}
        keep = {"last": 30, "daily": 0, "weekly": 0, "monthly": 0}
        settings = {**numbers, **limits, "recipients": [], "exclude": [], "include": [], "keep": keep}
        (root / "snapshots" / f"{BOT}.json").write_text(json.dumps(settings))
        (root / "lib" / "clawfactory_core").symlink_to(REPOSITORY / "module_utils" / "clawfactory_core")
        shutil.copy(REPOSITORY / "roles" / "snapshots" / "files" / "clawfactory-snapshot", root / "lib")
        (self.state / "memory.md").write_text("remembered")
        self.command = [sys.executable, "-B", str(root / "lib" / "clawfactory-snapshot"), "--root", str(root), BOT]

    def run(self, verify: str = "digest") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, "--verify", verify], capture_output=True, text=True, timeout=120, check=False
        )

    def noted(self) -> ScheduledRun:
        found = read_run(self.root, BOT)
        assert found is not None
        return found

    def archives(self) -> list[Path]:
        """In the order they were made."""
        return sorted(self.directory.glob("*.age"), key=lambda path: path.stat().st_mtime_ns)


@pytest.fixture
def schedule(tmp_path) -> Schedule:
    return Schedule(tmp_path / "root")


@pytest.mark.parametrize(("verify", "state"), [("no", "made"), ("digest", "verified"), ("content", "verified")])
def test_what_was_done_is_noted(schedule, verify, state):
    assert describe_schedule(schedule.root, BOT) == {}
    assert schedule.run(verify).returncode == 0
    noted = schedule.noted()
    assert (noted.state, noted.why) == (state, "")
    assert noted.verified == ("" if verify == "no" else verify)
    assert schedule.archives()[-1].name.startswith(noted.snapshot)
    assert run_path(schedule.root, BOT).stat().st_mode & 0o777 == 0o600
    assert describe_schedule(schedule.root, BOT) == {
        "state": state, "time": noted.began, "snapshot": noted.snapshot, "problem": "",
    }  # fmt: skip


def test_a_damaged_archive_fails_the_run_and_the_next_snapshot_does_not_build_upon_it(schedule):
    assert schedule.run().returncode == 0
    first = schedule.archives()[0]
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(data)
    for _ in range(2):
        # A full one stands between: of what is still there, nothing that is damaged is built upon.
        failed = schedule.run()
        assert failed.returncode == 1
        assert first.name in failed.stderr
        noted = schedule.noted()
        assert (noted.state, noted.verified, noted.broken) == ("failed", "", True)
        assert first.name in describe_schedule(schedule.root, BOT)["problem"]
        assert schedule.run().returncode == 0
        assert (schedule.noted().state, schedule.noted().broken) == ("verified", False)
        first = schedule.archives()[-1]
        assert ".full." in first.name
        data = bytearray(first.read_bytes())
        data[len(data) // 2] ^= 1
        first.write_bytes(data)


def test_a_damaged_chain_is_remembered_through_a_run_that_makes_nothing(schedule):
    assert schedule.run().returncode == 0
    write_run(schedule.root, BOT, ScheduledRun("t", "t", problem="the chain does not pass", broken=True))
    state = schedule.state.rename(schedule.state.with_name("away"))
    assert schedule.run().returncode == 1
    assert schedule.noted().broken and "state directory" in schedule.noted().problem
    state.rename(schedule.state)
    assert schedule.run().returncode == 0
    assert ".full." in schedule.archives()[-1].name


def test_a_run_that_is_killed_is_noted_as_one_that_ended_in_the_middle(schedule):
    # Of the program no more than its note, so that it can be looked at before it is killed.
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1] + '/lib'); from pathlib import Path\n"
        "from clawfactory_core.snapshots.schedule import begin_run, write_run\n"
        "write_run(Path(sys.argv[1]), 'bot1', begin_run()); print('noted', flush=True); time.sleep(100)"
    )
    with subprocess.Popen(
        [sys.executable, "-B", "-c", code, str(schedule.root)], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None and run.stdout.readline() == "noted\n"
        assert describe_schedule(schedule.root, BOT)["state"] == "running"
        run.send_signal(signal.SIGKILL)
    assert (schedule.noted().state, schedule.noted().why) == ("failed", "it ended in the middle")
    assert schedule.run().returncode == 0
    assert schedule.noted().state == "verified"


def test_a_run_that_is_killed_within_the_snapshot(schedule):
    for number in range(2000):
        (schedule.state / f"{number}.md").write_text("x" * 1000)
    run = subprocess.Popen(schedule.command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    while read_run(schedule.root, BOT) is None:
        assert run.poll() is None
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    assert schedule.noted().state == "failed"
    assert schedule.run().returncode == 0


def test_names_that_a_bot_chose_do_not_reach_a_terminal(schedule):
    write_run(schedule.root, BOT, ScheduledRun("t", "t", problem="no \x1b[31m good\n" + "x" * 9999))
    problem = describe_schedule(schedule.root, BOT)["problem"]
    assert problem.startswith("no ?[31m good?x") and len(problem) == 500 and problem.isprintable()


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"began": 1}', "\udcff", '{"began": "x"'])
def test_a_note_that_cannot_be_read_is_a_failure_until_the_next_run(schedule, text):
    run_path(schedule.root, BOT).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_run(schedule.root, BOT)
    assert describe_schedule(schedule.root, BOT)["state"] == "failed"
    done = schedule.run()
    assert done.returncode == 0 and "cannot be read" in done.stderr
    assert schedule.noted().state == "verified"


def test_a_bot_that_is_not_deployed_gets_no_note(schedule):
    (schedule.root / "snapshots" / f"{BOT}.json").unlink()
    assert schedule.run().returncode == 1
    assert read_run(schedule.root, BOT) is None


def test_a_run_that_goes_on_is_this_process():
    assert (begin_run().pid, begin_run().state) == (os.getpid(), "running")
