"""What executors tell the I/O thread: many notes, one wake-up.

A wake-up of an event loop from another thread is a system call; under load most notes find one already on its way.
"""

import asyncio
import collections
import contextlib
import contextvars
import logging
import math
import queue
import time
from collections.abc import Callable
from typing import Any, Final

logger = logging.getLogger(__name__)

# Seconds after which a wake-up is sent once more: an interrupt may land in the thread that was just going to send it.
LOST_AFTER: Final = 0.05


class Mailbox:
    """Calls functions on `loop`, in the order in which other threads ask for it.

    They run in the context of whoever has made the mailbox: the context variables of a task that asks for something are
    not for the tasks that start because of it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context = contextvars.copy_context()
        self._notes: collections.deque[tuple[Callable[..., object], tuple[Any, ...]]] = collections.deque()
        self._woken_at = -math.inf  # time.monotonic() of a wake-up that is on its way

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Have `function(*args)` called on the loop, soon."""
        self._notes.append((function, args))
        now = time.monotonic()
        if now - self._woken_at >= LOST_AFTER:
            self._woken_at = now
            self._loop.call_soon_threadsafe(self._open, context=self._context)

    def soon(self, function: Callable[..., object], *args: Any) -> None:
        """On the loop's own thread: call `function(*args)` when what was sent before is out."""
        self._loop.call_soon(function, *args)

    def later(self, seconds: float, function: Callable[..., object], *args: Any) -> None:
        """On the loop's own thread: call `function(*args)` after so many seconds."""
        self._loop.call_later(seconds, function, *args)

    def ask(self, function: Callable[..., None], *args: Any, patience: float) -> None:
        """As `post`, and wait until what it has sent is out; at most `patience` seconds."""
        done: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.post(function, *args)
        self.post(self.soon, done.put, None)
        with contextlib.suppress(queue.Empty):
            done.get(timeout=patience)

    def _open(self) -> None:
        self._woken_at = -math.inf  # before the first look: a note that comes now wakes again
        while self._notes:
            function, args = self._notes.popleft()
            try:
                function(*args)
            except Exception:
                logger.exception("%s failed", function.__qualname__)
