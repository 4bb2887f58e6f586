"""Interface of the two clocks of a test."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


class Hang(Exception):
    """A test waits for something that does not happen. The message has what is awaited, and the stacks."""


class Clock(Protocol):
    """What the parts of a test need of its clock."""

    def monotonic(self) -> float:
        """Seconds, as time.monotonic."""

    def time(self) -> float:
        """Epoch seconds, as time.time."""

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass; for a test that is a plain function."""

    def scaled(self, seconds: float) -> float:
        """A duration of the test on this clock: the same, or shorter where the time is real."""

    def adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have `loop` use this clock."""

    def enlist(self, thread: threading.Thread) -> None:
        """No time passes until `thread`, which was started, waits on a loop of this clock for the first time."""

    def busy(self) -> AbstractContextManager[None]:
        """No time passes in this block: it waits for something that is not on an event loop of this clock."""

    def add_probe(self, is_busy: Callable[[], bool]) -> None:
        """No time passes while `is_busy` returns True; it is called often."""

    def remove_probe(self, is_busy: Callable[[], bool]) -> None:
        """Forget a probe."""

    def sleeps(self, thread: threading.Thread | None) -> bool:
        """Whether `thread`, which runs a task, sleeps on this clock."""

    def wake(self, thread: threading.Thread | None) -> None:
        """Let a sleeping thread run for a moment: an interrupt is to be raised in it."""

    def install(self) -> None:
        """Replace the functions of the process that tell or wait for time."""

    def uninstall(self) -> None:
        """Restore them."""
