#!/usr/bin/env python3
"""What snapshots cost, against tar with age, tar with zstd and age, restic and borg, paired in one run.

Each tool takes its turn in each run, with the state in memory; a ratio is the median of the ratios of the runs. On a
machine that has other work, ``--least`` divides the least of ours by the least of the other instead: what disturbs can
only add.

- ``full``, ``second``: wall time and bytes of the first snapshot, and of the one after a day's changes.
- ``full-cpu``, ``second-cpu``, ``restore-full-cpu``: processor time, without a goal: that of wall time has both.
- ``restore``, ``verify``: of a full snapshot, and of a chain of one with thirty deltas.
- ``month``: bytes of 31 daily snapshots (64 MB at the first day).
- ``rss``: most memory of all processes together.
- ``pause``: what a writer of the SQLite database, and an asyncio loop in the process that asks, see of a snapshot, and
  what the writer sees of tar and age, which take no lock: the disk is the same for both.

Give it a file system with a journal (``--folder``): ext4 without one looks past every inode that was deleted in the
last minutes before it makes a file, so that whoever comes after a deletion of thousands pays for it.

Needs root and the programs age, zstd and tar; restic and borg are left out where they are not installed
(apt-get install age zstd restic borgbackup).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "module_utils"), str(ROOT / "bench")]

# Found by the paths above, so they come after them.
from make_state import make, mutate  # noqa: E402 - found by the path above
from measuring import Measured, measure  # noqa: E402 - found by the path above

from clawfactory_core.adapters.age import make_key_pair  # noqa: E402 - found by the path above
from clawfactory_core.snapshots import chains, restore  # noqa: E402 - found by the path above
from clawfactory_core.snapshots.create import Limits, SnapshotRequest, apply_snapshot  # noqa: E402 - found by the path above
from clawfactory_core.snapshots.verify import verify_snapshot  # noqa: E402 - found by the path above

PROGRAMS = ("age", "zstd", "tar")
OPTIONAL = ("restic", "borg")
BOT = "bench"
DAYS = 30
#: As in rules.py, for the peers: the same files for all.
LEFT_OUT = ("installed", "node_modules", ".git")
RESTORES = {"tar|age": "age|tar", "tar|zstd|age": "age|zstd|tar"}
OURS = "clawfactory"
#: What they remember besides their repositories; borg takes a repository that is older than that for an attack.
CACHES = {"restic": "restic-cache", "borg": "borg-base"}
#: Each is a most.
GOALS = {
    "full-wall/tar|age": 1.5, "full-wall/tar|zstd|age": 1.15, "full-wall/restic": 0.65, "full-wall/borg": 0.45,
    "full-bytes/tar|age": 0.60, "full-bytes/tar|zstd|age": 1.01, "full-bytes/restic": 1.03, "full-bytes/borg": 1.0,
    "second-wall/tar|age": 0.45, "second-wall/tar|zstd|age": 0.33, "second-wall/restic": 0.35, "second-wall/borg": 0.18,
    "second-bytes/tar|age": 1 / 90, "second-bytes/tar|zstd|age": 1 / 50,
    "second-bytes/restic": 1 / 20, "second-bytes/borg": 1 / 35,
    "restore-full/age|tar": 1.7, "restore-full/age|zstd|tar": 1.2, "restore-full/restic": 1.3, "restore-full/borg": 0.8,
    "restore-chain/age|tar": 3.0, "restore-chain/age|zstd|tar": 2.0,
    "month-bytes/tar|age": 1 / 35, "month-bytes/tar|zstd|age": 1 / 17,
    "month-bytes/restic": 1 / 9, "month-bytes/borg": 1 / 13,
    "rss-mb": 128.0, "rss-mb@4096": 192.0, "rss/restic": 1.0, "pause-writer-ms": 100.0, "pause-asyncio-ms": 100.0,
}  # fmt: skip
#: Better than asked for.
STRETCH = {"second-wall/tar|age": 0.25}


@dataclass
class Bench:
    """Where everything lies, and what was measured.

    :param folder: scratch directory on the file system to measure.
    :param runs: of each measurement; medians count.
    :param least: the least of each counts instead.
    """

    folder: Path
    runs: int
    least: bool = False
    figures: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        identity, self.recipient = make_key_pair()
        self.identity = identity
        self.key = self.folder / "key"
        self.key.write_text(f"{identity}\n")
        self.key.chmod(0o600)
        self.environment = {
            **os.environ, "RESTIC_PASSWORD": "bench", "BORG_PASSPHRASE": "bench",
            "RESTIC_CACHE_DIR": str(self.folder / CACHES["restic"]), "BORG_BASE_DIR": str(self.folder / CACHES["borg"]),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }  # fmt: skip

    def note(self, text: str) -> None:
        """A line on stderr."""
        print(text, file=sys.stderr, flush=True)


def shell(bench: Bench, command: str) -> None:
    """Run a pipeline, and write what it wrote to the disk."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{command}; sync -f {bench.folder}"],
        env=bench.environment, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{command}\n{done.stderr[-2000:]}")


