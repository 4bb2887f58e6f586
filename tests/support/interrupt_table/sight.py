"""Reports of hanging tasks to their test: one line of output for each event, with the id of the call."""

import contextvars
import os
import time
from typing import Final

from crew.worker import context
from tests.support.starvation import waited_for_cpu

STARTED: Final = "STARTED"
SEEN: Final = "SEEN"  # the task has seen its first interrupt
CLEANED: Final = "CLEANED"  # the clean-up is complete

_limit: contextvars.ContextVar[float] = contextvars.ContextVar("limit")  # time.monotonic()
_waited: contextvars.ContextVar[float] = contextvars.ContextVar("waited")  # `waited_for_cpu` at the start


def started() -> None:
    """Report the start of the task; later reports are measured from its limit at this moment."""
    _limit.set(time.monotonic() + (context.remaining or 0.0))
    _waited.set(waited_for_cpu())
    report(STARTED)


def report(event: str) -> None:
    """Print the event, the id of the call, and the milliseconds since its limit; in one write.

    The last number is for how many milliseconds this process has waited for a CPU since the start of the task.
    """
    late = (time.monotonic() - _limit.get()) * 1000
    waited = (waited_for_cpu() - _waited.get()) * 1000
    os.write(1, f"{event} {context.id} {late:.1f} {waited:.1f}\n".encode())
