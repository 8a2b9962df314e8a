"""What the script in each archive restores, with age, zstd and tar alone, against what we restore."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clawfactory_core.snapshots.restore import stage_restore
from tests.unit.core.snapshots.archive_maker import read_tree
from tests.unit.core.snapshots.restore_machine import Machine
from tests.unit.core.snapshots.test_hostile_archives import by_hand
from tests.unit.core.snapshots.test_restore import TREES


def plain(top: Path) -> dict[bytes, tuple[object, ...]]:
    """Kind, permissions and content of all entries; we drop setuid, and give everything to the bot."""
    found = read_tree(top)
    return {path: (oct(int(str(each[0]), 8) & ~0o7000), each[-1]) for path, each in found.items()}


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(states=st.lists(TREES, min_size=1, max_size=3))
def test_any_chain_of_any_trees_is_the_same_by_hand(tmp_path_factory, states):
    machine = Machine(tmp_path_factory.mktemp("m"))
    records = [machine.maker.write(machine.maker.full(states[0]))]
    for before, after in pairwise(states):
        records.append(machine.maker.write(machine.maker.inc(records[-1], before, after)))
    done = by_hand(machine, *records)
    assert done.returncode == 0, done
    staged = stage_restore(machine.request(records[-1].id))
    assert plain(machine.root / "by-hand") == plain(staged.path)
