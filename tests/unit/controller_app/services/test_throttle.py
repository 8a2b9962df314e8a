from __future__ import annotations

import pytest

from controller_app.services.throttle import LoginThrottle


@pytest.fixture
def throttle(clock) -> LoginThrottle:
    return LoginThrottle(limit=3, window=60, capacity=10, clock=clock)


def fail(throttle: LoginThrottle, key: str, times: int) -> None:
    for _ in range(times):
        throttle.record_failure(key)


def test_waits_from_the_limit_on(throttle):
    fail(throttle, "a", 2)
    assert throttle.retry_after("a") == 0
    fail(throttle, "a", 1)
    assert throttle.retry_after("a") == 60
    assert throttle.retry_after("b") == 0


def test_waits_until_the_oldest_failure_has_left_the_window(throttle, clock):
    fail(throttle, "a", 1)
    clock.now += 20
    fail(throttle, "a", 2)
    assert throttle.retry_after("a") == 40
    clock.now += 39.5
    assert throttle.retry_after("a") == 1
    clock.now += 0.5
    assert throttle.retry_after("a") == 0
    fail(throttle, "a", 1)
    assert throttle.retry_after("a") == 20, "the failures of 40 s ago still count"


def test_success_clears_the_failures(throttle):
    fail(throttle, "a", 3)
    throttle.forget("a")
    assert throttle.retry_after("a") == 0


def test_memory_is_bounded_and_the_oldest_go_first(throttle):
    fail(throttle, "first", 3)
    fail(throttle, "kept", 2)
    for number in range(9):
        throttle.record_failure(f"stranger {number}")
        fail(throttle, "kept", 1)
    assert len(throttle) == 10
    assert throttle.retry_after("kept") > 0
    assert throttle.retry_after("first") == 0