def size_of(path: Path) -> int:
    """Bytes of all files below a path."""
    return sum(found.stat().st_size for found in path.rglob("*") if found.is_file() and not found.is_symlink())


#: Of each tool, in the order of the runs.
Samples = dict[str, list[Measured]]


class Ours:
    """Snapshots in a root of their own.

    :param state: what is archived.
    """

    name = OURS

    def __init__(self, bench: Bench, state: Path, name: str) -> None:
        self.bench = bench
        self.state = state
        self.root = bench.folder / name
        self.directory = self.root / "snapshots" / BOT
        self.reset()

    def reset(self) -> None:
        """No snapshots yet."""
        fresh(self.root / "secrets" / BOT)
        fresh(self.directory)

    def request(self, kind: str = "auto") -> SnapshotRequest:
        """What to make."""
        return SnapshotRequest(
            root=self.root, bot=BOT, state=self.state, directory=self.directory, owner=os.getuid(),
            recipients=(self.bench.recipient,), kind=kind, limits=Limits(), max_chain=DAYS + 2, max_delta_ratio=9.0,
        )  # fmt: skip

    def create(self, kind: str = "auto") -> None:
        """One snapshot."""
        apply_snapshot(self.request(kind))

    def restore(self) -> None:
        """Stage the newest, as a restore does."""
        restore.stage_restore(
            restore.RestoreRequest(
                root=self.root, bot=BOT, state=self.root / "live" / "state", directory=self.directory, name="latest",
                identities=(self.bench.identity,), uid=os.getuid(), gid=os.getgid(),
            )
        )  # fmt: skip
        subprocess.run(["sync", "-f", str(self.root)], check=True)

    def verify(self) -> None:
        """Verify the newest by content."""
        records = chains.list_snapshots(self.directory)
        report = verify_snapshot(
            self.directory, records[0], (self.bench.identity,), content=True, staging=self.root / "live"
        )
        if not report.ok:
            raise SystemExit(report.problem)

    def size(self) -> int:
        """Bytes of all archives."""
        return sum(path.stat().st_size for path in self.directory.glob("*.age"))


def peers(bench: Bench, state: Path) -> dict[str, dict[str, str]]:
    """Commands of the others; ``{n}`` is the number of a run, ``{to}`` where a restore goes."""
    out = bench.folder / "peers"
    exclude = " ".join(f"--exclude={name}" for name in LEFT_OUT)
    patterns = " ".join(f"-e 'sh:**/{name}'" for name in LEFT_OUT)
    tar = f"tar -C {state} {exclude} -cf - ."
    age = f"age -r {bench.recipient}"
    restic, borg = out / "restic", out / "borg"
    found = {
        "tar|age": {
            "create": f"{tar} | {age} > {out}/tar.{{n}}.age",
            "restore": f"age -d -i {bench.key} {out}/tar.{{n}}.age | tar -C {{to}} -xpf -",
        },
        "tar|zstd|age": {
            "create": f"{tar} | zstd -q -T0 -1 | {age} > {out}/zstd.{{n}}.age",
            "restore": f"age -d -i {bench.key} {out}/zstd.{{n}}.age | zstd -qd | tar -C {{to}} -xpf -",
        },
        "restic": {
            "init": f"rm -rf {restic}; restic -q -r {restic} init",
            "create": f"cd {state}; restic -q -r {restic} backup {exclude} .",
            "restore": f"restic -q -r {restic} restore latest --target {{to}}",
            "size": str(restic),
        },
        "borg": {
            "init": f"rm -rf {borg}; borg init -e repokey-blake2 {borg}",
            "create": f"cd {state}; borg create -C zstd,1 {patterns} {borg}::{{n}} .",
            "restore": f"cd {{to}}; borg extract {borg}::{{n}}",
            "size": str(borg),
        },
    }
    return {name: commands for name, commands in found.items() if name not in OPTIONAL or shutil.which(name)}


