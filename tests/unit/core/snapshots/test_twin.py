"""A child that computes digests: the same as its parent, of what it was last given, and it ends with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from clawfactory_core.errors import CoreError
from clawfactory_core.snapshots.digests import BLOCK_SIZE, KEY_SIZE, Digester
from clawfactory_core.snapshots.twin import Twin
from tests.support.polling import wait_for

_SIZE = 16 * BLOCK_SIZE
_ROOT = Path(__file__).parents[4]


@pytest.fixture
def digester() -> Digester:
    return Digester(os.urandom(KEY_SIZE))


@pytest.mark.parametrize("length", [1, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, _SIZE])
def test_digests_are_those_of_the_parent(digester: Digester, length: int) -> None:
    with Twin(digester, _SIZE) as twin:
        for _ in range(2 * Twin.PIECES):
            piece = os.urandom(length)
            assert twin.offer(piece)
            assert twin.digests() == digester.blocks(piece)


def test_digests_come_in_the_order_of_the_pieces(digester: Digester) -> None:
    with Twin(digester, _SIZE) as twin:
        for _ in range(3):
            pieces = [os.urandom(_SIZE - number) for number in range(Twin.PIECES)]
            for piece in pieces:
                wait_for("room", partial(twin.offer, piece), 10)
            assert [twin.digests() for _ in pieces] == [digester.blocks(piece) for piece in pieces]


def test_it_takes_no_piece_while_it_is_behind(digester: Digester) -> None:
    before = _children()
    with Twin(digester, _SIZE) as twin:
        (child,) = _children() - before
        os.kill(child, signal.SIGSTOP)
        pieces = [os.urandom(_SIZE) for _ in range(Twin.PIECES)]
        taken = [piece for piece in pieces if twin.offer(piece)]
        assert 0 < len(taken) < len(pieces)
        os.kill(child, signal.SIGCONT)
        assert [twin.digests() for _ in taken] == [digester.blocks(piece) for piece in taken]


def test_it_takes_no_more_than_it_can_hold(digester: Digester) -> None:
    with Twin(digester, _SIZE) as twin:
        first = os.urandom(_SIZE)
        for number in range(Twin.PIECES):
            wait_for("room", partial(twin.offer, bytes(_SIZE) if number else first), 10)
        time.sleep(0.2)  # by now all of them are done
        assert not twin.offer(bytes(_SIZE))
        assert twin.digests() == digester.blocks(first)
        wait_for("room", partial(twin.offer, bytes(_SIZE)), 10)


def test_a_piece_that_nobody_asks_for_any_more_is_not_taken_for_the_next(digester: Digester) -> None:
    with Twin(digester, _SIZE) as twin:
        twin.offer(bytes(_SIZE))
        twin.discard()
        piece = os.urandom(3 * BLOCK_SIZE)
        assert twin.offer(piece)
        assert twin.digests() == digester.blocks(piece)


def test_its_death_is_an_error_and_no_digest(digester: Digester) -> None:
    before = _children()
    with Twin(digester, _SIZE) as twin:
        (child,) = _children() - before
        os.kill(child, signal.SIGKILL)
        with pytest.raises(CoreError, match="computed digests ended"):
            _work(twin)
    assert _children() == before


def test_it_has_none_of_its_parents_files_and_ends_with_it(digester: Digester) -> None:
    program = f"""
import os, sys, time
sys.path.insert(0, {str(_ROOT / "module_utils")!r})
from clawfactory_core.snapshots.digests import Digester
from clawfactory_core.snapshots.twin import Twin
twin = Twin(Digester(bytes({KEY_SIZE})), {_SIZE})
print(open(f"/proc/self/task/{{os.getpid()}}/children").read(), flush=True)
time.sleep(60)
"""
    # Its output is a pipe that ends for us only when the child has let go of it, too.
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = Path("/proc") / parent.stdout.readline().strip()
        wait_for("one open file", lambda: len(list((child / "fd").iterdir())) == 1, 10)
        parent.kill()
        assert parent.stdout.read() == ""
        wait_for("the end of the child", lambda: not child.exists(), 10)


def _work(twin: Twin) -> None:
    twin.offer(bytes(_SIZE))
    twin.digests()


def _children() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}
