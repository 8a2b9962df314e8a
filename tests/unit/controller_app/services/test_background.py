from __future__ import annotations

import asyncio

import pytest

from controller_app.services.background import running

pytestmark = pytest.mark.anyio


async def test_work_goes_on_until_the_end():
    steps = []

    async def work() -> None:
        try:
            while True:
                steps.append("step")
                await asyncio.sleep(0)
        finally:
            steps.append("end")

    async with running({"work": work()}):
        await asyncio.sleep(0.01)
    assert steps[0] == "step"
    assert steps[-1] == "end"


async def test_failure_is_logged_and_takes_nothing_with_it(caplog):
    async def fail() -> None:
        raise RuntimeError("not foreseen")

    async with running({"mirror": fail(), "polling": asyncio.sleep(60)}):
        await asyncio.sleep(0.01)
    assert "mirror ended: RuntimeError('not foreseen')" in caplog.text
    assert "polling ended" not in caplog.text