def fresh(path: Path) -> Path:
    """An empty directory in the place of whatever was there."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def copy_tree(source: Path, target: Path) -> None:
    """A copy with hard links where nothing is written to, on the same file system."""
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def in_memory(state: Path) -> None:
    """Read everything: borg tells the kernel to forget what it has read, and the next tool would wait for the disk."""
    subprocess.run(["bash", "-c", f"tar -C {state} -cf - . | cat > /dev/null"], check=True)


def create_runs(bench: Bench, ours: Ours, others: dict[str, dict[str, str]], day: int) -> Samples:
    """Each tool in turn, ``bench.runs`` times; before each, what it knows is as after the day before.

    :returns: by tool; ``size`` is what was added.
    """
    peer_folder = bench.folder / "peers"
    kept = {ours.name: ours.root, **{name: Path(other["size"]) for name, other in others.items() if "size" in other}}
    known = {name: [path, *([bench.folder / CACHES[name]] if name in CACHES else [])] for name, path in kept.items()}
    if day:
        for name, paths in known.items():
            for number, path in enumerate(paths):
                copy_tree(path, bench.folder / f"kept-{name}-{number}")
    samples: Samples = {name: [] for name in (ours.name, *others)}
    for run in range(bench.runs):
        for name in samples:
            if name in kept and day:
                for number, path in enumerate(known[name]):
                    copy_tree(bench.folder / f"kept-{name}-{number}", path)
            elif name == ours.name:
                ours.reset()
            elif "init" in others[name]:
                shell(bench, others[name]["init"])
            os.sync()
            in_memory(ours.state)
            before = size_of(kept[name]) if name in kept else 0
            if name == ours.name:
                before = ours.size()
                found = measure(ours.create)
                found.size = ours.size() - before
            else:
                command = others[name]["create"].replace("{n}", str(day))
                found = measure(partial(shell, bench, command))
                made = kept.get(name)
                suffix = "tar" if name == "tar|age" else "zstd"
                found.size = size_of(made) - before if made else (peer_folder / f"{suffix}.{day}.age").stat().st_size
            samples[name].append(found)
            bench.note(
                f"  run {run} {name}: {found.wall:.2f} s, {found.cpu:.2f} s of processors, {found.rss:.0f} MB,"
                f" {found.size / 1e6:.1f} MB written"
            )
    return samples


def restore_runs(bench: Bench, ours: Ours, others: dict[str, dict[str, str]], made: int | str) -> Samples:
    """Restores of what was made last, in turn."""
    samples: Samples = {name: [] for name in (ours.name, *others)}
    for run in range(bench.runs):
        for name in samples:
            os.sync()
            if name == ours.name:
                fresh(ours.root / "live" / "state")
                found = measure(ours.restore)
                shutil.rmtree(ours.root / "live")
            else:
                target = fresh(bench.folder / "restored")
                command = others[name]["restore"].replace("{n}", str(made)).replace("{to}", str(target))
                found = measure(partial(shell, bench, command))
                shutil.rmtree(target)
            samples[name].append(found)
            bench.note(f"  run {run} {name}: {found.wall:.2f} s, {found.cpu:.2f} s of processors")
    return samples


def ratio(bench: Bench, ours: Iterable[float], theirs: Iterable[float]) -> float:
    """One of many runs."""
    pairs = list(zip(ours, theirs, strict=True))
    if bench.least:
        return min(mine for mine, _ in pairs) / min(other for _, other in pairs)
    return statistics.median(mine / other for mine, other in pairs)


def ratios(bench: Bench, kind: str, found: Samples, value: Callable[[Measured], float]) -> None:
    """Ours by each of the others, run by run."""
    for name, measured in found.items():
        if name != OURS:
            other = RESTORES.get(name, name) if kind.startswith("restore") else name
            bench.figures[f"{kind}/{other}"] = ratio(bench, map(value, found[OURS]), map(value, measured))


def most_memory(samples: list[Measured]) -> float:
    """Median of the peaks."""
    return statistics.median(sample.rss for sample in samples)


def sizes(bench: Bench, size_mb: int) -> None:
    """First and second snapshot, restore and verify, of one size."""
    bench.note(f"making {size_mb} MB …")
    state = bench.folder / f"state-{size_mb}"
    make(state, size_mb)
    fresh(bench.folder / "peers")
    ours, others = Ours(bench, state, f"ours-{size_mb}"), peers(bench, state)
    bench.note("full snapshots …")
    full = create_runs(bench, ours, others, 0)
    ratios(bench, "full-wall", full, lambda found: found.wall)
    ratios(bench, "full-cpu", full, lambda found: found.cpu)
    ratios(bench, "full-bytes", full, lambda found: found.size)
    bench.note("restores …")
    restored = restore_runs(bench, ours, others, 0)
    ratios(bench, "restore-full", restored, lambda found: found.wall)
    ratios(bench, "restore-full-cpu", restored, lambda found: found.cpu)
    fresh(ours.root / "live" / "state")
    listing = f"age -d -i {bench.key} {bench.folder}/peers/zstd.0.age | zstd -qd | tar t"
    verified = [(measure(ours.verify), measure(lambda: shell(bench, listing))) for _ in range(bench.runs)]
    mine, theirs = zip(*verified, strict=True)
    bench.figures["verify/age|zstd|tar-t"] = ratio(bench, *([each.wall for each in one] for one in (mine, theirs)))
    mutate(state, size_mb, 1)
    bench.note("second snapshots …")
    second = create_runs(bench, ours, others, 1)
    ratios(bench, "second-wall", second, lambda found: found.wall)
    ratios(bench, "second-cpu", second, lambda found: found.cpu)
    ratios(bench, "second-bytes", second, lambda found: found.size)
    bench.figures["rss-mb"] = max(most_memory(full[OURS]), most_memory(second[OURS]))
    if "restic" in full:
        bench.figures["rss/restic"] = most_memory(full[OURS]) / most_memory(full["restic"])
    pauses(bench, ours, state, others)
    chain(bench, ours, state, others, size_mb)
    shutil.rmtree(state)
    shutil.rmtree(ours.root)


def chain(bench: Bench, ours: Ours, state: Path, others: dict[str, dict[str, str]], size_mb: int) -> None:
    """Restore of a full snapshot and thirty deltas; of the others only the last day's, for room."""
    bench.note(f"a chain of {DAYS + 1} …")
    ours.reset()
    ours.create()
    for day in range(2, DAYS + 2):
        mutate(state, size_mb, day)
        ours.create()
    fulls = {name: commands for name, commands in others.items() if name in RESTORES}
    for commands in fulls.values():
        shell(bench, commands["create"].replace("{n}", "chain"))
    ratios(bench, "restore-chain", restore_runs(bench, ours, fulls, "chain"), lambda found: found.wall)


