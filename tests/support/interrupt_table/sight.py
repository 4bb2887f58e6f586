"""What a task that hangs tells its test: one line a word, with the id of its call."""

import contextvars
import os
import time
from typing import Final

from crew.worker import context

STARTED: Final = "STARTED"
SEEN: Final = "SEEN"  # the interrupt, first of all
CLEANED: Final = "CLEANED"  # up, to the end

_limit: contextvars.ContextVar[float] = contextvars.ContextVar("limit")  # time.monotonic()


def started() -> None:
    """The task has started; what it tells later is measured from the limit that it has now."""
    _limit.set(time.monotonic() + (context.remaining or 0.0))
    tell(STARTED)


def tell(word: str) -> None:
    """Print `word`, the id of the call, and how many milliseconds after its limit this is; in one write."""
    late = (time.monotonic() - _limit.get()) * 1000
    os.write(1, f"{word} {context.id} {late:.1f}\n".encode())
