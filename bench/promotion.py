#!/usr/bin/env python3
"""What a promotion costs until the gateway's restart is issued, against git alone, paired in one run.

A repository of 10,000 files and 1,000 commits is the remote. Each round changes some of its files there, and then

- ``promotion``: the jobs service is asked as the controller asks it for a merge that a webhook told of, writes the job
  down, and has its process fetch, check, prepare and exchange the tree, up to where the gateway would be restarted;
  against ``git fetch`` and ``git checkout`` in a clone.
- ``promotion-first``: the same where no earlier tree is there to begin with, as at a bot's very first promotion;
  against the same two commands.

Needs git and GitPython. No container is involved, and no snapshot is made.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "module_utils")]

BOT = "bench"
GOALS = {"promotion": 2.0}
#: Seconds between two promotions: the service has the process for the next one ready by then.
_PAUSE = 1.0
_ENVIRONMENT = {
    "PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "bench", "GIT_AUTHOR_EMAIL": "bench@localhost",
    "GIT_COMMITTER_NAME": "bench", "GIT_COMMITTER_EMAIL": "bench@localhost",
}  # fmt: skip


def git(directory: Path, *arguments: str, stdin: bytes = b"") -> str:
    """Run git; its output."""
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=directory, env=_ENVIRONMENT, input=stdin, capture_output=True, check=True)
    return done.stdout.decode().strip()


class Stopwatch:
    """In place of the gateway: writes down when its restart is issued."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def running(self) -> bool:
        """It does."""
        return True

    def restart(self) -> None:
        """Note the time."""
        self._file.write_text(str(time.time()))

    def recreate(self, entries: Iterable[Mapping[str, str]], *, start: bool) -> None:
        """Note the time."""
        self.restart()

    def ready(self, seconds: float) -> bool:
        """At once."""
        return True

    def last_words(self) -> str:
        """None."""
        return ""


