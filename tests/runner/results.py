"""Counts of tests, read from what the tools leave behind, and their summary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
# A line of Molecule's closing report: "proxy > converge: Executed: Successful (note)".
_REPORT_LINE = re.compile(r"^(?P<scenario>\S+) (?:>|➜) (?P<step>\S+): Executed: (?P<state>.+?)(?: \(.*\))?$")
_REPORT_TITLE = "DETAILS"
_MESSAGE_CHARACTERS = 400
#: Property in JUnit files of a test that failed before it passed; its value is the message.
FAILED_FIRST = "failed first"


@dataclass(frozen=True)
class Count:
    """Numbers of tests by outcome."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


@dataclass(frozen=True)
class Result:
    """Outcome of one check, test session or scenario.

    :param seconds: how long it took.
    :param failures: names of what failed, for the list at the end.
    :param unstable: names of tests that failed and then passed when they were run once more.
    """

    stage: str
    name: str
    count: Count
    seconds: float = 0.0
    failures: tuple[str, ...] = field(default=())
    unstable: tuple[str, ...] = field(default=())


class Report(NamedTuple):
    """What a JUnit file of pytest tells; of each test its name and the beginning of the message of its failure."""

    tests: Count
    failures: tuple[str, ...]
    unstable: tuple[str, ...]


def single(stage: str, name: str, succeeded: bool, seconds: float = 0.0) -> Result:
    """The result of a check that passes or fails as a whole."""
    return Result(stage, name, Count(passed=int(succeeded), failed=int(not succeeded)), seconds)


def read_junit(file: Path) -> Report:
    """Read a JUnit file.

    :raises ElementTree.ParseError: when the file was cut off.
    """
    # A test has one element for each of its runs, of which only the last tells how it ended.
    runs: dict[tuple[str | None, str | None], list[ElementTree.Element]] = {}
    for case in ElementTree.parse(file).getroot().iter("testcase"):  # noqa: S314 - written by our own pytest
        runs.setdefault((case.get("classname"), case.get("name")), []).append(case)
    passed, skipped, failures, unstable = 0, 0, [], []
    for cases in runs.values():
        wrong = [found for case in cases for kind in ("failure", "error") if (found := case.find(kind)) is not None]
        before = cases[-1].find(f"properties/property[@name='{FAILED_FIRST}']")
        if wrong:
            failures.append(_told(cases[-1], wrong[0].get("message")))
        elif cases[-1].find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
            if before is not None:
                unstable.append(_told(cases[-1], before.get("value")))
    return Report(Count(passed, len(failures), skipped), tuple(failures), tuple(unstable))


def _told(case: ElementTree.Element, message: str | None) -> str:
    """A test by name, with what it said: the log before may be cut where somebody reads it; this comes at its end."""
    said = " ".join(str(message or "").split())[:_MESSAGE_CHARACTERS]
    return f"{case.get('classname')}::{case.get('name')}" + (f": {said}" if said else "")


def session_result(stage: str, name: str, exit_code: int, junit: Path, seconds: float) -> Result:
    """Result of a pytest session; one that died, or failed without naming a test, counts as a failure of its own."""
    try:
        count, failures, unstable = read_junit(junit)
    except (FileNotFoundError, ElementTree.ParseError):
        return Result(stage, name, Count(failed=1), seconds, (f"{name}: pytest left no report",))
    if exit_code != 0 and not count.failed:
        count += Count(failed=1)
        failures = (f"{name}: pytest ended with {exit_code}",)
    return Result(stage, name, count, seconds, failures, unstable)


def molecule_steps(output: Iterable[str]) -> dict[str, str]:
    """Steps that Molecule reports as reached, with their state in lower case, for example ``successful``."""
    lines = [_ESCAPES.sub("", line).strip() for line in output]
    titles = [number for number, line in enumerate(lines) if line == _REPORT_TITLE]
    if not titles:
        return {}
    steps: dict[str, str] = {}
    for line in lines[titles[-1] :]:
        if match := _REPORT_LINE.match(line):
            # `molecule test` cleans up and destroys twice, before and after: the worse of the two counts.
            step, state = match["step"], match["state"].lower()
            steps[step] = state if "failed" in state else steps.get(step, state)
    return steps


def scenario_result(name: str, exit_code: int, output: Iterable[str], junit: Path, seconds: float) -> Result:
    """Result of a Molecule scenario: each step that ran counts as one, and in place of `verify` each of its tests."""
    steps = molecule_steps(output)
    failures = [f"{name}: {step}" for step, state in steps.items() if "failed" in state]
    passed = sum(state == "successful" for state in steps.values())
    # Steps for which a scenario has no playbook ("missing") are no tests; those that were put off are.
    skipped = sum(state in ("skipped", "disabled") for state in steps.values())
    count = Count(passed, len(failures), skipped)
    verify = steps.get("verify")
    unstable: tuple[str, ...] = ()
    if junit.exists():
        tests, test_failures, unstable = read_junit(junit)
        if verify == "successful":
            count += Count(passed=-1) + tests
        elif verify is not None and tests.failed:
            failures.remove(f"{name}: verify")
            count += Count(failed=-1) + tests
        else:
            count += tests
        failures += test_failures
    elif verify == "successful":
        count += Count(failed=1)
        failures.append(f"{name}: verify left no report of its tests in {junit.name}")
    if exit_code != 0 and not count.failed:
        count += Count(failed=1)
        failures.append(f"{name}: molecule ended with {exit_code}")
    return Result("molecule", name, count, seconds, tuple(failures), unstable)


def summary(results: Sequence[Result], not_selected: Sequence[str]) -> str:
    """The closing table; its last line is the sum, in the form that CI reads."""
    width = max([len(result.name) for result in results], default=0)
    lines = [f"{'stage':<9} {'check':<{width}} {'passed':>7} {'failed':>7} {'skipped':>8} {'seconds':>8}"]
    for result in results:
        count = result.count
        lines.append(
            f"{result.stage:<9} {result.name:<{width}} {count.passed:>7} {count.failed:>7} {count.skipped:>8}"
            f" {result.seconds:>8.1f}"
        )
    failed = [result for result in results if result.count.failed]
    if failed:
        lines += ["", "failed:"]
        lines += [f"  {result.stage}: {name}" for result in failed for name in (result.failures or (result.name,))]
    if any(result.unstable for result in results):
        lines += ["", "passed only when run once more:"]
        lines += [f"  {result.stage}: {name}" for result in results for name in result.unstable]
    if not_selected:
        lines += ["", f"stages not asked for: {', '.join(not_selected)}"]
    return "\n".join([*lines, "", str(sum((result.count for result in results), Count()))])
