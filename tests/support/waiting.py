"""Waits for a condition by polling with a deadline, instead of a bare sleep."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL = 0.01  # seconds
SOON = 15.0  # seconds, for a busy machine; a test of a time limit passes its own timeout


def eventually(predicate: Callable[[], T], timeout: float = SOON) -> T:
    """Return the first true value of `predicate`; fails if there is none within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        if value := predicate():
            return value
        assert time.monotonic() < deadline, f"still {value!r} after {timeout:g} s"
        time.sleep(POLL)


async def until(predicate: Callable[[], T], timeout: float = SOON) -> T:
    """Like `eventually`, for coroutines: the event loop is not blocked."""
    deadline = time.monotonic() + timeout
    while True:
        if value := predicate():
            return value
        assert time.monotonic() < deadline, f"still {value!r} after {timeout:g} s"
        await asyncio.sleep(POLL)
