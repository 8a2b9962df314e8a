"""The process that does a job, with work that behaves as its label says. Started by path: ``jobs_worker.py ROOT``."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "module_utils"))

from clawfactory_core.errors import Conflict
from clawfactory_core.jobs import child, kinds
from clawfactory_core.snapshots.progress import Progress


def work(work: kinds.Work, report: kinds.Report) -> dict[str, Any]:
    journal = work.root / "promotion" / work.bot / "journal.json"
    label = work.options.get("label", "")
    with (work.root / "worked").open("a") as log:
        log.write(f"{work.bot} {work.kind} {label}\n")
    if work.kind == "resume":
        if (work.root / "no-resume").exists():
            raise Conflict("the engine is away")
        journal.unlink(missing_ok=True)
        return {"outcome": "undone"}
    if label == "die":
        journal.write_text("{}")
        os._exit(3)
    if label == "garbage":
        os.write(next(fd for fd in range(3, 50) if _is_pipe(fd)), b"no JSON\n")
        os._exit(0)
    if label == "refuse":
        raise Conflict("as told")
    if label == "bug":
        raise KeyError("a bug")
    if label == "chatter":
        sys.stdout.write("a library speaks\n")
        sys.stdout.flush()
    if label == "wait":
        helper = subprocess.Popen(["sleep", "1000"])
        (work.root / f"pids-{work.bot}").write_text(f"{os.getpid()} {helper.pid}")
        report(Progress("full", 1, 2, 1.0, 1.0))
        while not (work.root / f"go-{work.bot}").exists():
            time.sleep(0.02)
        helper.kill()
    return {"label": label, "user": work.actor, "home": os.environ.get("HOME", ""), "pid": os.getpid()}


def _is_pipe(descriptor: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith("pipe:")
    except OSError:
        return False


if __name__ == "__main__":
    for kind in kinds.WORK:
        kinds.WORK[kind] = work
    sys.exit(child.serve_parent(Path(sys.argv[1])))
