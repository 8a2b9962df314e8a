"""Snapshots without ClawFactory: age, zstd and tar, and the script in each archive, against our own restore."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clawfactory_core.adapters.age import make_key_pair
from clawfactory_core.snapshots.chains import chain_of, list_snapshots
from clawfactory_core.snapshots.create import SnapshotRequest, apply_snapshot
from clawfactory_core.snapshots.restore import RestoreRequest, recover, stage_restore
from tests.unit.core.snapshots.archive_maker import Directory, File, Link, Maker, read_tree

pytestmark = pytest.mark.integration
BOT = 20001


class Bench:
    """A bot's state, its snapshots, and a key file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "bot_repos" / "bot1" / "state"
        self.directory = root / "snapshots" / "bot1"
        for path in (self.state, self.directory, root / "locks"):
            path.mkdir(parents=True)
        os.chown(self.state, BOT, BOT)
        self.identity, self.recipient = make_key_pair()
        self.key = root / "snapshot.key"
        self.key.write_text(f"{self.identity}\n")

    def create(self) -> None:
        request = SnapshotRequest(
            root=self.root,
            bot="bot1",
            state=self.state,
            directory=self.directory,
            owner=0,
            recipients=(self.recipient,),
        )
        apply_snapshot(request)

    def ours(self, name: str = "latest") -> dict[bytes, tuple[object, ...]]:
        request = RestoreRequest(self.root, "bot1", self.state, self.directory, name, (self.identity,), BOT, BOT)
        found = read_tree(stage_restore(request).path)
        recover(self.state)
        return found

    def archives(self, name: str = "") -> list[str]:
        records = list_snapshots(self.directory)
        record = next((one for one in records if one.id == name), records[0])
        return [str(self.directory / one.file_name) for one in chain_of(records, record)]

    def plain(self, target: Path) -> dict[bytes, tuple[object, ...]]:
        """The command of docs/snapshot-format.md, for a full snapshot."""
        command = f"mkdir {target} && age -d -i {self.key} {self.archives()[0]} | zstd -dc | tar -x -p -C {target}"
        subprocess.run(["sh", "-c", f"{command} && rm -r {target}/.clawfactory"], check=True)
        return read_tree(target)

    def script(self, target: Path, shell: str = "sh") -> subprocess.CompletedProcess[str]:
        archives = self.archives()
        script = self.root / "restore.sh"
        command = f"age -d -i {self.key} {archives[-1]} | zstd -dc | tar -x -O .clawfactory/restore.sh > {script}"
        subprocess.run(["sh", "-c", command], check=True)
        return self.run_script(script, target, archives, shell)

    def run_script(
        self, script: Path, target: Path, archives: list[str], shell: str = "sh"
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [shell, str(script), "-i", str(self.key), str(target), *archives],
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


def put(path: Path, data: bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    own(path.parent)
    own(path)


def own(path: Path) -> None:
    os.chown(path, BOT, BOT, follow_symlinks=False)


def first_state(state: Path) -> None:
    random = Random(7)  # noqa: S311  (any bytes will do, the same in each run)
    put(state / "openclaw.json", b"{}", 0o600)
    put(state / "memory" / "large.bin", random.randbytes(2_000_003), 0o640)
    put(state / "memory" / "other.bin", random.randbytes(500_000))
    put(state / "a space" / "line\nbreak\n", b"odd")
    put(state / os.fsdecode(b"\xff\xfe") / "x", b"no UTF-8")
    put(state / "-rf" / "*", b"stars")
    put(state / ("long" * 50) / ("name" * 50), b"long")
    put(state / "goes" / "deep" / "er", b"gone soon")
    put(state / "becomes-a-directory", b"file")
    put(state / "becomes-a-file" / "in it", b"directory")
    put(state / "readonly", b"r", 0o400)
    (state / "link").symlink_to("/etc/passwd")
    (state / "becomes-a-link").mkdir(mode=0o750)
    for name in ("link", "becomes-a-link", "goes"):
        own(state / name)
    os.utime(state / "-rf", ns=(1, -1_500_000_000))
    os.utime(state / "openclaw.json", ns=(1, 1_234_567_890_123_456_789))
    os.truncate(state / "memory" / "other.bin", 900_000)


def second_state(state: Path) -> None:
    with open(state / "memory" / "large.bin", "r+b") as file:
        for place in (0, 100_000, 1_999_999):
            file.seek(place)
            file.write(b"changed")
    shutil.rmtree(state / "goes")
    (state / "becomes-a-directory").unlink()
    put(state / "becomes-a-directory" / "in", b"now")
    shutil.rmtree(state / "becomes-a-file")
    put(state / "becomes-a-file", b"now")
    (state / "becomes-a-link").rmdir()
    (state / "becomes-a-link").symlink_to("loop")
    (state / "link").unlink()
    put(state / "link", b"a file now", 0o755)
    os.chmod(state / "readonly", 0o644)
    (state / "a space" / "line\nbreak\n").unlink()
    own(state / "becomes-a-link")


def third_state(state: Path) -> None:
    os.truncate(state / "memory" / "large.bin", 1_000_001)
    with open(state / "memory" / "other.bin", "ab") as file:
        file.write(b"grown" * 100_000)
    put(state / "goes" / "back", b"again")
    os.utime(state / "memory", ns=(5, 5_000_000_001))
    (state / "becomes-a-link").unlink()
    unnoticed(state / "a space", lambda: put(state / "a space" / "new", b"new"))
    unnoticed(state / "-rf", (state / "-rf" / "*").unlink)


def unnoticed(directory: Path, change: Callable[[], None]) -> None:
    """Change what is in a directory, whose own time stays what it was."""
    before = os.stat(directory).st_mtime_ns
    change()
    os.utime(directory, ns=(before, before))


def test_a_full_snapshot_opens_with_the_plain_commands(bench, tmp_path):
    first_state(bench.state)
    live = read_tree(bench.state)
    bench.create()
    assert bench.ours() == live
    assert bench.plain(tmp_path / "plain") == live


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_chain_opens_with_the_script_in_it(bench, tmp_path, shell):
    for number, change in enumerate((first_state, second_state, third_state)):
        change(bench.state)
        live = read_tree(bench.state)
        bench.create()
        assert len(bench.archives()) == number + 1
        done = bench.script(tmp_path / f"script{number}", shell)
        assert (done.returncode, done.stderr) == (0, "")
        assert bench.ours() == live
        assert read_tree(tmp_path / f"script{number}") == live


Bend = Callable[[Bench, list[str], Path], list[str]]


def _not_empty(bench: Bench, archives: list[str], target: Path) -> list[str]:
    target.mkdir()
    (target / ".hidden").write_text("mine")
    return archives


def _damaged(bench: Bench, archives: list[str], target: Path) -> list[str]:
    path = Path(archives[1])
    path.write_bytes(path.read_bytes()[:-1])
    return archives


def _another_key(bench: Bench, archives: list[str], target: Path) -> list[str]:
    bench.key.write_text(f"{make_key_pair()[0]}\n")
    return archives


@pytest.mark.parametrize(
    ("bend", "message"),
    [
        (_not_empty, "is not empty"),
        (lambda bench, archives, target: [archives[0], archives[2]], "does not build upon"),
        (lambda bench, archives, target: archives[1:], "is not a full snapshot"),
        (lambda bench, archives, target: [archives[0], archives[0]], "cannot unpack"),
        (_damaged, "cannot"),
        (_another_key, "cannot"),
        (lambda bench, archives, target: [], "usage"),
    ],
)
def test_the_script_refuses(bench, tmp_path, bend, message):
    for change in (first_state, second_state, third_state):
        change(bench.state)
        bench.create()
    assert bench.script(tmp_path / "good").returncode == 0
    target = tmp_path / "target"
    archives = bend(bench, bench.archives(), target)
    done = bench.run_script(tmp_path / "restore.sh", target, archives)
    assert done.returncode != 0
    assert message in done.stderr


NAMES = st.binary(min_size=1, max_size=5).filter(lambda name: not {0, 47} & set(name) and name not in (b".", b".."))
MODES = st.integers(0, 0o777)
TIMES = st.integers(-(10**17), 4 * 10**18)
LARGE = st.tuples(st.integers(262_100, 300_000), st.binary(min_size=1, max_size=2)).map(lambda x: (x[1] * x[0])[: x[0]])
FILES = st.builds(File, st.one_of(st.binary(max_size=50), LARGE), MODES, TIMES)
LINKS = st.builds(Link, st.binary(min_size=1, max_size=20).map(lambda raw: raw.replace(b"\0", b"_")), mtime_ns=TIMES)
NODES = st.recursive(
    st.one_of(FILES, LINKS),
    lambda inner: st.tuples(MODES, TIMES, st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)


def flatten(nodes: dict[bytes, object], prefix: bytes = b"") -> dict[bytes, object]:
    found: dict[bytes, object] = {}
    for name, node in nodes.items():
        found[prefix + name] = Directory(node[0], node[1]) if isinstance(node, tuple) else node
        if isinstance(node, tuple):
            found.update(flatten(node[2], prefix + name + b"/"))
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(states=st.lists(st.dictionaries(NAMES, NODES, max_size=4).map(flatten), min_size=1, max_size=3))
def test_any_chain_opens_with_the_script(tmp_path_factory, states):
    from clawfactory_core.snapshots.script import SCRIPT

    root = tmp_path_factory.mktemp("any")
    bench = Bench(root)
    maker = Maker(bench.directory)
    bench.identity = maker.identity
    bench.key.write_text(f"{maker.identity}\n")
    record = maker.write(maker.full(states[0]))
    for before, after in pairwise(states):
        record = maker.write(maker.inc(record, before, after))
    (root / "restore.sh").write_bytes(SCRIPT)
    done = bench.run_script(root / "restore.sh", root / "script", bench.archives(record.id))
    assert (done.returncode, done.stderr) == (0, "")
    assert read_tree(root / "script") == bench.ours(record.id)
