"""Reports of hanging tasks to their test: one line of output for each event, with the id of the call."""

import contextvars
import os
import time
from typing import Final

from crew.worker import context

STARTED: Final = "STARTED"
SEEN: Final = "SEEN"  # the task has seen its first interrupt
CLEANED: Final = "CLEANED"  # the clean-up is complete

_limit: contextvars.ContextVar[float] = contextvars.ContextVar("limit")  # time.monotonic()


def started() -> None:
    """Report the start of the task; later reports are measured from its limit at this moment."""
    _limit.set(time.monotonic() + (context.remaining or 0.0))
    report(STARTED)


def report(event: str) -> None:
    """Print the event, the id of the call, and the milliseconds since its limit; in one write."""
    late = (time.monotonic() - _limit.get()) * 1000
    os.write(1, f"{event} {context.id} {late:.1f}\n".encode())
