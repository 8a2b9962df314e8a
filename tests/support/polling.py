"""Waiting for something to become true, without guessing how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def wait_for(what: str, probe: Callable[[], Result | None], seconds: float, every: float = 0.2) -> Result:
    """Call ``probe`` until it returns something true, and return that.

    :param what: what is waited for, for the message.
    :param seconds: how long at most.
    :param every: seconds between two calls.
    :raises AssertionError: it did not happen in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        result = probe()
        if result:
            return result
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        time.sleep(every)