def commit_forever(database: Path, started: Event, ending: Event, result: Path) -> None:
    """Forty transactions a second; the longest of them, in ms, goes to ``result``."""
    connection = sqlite3.connect(database, isolation_level=None, timeout=60)
    connection.execute("CREATE TABLE IF NOT EXISTS bench_writes(n INT)")
    longest = 0.0
    while not ending.is_set():
        before = time.monotonic()
        connection.execute("INSERT INTO bench_writes VALUES (1)")
        longest = max(longest, time.monotonic() - before)
        started.set()
        time.sleep(0.025)
    result.write_text(str(longest * 1000))


def longest_commit(bench: Bench, state: Path, work: Callable[[], object]) -> float:
    """Longest commit of a writer while something is done, ms."""
    started, ending = multiprocessing.Event(), multiprocessing.Event()
    result = bench.folder / "longest"
    database = state / "memory" / "main.sqlite"
    writer = multiprocessing.Process(target=commit_forever, args=(database, started, ending, result))
    writer.start()
    started.wait(30)
    try:
        work()
    finally:
        ending.set()
        writer.join()
    return float(result.read_text())


def pauses(bench: Bench, ours: Ours, state: Path, others: dict[str, dict[str, str]]) -> None:
    """Longest commit of a writer, and longest delay of an asyncio loop, during a full snapshot."""

    async def watch() -> float:
        process = multiprocessing.Process(target=ours.create, args=("full",))
        process.start()
        longest = 0.0
        while process.is_alive():
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before - 0.01)
        process.join()
        if process.exitcode:
            raise SystemExit("the snapshot beside a writer failed")
        return longest * 1000

    def snapshot() -> None:
        bench.figures["pause-asyncio-ms"] = asyncio.run(watch())

    os.sync()
    bench.figures["pause-writer-ms"] = longest_commit(bench, state, snapshot)
    os.sync()
    tar, _, rest = others["tar|age"]["create"].replace("{n}", "pause").partition(" | ")
    # It takes no lock at all: what a commit waits for beside it is the disk. Files that change meanwhile are its 1.
    command = f"{{ {tar} || [ $? = 1 ]; }} | {rest}"
    bench.figures["pause-writer-ms-of-tar|age"] = longest_commit(bench, state, lambda: shell(bench, command))


