"""Runs what goes on beside the answers for as long as the application is up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

_logger = logging.getLogger(__name__)


@asynccontextmanager
async def running(work: Mapping[str, Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run ``work`` while the block is open. What fails for a reason nobody foresaw is logged and takes nothing with it.

    :param work: by name; each goes on until it is cancelled.
    """
    tasks = [asyncio.create_task(coroutine, name=name) for name, coroutine in work.items()]
    for task in tasks:
        task.add_done_callback(_report)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _logger.error("%s ended: %r", task.get_name(), error, exc_info=error)
