"""What a piece of work takes: time, processor, memory of everything it starts."""

from __future__ import annotations

import os
import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Measured:
    """One command: wall and processor seconds, most memory of its process tree in MB, bytes it left."""

    wall: float
    cpu: float
    rss: float
    size: int = 0


def tree_rss_mb(root: int) -> float:
    """Resident memory of a process and all below it, MB; pages that they share are counted once each."""
    total, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        try:
            # Of these alone: to look at every process of the machine would take a good part of a processor.
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
            for thread in os.listdir(f"/proc/{process}/task"):
                waiting += [int(child) for child in Path(f"/proc/{process}/task/{thread}/children").read_text().split()]
        except OSError:
            continue
        line = next((line for line in rollup.splitlines() if line.startswith("Pss:")), "Pss: 0")
        total += int(line.split()[1])
    return total / 1024


def measure(run: Callable[[], object]) -> Measured:
    """Run something in a forked process, which everything it starts is below."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            run()
        except BaseException as error:  # noqa: BLE001 - the parent hears of it
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    peak, done = 0.0, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(0.1):
            peak = max(peak, tree_rss_mb(child))

    sampler = threading.Thread(target=sample)
    sampler.start()
    status = os.waitpid(child, 0)[1]
    wall = time.monotonic() - started
    done.set()
    sampler.join()
    if status != 0:
        raise SystemExit("the command that is measured failed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(wall, cpu, peak)


def alternate(runs: int, *measured: Callable[[], float]) -> list[float]:
    """Medians of each, run in turn so that all see the same machine."""
    samples: list[list[float]] = [[] for _ in measured]
    for _ in range(runs):
        for index, work in enumerate(measured):
            samples[index].append(work())
    return [statistics.median(times) for times in samples]