def month(bench: Bench, days: int) -> None:
    """Bytes of a snapshot a day."""
    bench.note(f"{days} days of 64 MB …")
    state = bench.folder / "month"
    make(state, 64)
    folder = fresh(bench.folder / "peers")
    ours, others = Ours(bench, state, "ours-month"), peers(bench, state)
    for commands in others.values():
        if "init" in commands:
            shell(bench, commands["init"])
    for day in range(days + 1):
        if day:
            mutate(state, 64, day)
        ours.create()
        for commands in others.values():
            shell(bench, commands["create"].replace("{n}", str(day)))
        bench.note(f"  day {day}: {ours.size() / 1e6:.1f} MB")
    totals = {
        "tar|age": sum(path.stat().st_size for path in folder.glob("tar.*.age")),
        "tar|zstd|age": sum(path.stat().st_size for path in folder.glob("zstd.*.age")),
        **{name: size_of(Path(commands["size"])) for name, commands in others.items() if "size" in commands},
    }
    for name, total in totals.items():
        bench.figures[f"month-bytes/{name}"] = ours.size() / total


def goal_of(name: str) -> float | None:
    """What a figure may be at most; of other sizes than 1 GB as of that."""
    return GOALS.get(name, GOALS.get(name.partition("@")[0]))


def table(figures: dict[str, float]) -> str:
    """The targets with ours beside them."""
    lines = [f"{'figure':<34} {'target':>9} {'ours':>9}"]
    for name, goal in GOALS.items():
        wanted = f"<={goal:.4g}"
        if name not in figures:
            peer = name.rpartition("/")[2]
            absent = peer in OPTIONAL and shutil.which(peer) is None
            lines.append(f"{name:<34} {wanted:>9} {'-':>9}  {'not installed' if absent else 'not measured'}")
            continue
        holds = "holds" if figures[name] <= goal else "MISSED"
        if name in STRETCH:
            holds += f", stretch <={STRETCH[name]:.4g} {'holds' if figures[name] <= STRETCH[name] else 'missed'}"
        lines.append(f"{name:<34} {wanted:>9} {figures[name]:>9.4g}  {holds}")
    return "\n".join(lines)


def main() -> None:
    """Make data, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="64 MB only, one run of each, five days")
    parser.add_argument("--large", action="store_true", help="4 GB too")
    parser.add_argument("--runs", type=int, default=3, help="of each tool; the ratios' medians count")
    parser.add_argument("--least", action="store_true", help="the least of all runs counts, not the ratios' median")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, without the table")
    scratch = Path("/var/tmp")  # noqa: S108 - /tmp may be in memory; a directory of an unguessable name is made there
    parser.add_argument("--folder", type=Path, default=scratch, help="scratch space on a disk")
    options = parser.parse_args()
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        raise SystemExit(f"run it as root, with {', '.join(missing) or 'all programs'} installed: see --help")
    for name in OPTIONAL:
        if shutil.which(name) is None:
            print(f"{name} is not installed, so nothing is compared with it", file=sys.stderr)
    folder = Path(tempfile.mkdtemp(prefix="clawfactory-bench-", dir=options.folder))
    runs = 1 if options.quick else options.runs
    figures: dict[str, float] = {}
    try:
        for size in (64,) if options.quick else (64, 1024, 4096) if options.large else (64, 1024):
            bench = Bench(folder, runs, options.least)
            sizes(bench, size)
            figures.update({name if size == 1024 or options.quick else f"{name}@{size}": value
                            for name, value in bench.figures.items()})  # fmt: skip
        bench = Bench(folder, runs, options.least)
        month(bench, 5 if options.quick else DAYS)
        figures.update(bench.figures)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(json.dumps({name: round(value, 4) for name, value in figures.items()}))
    else:
        print(table(figures))
        if options.quick:
            print("the targets are those of 1 GB and of 31 days; this was 64 MB and six")
    for name, value in figures.items():
        goal = goal_of(name)
        print(f"ratio {name} {value:.4g}" + (f" goal <= {goal:.4g}" if goal else ""))


if __name__ == "__main__":
    main()
