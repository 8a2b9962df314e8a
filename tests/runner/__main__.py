"""``python -m tests.runner [--fast] [STAGE...]``: run the stages, later ones also after a failure, and sum up.

Stages that wait more than they work run beside others, so that all of them end sooner; what needs no engine fills the
time in which `broker` has the engine to itself.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

from clawfactory_cli.ansible import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_OK, REPOSITORY

from . import lint, process, stages
from .results import Count, Result, summary

STAGES: dict[str, Callable[[Path], list[Result]]] = {
    "engine": stages.engine,
    "lint": lambda _reports: lint.run(),
    "unit": stages.unit,
    "browser": stages.browser,
    "broker": stages.broker,
    "e2e": stages.e2e,
    "images": stages.images,
    "molecule": stages.molecule,
}
#: Each phase is lanes that run beside one another. The attacks of `broker` compare the whole engine before and after:
#: nothing else may use it meanwhile. The later ones work with the images that it has built. What needs no engine is not
#: beside them: on two processors real bots would get too slow for what waits for them.
PHASES = (
    (("engine",),),
    (("broker",), ("lint", "unit", "browser")),
    (("e2e",), ("molecule", "images")),
)
FAST = ("lint", "unit")
NEED_ENGINE = ("broker", "e2e", "images", "molecule")


def select(wanted: Sequence[str], fast: bool) -> list[str]:
    """The stages to run, in their order; what needs the container engine brings its preparation along."""
    names = set(wanted) or set(FAST if fast else STAGES)
    if names & set(NEED_ENGINE):
        names.add("engine")
    return [name for name in STAGES if name in names]


def run_stages(selected: Sequence[str], reports: Path) -> list[Result]:
    """Run the phases in turn, and the lanes of each beside one another; without an engine what needs one has failed."""
    results: list[Result] = []
    for phase in PHASES:
        lanes = [lane for lane in ([name for name in names if name in selected] for names in phase) if lane]
        without_engine = any(result.stage == "engine" and result.count.failed for result in results)
        with ThreadPoolExecutor(max_workers=max(1, len(lanes))) as pool:
            running = [pool.submit(_run_lane, lane, reports, without_engine, len(lanes) > 1) for lane in lanes]
            try:
                results += [result for future in running for result in future.result()]
            except BaseException:
                process.end_all()
                raise
    return results


def _run_lane(names: Sequence[str], reports: Path, without_engine: bool, labelled: bool) -> list[Result]:
    results: list[Result] = []
    for name in names:
        print(f"\n== {name}", flush=True)
        if name in NEED_ENGINE and without_engine:
            reason = f"{name}: not run, the container engine could not be prepared"
            print(reason, flush=True)
            results.append(Result(name, "-", Count(failed=1), failures=(reason,)))
            continue
        with process.labelled(name if labelled else ""):
            results += STAGES[name](reports)
    return results


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for; 0 when at least one test ran and none failed."""
    parser = argparse.ArgumentParser(prog="clawfactory test", description="Runs the project's tests.")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of: {', '.join(STAGES)}; default: all")
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
