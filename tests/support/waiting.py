"""Waiting for what happens soon: a poll with a deadline, never a bare sleep."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL = 0.01  # seconds
SOON = 15.0  # seconds, on a busy machine: who has a promise to check says how long it may take


def eventually(predicate: Callable[[], T], timeout: float = SOON) -> T:
    """Return the first true value of `predicate`; fails where there is none within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        if value := predicate():
            return value
        assert time.monotonic() < deadline, f"still {value!r} after {timeout:g} s"
        time.sleep(POLL)


async def until(predicate: Callable[[], T], timeout: float = SOON) -> T:
    """As `eventually`, for coroutines: the event loop goes on meanwhile."""
    deadline = time.monotonic() + timeout
    while True:
        if value := predicate():
            return value
        assert time.monotonic() < deadline, f"still {value!r} after {timeout:g} s"
        await asyncio.sleep(POLL)
