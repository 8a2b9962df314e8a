"""Counting and ordering of the test runner."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from clawfactory_cli.ansible import REPOSITORY
from tests.runner import __main__ as runner
from tests.runner import lint, process, stages
from tests.runner.results import Count, Result, molecule_steps, read_junit, scenario_result, session_result, summary

JUNIT = """\
<testsuites><testsuite>
<testcase classname="a" name="passes"/>
<testcase classname="a" name="passes_too"><system-out>text</system-out></testcase>
<testcase classname="a" name="fails"><failure message="no"/></testcase>
<testcase classname="a" name="breaks"><error message="no fixture"/></testcase>
<testcase classname="a" name="waits"><skipped message="why"/></testcase>
</testsuite></testsuites>
"""
GREEN = '<testsuite><testcase classname="a" name="one"/><testcase classname="a" name="two"/></testsuite>'
REPORT = """\
PLAY [Converge] ****
stack > converge: Executed: Failed
DETAILS
stack > dependency: Executed: Missing
stack > cleanup: Executed: Missing playbook (Remove from test_sequence to suppress)
\x1b[36mstack\x1b[0m ➜ \x1b[32mconverge\x1b[0m: Executed: Successful
stack > idempotence: Executed: Successful
stack > side_effect: Executed: Disabled
stack > verify: Executed: {verify}
stack > destroy: Executed: Successful

SCENARIO RECAP
stack : actions=5
"""


@pytest.fixture
def junit(tmp_path):
    def write(text):
        file = tmp_path / "report.xml"
        file.write_text(text)
        return file

    return write


def report(verify="Successful"):
    return REPORT.format(verify=verify).splitlines(keepends=True)


def test_junit_counts_each_outcome(junit):
    assert read_junit(junit(JUNIT)) == (Count(2, 2, 1), ("a::fails: no", "a::breaks: no fixture"), ())


def test_a_test_that_passed_the_second_time_only_is_named(tmp_path):
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_runtest_makereport\n")
    (tmp_path / "test_it.py").write_text(
        "from pathlib import Path\n"
        "def test_late():\n"
        "    seen = Path(__file__).with_name('seen')\n"
        "    there = seen.exists()\n"
        "    seen.touch()\n"
        "    assert there, 'was late'\n"
        "def test_wrong():\n"
        "    raise OSError('is wrong')\n"
        "def test_right():\n"
        "    pass\n"
    )
    found = stages._pytest("unit", str(tmp_path), tmp_path, 60.0, [], "-c", str(REPOSITORY / "pyproject.toml"))
    assert found.count == Count(passed=2, failed=1)
    assert [name.split("::")[1] for name in found.failures] == ["test_wrong: OSError: is wrong"]
    assert [name.split("::")[1] for name in found.unstable] == ["test_late: AssertionError: was late assert False"]
    assert "passed only when run once more:\n  unit: " in summary([found], [])


def test_session_without_report_failed(tmp_path):
    assert session_result("unit", "tests/unit", 0, tmp_path / "none.xml", 1.0).count == Count(failed=1)


def test_session_with_cut_off_report_failed(junit):
    assert session_result("unit", "tests/unit", 0, junit(JUNIT[:50]), 1.0).count == Count(failed=1)


def test_session_that_ended_badly_failed_though_its_tests_passed(junit):
    result = session_result("unit", "tests/unit", 3, junit(GREEN), 1.0)
    assert result.count == Count(passed=2, failed=1)
    assert "ended with 3" in result.failures[0]


def test_session_that_collected_nothing_failed(junit):
    assert session_result("e2e", "tests/e2e", 5, junit("<testsuites/>"), 1.0).count == Count(failed=1)


def test_molecule_steps_are_read_from_the_closing_report_only():
    assert molecule_steps(report()) == {
        "dependency": "missing",
        "cleanup": "missing playbook",
        "converge": "successful",
        "idempotence": "successful",
        "side_effect": "disabled",
        "verify": "successful",
        "destroy": "successful",
    }


def test_scenario_counts_steps_and_the_tests_of_verify(junit):
    result = scenario_result("stack", 0, report(), junit(GREEN), 1.0)
    assert result.count == Count(passed=3 + 2, failed=0, skipped=1)


def test_scenario_with_failing_tests_counts_them_and_not_verify_again(junit):
    result = scenario_result("stack", 1, report("Failed (Verifier tests failed)"), junit(JUNIT), 1.0)
    assert result.count == Count(passed=3 + 2, failed=2, skipped=1 + 1)
    assert result.failures == ("a::fails: no", "a::breaks: no fixture")


def test_scenario_whose_verify_failed_without_a_failing_test_failed(junit):
    result = scenario_result("stack", 1, report("Failed"), junit(GREEN), 1.0)
    assert result.count == Count(passed=3 + 2, failed=1, skipped=1)
    assert result.failures == ("stack: verify",)


def test_scenario_without_a_report_of_its_tests_failed(tmp_path):
    result = scenario_result("stack", 0, report(), tmp_path / "none.xml", 1.0)
    assert result.count.failed == 1


def test_scenario_that_died_before_its_report_failed(tmp_path):
    result = scenario_result("stack", 1, ["Traceback\n"], tmp_path / "none.xml", 1.0)
    assert (result.count, result.failures) == (Count(failed=1), ("stack: molecule ended with 1",))


def test_summary_ends_with_the_line_that_ci_reads():
    results = [
        Result("lint", "ruff check", Count(passed=1), 0.5),
        Result("unit", "tests/unit", Count(10, 1, 2), 3.0, ("a::fails",)),
    ]
    lines = summary(results, ["e2e"]).splitlines()
    assert lines[-1] == "11 passed, 1 failed, 2 skipped"
    assert "  unit: a::fails" in lines
    assert "stages not asked for: e2e" in lines


@pytest.mark.parametrize(
    ("wanted", "fast", "selected"),
    [
        ([], False, ["engine", "lint", "unit", "browser", "broker", "e2e", "images", "molecule"]),
        ([], True, ["lint", "unit"]),
        (["e2e", "lint"], False, ["engine", "lint", "e2e"]),
        (["unit"], False, ["unit"]),
    ],
)
def test_stages_run_in_order_and_with_their_engine(wanted, fast, selected):
    assert runner.select(wanted, fast) == selected


@pytest.fixture
def staged(monkeypatch, tmp_path):
    """Replaces the stages: each records that it ran and has the outcome given, a passed test by default."""

    def stage(outcomes):
        ran = []

        def make(name):
            def run(_reports):
                ran.append(name)
                return [Result(name, name, outcomes.get(name, Count(passed=1)))]

            return run

        monkeypatch.setattr(runner, "STAGES", {name: make(name) for name in runner.STAGES})
        monkeypatch.setattr(runner, "REPOSITORY", tmp_path)
        return ran

    return stage


def test_later_stages_run_after_a_failure(staged, capsys):
    ran = staged({"lint": Count(1, 2, 0)})
    assert runner.main([]) == 1
    assert sorted(ran) == sorted(runner.STAGES)
    assert ran[0] == "engine"
    assert ran.index("broker") < min(ran.index(name) for name in ("e2e", "images", "molecule"))
    assert capsys.readouterr().out.endswith("\n8 passed, 2 failed, 0 skipped\n")


def test_without_an_engine_its_stages_fail_and_do_not_run(staged, capsys):
    ran = staged({"engine": Count(failed=1)})
    assert runner.main([]) == 1
    assert ran == ["engine", "lint", "unit", "browser"]
    assert capsys.readouterr().out.endswith("\n3 passed, 5 failed, 0 skipped\n")


def test_every_stage_is_in_one_lane():
    assert sorted(name for phase in runner.PHASES for lane in phase for name in lane) == sorted(runner.STAGES)


def test_nothing_is_beside_the_attacks_that_uses_the_engine():
    (phase,) = [phase for phase in runner.PHASES if ("broker",) in phase]
    assert not {name for lane in phase for name in lane} & set(runner.NEED_ENGINE) - {"broker"}


def test_lines_of_commands_that_run_beside_others_are_labelled(capfd):
    with process.labelled("unit"):
        process.stream([sys.executable, "-c", "print('one'); print('two')"], limit=60)
    process.stream([sys.executable, "-c", "print('three')"], limit=60)
    lines = capfd.readouterr().out.splitlines()
    assert lines[1:3] == ["unit | one", "unit | two"]
    assert lines[-1] == "three"


def test_commands_of_other_threads_are_ended_on_an_interrupt(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    monkeypatch.setattr(process, "_ENDING", threading.Event())
    finished = []
    thread = threading.Thread(target=lambda: finished.append(process.stream(["sleep", "60"], limit=120)))
    thread.start()
    deadline = time.monotonic() + 10
    while not process._RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.end_all()
    thread.join(20)
    assert [each.exit_code for each in finished] == [-15]
    assert process.stream(["true"], limit=60).exit_code != 0, "nothing is started after that"


def test_all_passed_is_success_and_nothing_passed_is_not(staged):
    staged({})
    assert runner.main([]) == 0
    staged({"unit": Count(skipped=3)})
    assert runner.main(["unit"]) == 1


@pytest.mark.parametrize("arguments", [["nonsense"], ["--fast", "unit"]])
def test_wrong_usage_runs_nothing(staged, arguments):
    ran = staged({})
    with pytest.raises(SystemExit) as ended:
        runner.main(arguments)
    assert (ended.value.code, ran) == (2, [])


def test_reports_of_an_earlier_run_are_gone(staged, tmp_path):
    staged({})
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/unit.xml").touch()
    runner.main(["unit"])
    assert list((tmp_path / "reports").iterdir()) == []


def test_command_output_is_shown_and_collected(capfd):
    finished = process.stream([sys.executable, "-c", "print('one'); exit(3)"], limit=60, collect=True)
    assert (finished.exit_code, finished.lines) == (3, ("one\n",))
    assert "one\n" in capfd.readouterr().out


def alive(pid):
    """Whether a process runs; one that ended and that nobody has collected yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_command_that_hangs_is_ended_with_children_that_ignore_it(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.stdin", None)
    pid = tmp_path / "pid"
    script = f"(trap '' TERM; exec sleep 60) & echo $! >{pid}; wait"
    finished = process.stream(["sh", "-c", script], limit=1)
    assert finished.exit_code == 124
    assert finished.seconds < 30
    deadline = time.monotonic() + 10  # a killed process takes a moment to go
    while alive(pid.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_users_run_what_needs_root_by_sudo_with_the_variables_kept(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    prefix = stages.as_root({"CLAWFACTORY_REPORT_DIR": "/r"})
    assert prefix[:4] == ["sudo", "-H", "env", "CLAWFACTORY_REPORT_DIR=/r"]
    assert any(word.startswith(f"PATH={process.PROGRAMS}:") for word in prefix)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert stages.as_root({"CLAWFACTORY_REPORT_DIR": "/r"}) == []


def test_shell_scripts_are_found_by_their_first_line(tmp_path):
    for name, text in (
        ("start", "#!/bin/sh\n"),
        ("deep/run.sh", "#!/usr/bin/env bash\n"),
        ("main.py", "#!/usr/bin/env python3\n"),
        ("run.sh.j2", "#!/bin/sh\n"),
        (".venv/bin/activate", "#!/bin/sh\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert lint.shell_scripts(tmp_path) == ["deep/run.sh", "start"]


def test_the_projects_own_scripts_are_checked():
    assert {".ci/run", "clawfactory", "requirements/compile"} <= set(lint.shell_scripts(process.REPOSITORY))
