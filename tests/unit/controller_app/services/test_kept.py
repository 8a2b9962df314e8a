from __future__ import annotations

import asyncio

import pytest

from clawfactory_core.errors import CoreError
from controller_app.services.kept import Joined, Kept

pytestmark = pytest.mark.anyio


class Source:
    def __init__(self) -> None:
        self.asked = 0
        self.now = 0.0
        self.fails = False
        self.go = asyncio.Event()
        self.go.set()

    async def find(self) -> int:
        self.asked += 1
        await self.go.wait()
        if self.fails:
            raise CoreError("nobody answers")
        return self.asked

    def kept(self) -> Kept[int]:
        return Kept(self.find, fresh=5, stale=60, clock=lambda: self.now)


async def test_many_at_once_ask_once():
    source = Source()
    kept = source.kept()
    assert await asyncio.gather(*(kept.get() for _ in range(10))) == [1] * 10


async def test_an_older_answer_is_given_while_another_is_looked_for():
    source = Source()
    kept = source.kept()
    assert await kept.get() == 1
    source.now = 10
    source.go.clear()
    assert await kept.get() == 1
    await asyncio.sleep(0)
    assert source.asked == 2
    source.go.set()
    await asyncio.sleep(0.01)
    assert await kept.get() == 2


async def test_a_stale_answer_is_given_to_nobody():
    source = Source()
    kept = source.kept()
    await kept.get()
    source.now = 100
    assert await kept.get() == 2


async def test_a_failure_is_not_asked_for_by_everybody():
    source = Source()
    source.fails = True
    kept = source.kept()
    for _ in range(3):
        with pytest.raises(CoreError, match="nobody"):
            await kept.get()
    assert source.asked == 1
    kept.forget()
    source.fails = False
    assert await kept.get() == 2


async def test_a_failure_is_given_to_nobody_when_it_is_no_longer_young():
    source = Source()
    source.fails = True
    kept = source.kept()
    with pytest.raises(CoreError, match="nobody"):
        await kept.get()
    source.fails = False
    source.now = 6  # an answer of that age would be given
    assert await kept.get() == 2


async def test_who_leaves_takes_nothing_from_the_others():
    source = Source()
    source.go.clear()
    kept = source.kept()
    first, second = asyncio.create_task(kept.get()), asyncio.create_task(kept.get())
    await asyncio.sleep(0)
    first.cancel()
    source.go.set()
    assert await second == 1


async def test_what_was_looked_for_before_a_change_is_not_kept_after_it():
    source = Source()
    source.go.clear()
    kept = source.kept()
    before = asyncio.create_task(kept.get())
    await asyncio.sleep(0)
    kept.forget()
    source.go.set()
    assert await before == 1
    assert await kept.get() == 2


async def test_those_who_come_together_share_a_look():
    source = Source()
    joined = Joined(source.find)
    assert await asyncio.gather(*(joined.get() for _ in range(10))) == [1] * 10
    assert await joined.get() == 2


async def test_who_comes_while_a_look_goes_on_gets_the_next_one():
    source = Source()
    source.go.clear()
    joined = Joined(source.find)
    before = asyncio.create_task(joined.get())
    while not source.asked:
        await asyncio.sleep(0)
    late = [asyncio.create_task(joined.get()) for _ in range(5)]
    await asyncio.sleep(0)
    source.go.set()
    assert await before == 1
    assert await asyncio.gather(*late) == [2] * 5


async def test_a_failed_look_is_told_to_those_who_share_it_and_to_nobody_else():
    source = Source()
    source.fails = True
    joined = Joined(source.find)
    found = await asyncio.gather(joined.get(), joined.get(), return_exceptions=True)
    assert [str(error) for error in found] == ["nobody answers"] * 2
    source.fails = False
    assert await joined.get() == 2


async def test_who_leaves_a_look_takes_nothing_from_the_others():
    source = Source()
    source.go.clear()
    joined = Joined(source.find)
    first, second = asyncio.create_task(joined.get()), asyncio.create_task(joined.get())
    while not source.asked:
        await asyncio.sleep(0)
    first.cancel()
    source.go.set()
    assert await second == 1
