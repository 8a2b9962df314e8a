"""``python -m tests.runner [--fast] [STAGE...]``: run the stages, later ones also after a failure, and sum up."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from clawfactory_cli.ansible import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_OK, REPOSITORY

from . import lint, stages
from .results import Count, Result, summary

STAGES: dict[str, Callable[[Path], list[Result]]] = {
    "lint": lambda _reports: lint.run(),
    "unit": stages.unit,
    "engine": stages.engine,
    # First what builds the images on this machine's engine, then what copies them into machines of its own.
    "e2e": stages.e2e,
    "molecule": stages.molecule,
}
FAST = ("lint", "unit")
NEED_ENGINE = ("e2e", "molecule")


def select(wanted: Sequence[str], fast: bool) -> list[str]:
    """The stages to run, in their order; what needs the container engine brings its preparation along."""
    names = set(wanted) or set(FAST if fast else STAGES)
    if names & set(NEED_ENGINE):
        names.add("engine")
    return [name for name in STAGES if name in names]


def run_stages(selected: Sequence[str], reports: Path) -> list[Result]:
    """Run the stages in turn; without an engine those that need one have failed."""
    results: list[Result] = []
    engine_failed = False
    for name in selected:
        print(f"\n== {name}", flush=True)
        if name in NEED_ENGINE and engine_failed:
            reason = f"{name}: not run, the container engine could not be prepared"
            print(reason, flush=True)
            results.append(Result(name, "-", Count(failed=1), failures=(reason,)))
            continue
        outcome = STAGES[name](reports)
        results += outcome
        if name == "engine":
            engine_failed = any(result.count.failed for result in outcome)
    return results


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for; 0 when at least one test ran and none failed."""
    parser = argparse.ArgumentParser(prog="clawfactory test", description="Runs the project's tests.")
    parser.add_argument(
        "stages", nargs="*", metavar="STAGE", help=f"of: {', '.join(STAGES)}; default: all, in this order"
    )
    parser.add_argument(
        "--fast", action="store_true", help=f"only {' and '.join(FAST)}, which need no container engine"
    )
    parsed = parser.parse_args(arguments)
    if unknown := [name for name in parsed.stages if name not in STAGES]:
        parser.error(f"unknown stage {', '.join(unknown)}; known: {', '.join(STAGES)}")
    if parsed.stages and parsed.fast:
        parser.error("name stages or give --fast, not both")
    signal.signal(signal.SIGTERM, _stop)
    selected = select(parsed.stages, parsed.fast)
    reports = REPOSITORY / "reports"
    # Of an earlier run: a report found later must be of this one.
    if reports.exists():
        shutil.rmtree(reports)
    reports.mkdir()
    try:
        results = run_stages(selected, reports)
    except KeyboardInterrupt:
        print("\ninterrupted", flush=True)
        return EXIT_INTERRUPTED
    print()
    print(summary(results, [name for name in STAGES if name not in selected]), flush=True)
    total = sum((result.count for result in results), Count())
    return EXIT_OK if total.passed and not total.failed else EXIT_ERROR


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