class Scene:
    """A remote, a bot that follows it, and a clone that git alone keeps up to date."""

    def __init__(self, folder: Path, files: int, commits: int, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - data of a benchmark
        self.files = [f"workspace/skills/{number % 100:03}/{number:05}.md" for number in range(files)]
        self.remote, self.clone, self.root = folder / "remote.git", folder / "clone", folder / "root"
        self.remote.mkdir()
        git(self.remote, "init", "--quiet", "--bare", "--initial-branch", "main")
        self._import(commits)
        self.repositories = self.root / "bot_repos" / BOT
        for path in (
            self.repositories,
            self.root / "promotion" / BOT / "denied",
            self.root / "audit",
            self.root / "locks",
            self.root / "jobs",
            self.root / "run" / BOT / "jobs",
        ):
            path.mkdir(parents=True)
        entry = {"slot": 0, "gateway_port": 1, "controller_port": 2, "host_ports": []}
        (self.root / "allocations.json").write_text(json.dumps({"schema": 1, "bots": {BOT: entry}}))
        settings = {
            "schema": 1, "remote": {"url": str(self.remote), "branch": "main", "user": ""}, "ready_seconds": 10,
            "stop_seconds": 1, "snapshot": False, "keep_history": 1000, "limits": {},
        }  # fmt: skip
        (self.root / "promotion" / BOT / "settings.json").write_text(json.dumps(settings))
        for target in (self.repositories / "origin.git", self.clone):
            bare = ("--bare",) if target.suffix else ()
            git(folder, "clone", "--quiet", "--no-local", *bare, str(self.remote), str(target))
        from clawfactory_core.promotion import repository

        origin, approved = self.repositories / "origin.git", self.repositories / "approved"
        repository.checkout(origin, os.geteuid(), git(origin, "rev-parse", "main"), approved)

    def change(self, count: int) -> str:
        """Change some files in a commit at the remote; its name."""
        names = self.random.sample(self.files, count)
        pieces = [self._commit("main", "refs/heads/main^0"), *(self._file(name) for name in names)]
        git(self.remote, "fast-import", "--quiet", "--date-format=now", stdin="".join(pieces).encode())
        return git(self.remote, "rev-parse", "main")

    def by_git(self, commit: str) -> float:
        """Seconds of git alone."""
        began = time.time()
        git(self.clone, "fetch", "--quiet", "origin")
        git(self.clone, "checkout", "--quiet", "--detach", commit)
        return time.time() - began

    def by_us(self, commit: str, *, spare: bool) -> float:
        """Seconds from the request to the restart."""
        from clawfactory_core.jobs.client import JobsClient

        previous = self.repositories / "approved.previous"
        if not spare and previous.exists():
            shutil.rmtree(previous)
        client = JobsClient(self.root / "run" / BOT / "jobs" / "jobs.sock")
        began = time.time()
        asked = client.ask("promotion", actor="bench", source="webhook", sha=commit, delivery=commit[:8])
        done = list(client.follow(asked["job"]["id"]))[-1]
        if done["state"] != "done" or done["result"]["result"] != "promoted":
            raise SystemExit(f"the promotion ended as {done}")
        return float((self.root / "issued").read_text()) - began

    def _import(self, commits: int) -> None:
        per_commit = max(1, len(self.files) // commits)
        pieces = []
        for number in range(commits):
            pieces.append(self._commit("main", ""))
            first = number * per_commit
            last = len(self.files) if number == commits - 1 else first + per_commit
            pieces.extend(self._file(name) for name in self.files[first:last])
        git(self.remote, "fast-import", "--quiet", "--date-format=now", stdin="".join(pieces).encode())

    def _commit(self, branch: str, parent: str) -> str:
        start = f"from {parent}\n" if parent else ""
        return f"commit refs/heads/{branch}\ncommitter bench <bench@localhost> now\ndata 6\nchange\n{start}"

    def _file(self, name: str) -> str:
        text = "".join(f"{self.random.getrandbits(256):064x}\n" for _ in range(self.random.randrange(4, 40)))
        return f"M 100644 inline {name}\ndata {len(text)}\n{text}\n"


def have_one_user() -> None:
    """Let the bot and its controller be whoever runs the benchmark."""
    from clawfactory_core import allocation

    allocation._UIDS.update(dict.fromkeys(allocation._UIDS, os.geteuid()))


def work(root: Path) -> int:
    """Do one job as the process of the jobs service that this is."""
    have_one_user()
    from clawfactory_core.jobs.child import serve_parent
    from clawfactory_core.promotion import apply

    apply.gateway_of = lambda bot: Stopwatch(root / "issued")  # type: ignore[assignment,return-value]
    return serve_parent(root)


@contextmanager
def jobs_service(root: Path) -> Iterator[None]:
    """The jobs service of the machine, listening."""
    from clawfactory_core.jobs.child import Children
    from clawfactory_core.jobs.service import JobsService

    ending = threading.Event()
    children = Children((sys.executable, "-B", str(Path(__file__).resolve()), "--work", str(root)))
    thread = threading.Thread(target=JobsService(root, children, ending).run)
    thread.start()
    try:
        while not (root / "run" / BOT / "jobs" / "jobs.sock").exists():
            time.sleep(0.05)
        yield
    finally:
        ending.set()
        thread.join()


def measure(folder: Path, files: int, commits: int, rounds: int, changed: int) -> dict[str, float]:
    """Ratios, medians of all rounds."""
    have_one_user()
    scene = Scene(folder, files, commits, seed=5)
    ratios: dict[str, list[float]] = {"promotion": [], "promotion-first": []}
    with jobs_service(scene.root):
        for number in range(-1, rounds):  # the first warms up
            for name, spare in (("promotion-first", False), ("promotion", True)):
                commit = scene.change(changed)
                time.sleep(_PAUSE)
                alone = scene.by_git(commit)
                ours = scene.by_us(commit, spare=spare)
                print(f"{name}: {ours:.3f} s; git alone {alone:.3f} s", file=sys.stderr, flush=True)
                if number >= 0:
                    ratios[name].append(ours / alone)
    return {name: statistics.median(values) for name, values in ratios.items()}


def main() -> None:
    """Make the repository, measure, print the table."""
    if sys.argv[1:2] == ["--work"]:
        sys.exit(work(Path(sys.argv[2])))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 files, 100 commits, three rounds")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    parser.add_argument("--changed", type=int, default=50, help="files that each round changes")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="scratch space on a disk")  # noqa: S108
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="clawfactory-bench-", dir=options.folder))
    size = (1000, 100, 3) if options.quick else (10_000, 1000, 9)
    try:
        figures = measure(folder, *size, options.changed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(json.dumps({name: round(value, 4) for name, value in figures.items()}))
    for name, value in figures.items():
        goal = GOALS.get(name)
        print(f"ratio {name} {value:.4g}" + (f" goal <= {goal:.4g}" if goal else ""))


if __name__ == "__main__":
    main()
