"""Mailbox of the I/O thread: other threads post function calls to its event loop, with few wake-ups.

A wake-up of an event loop from another thread is a system call; under load, many posts share one wake-up.
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

# Seconds after which a wake-up counts as lost and is sent again: an interrupt may hit the thread that was sending it.
WAKE_UP_TIMEOUT: Final = 0.05


class Mailbox:
    """Calls functions on `loop`, in the order in which other threads have posted them.

    They run in the context in which the mailbox was created, so that the context variables of the posting task do not
    reach tasks that start because of the post.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context = contextvars.copy_context()
        self._posts: collections.deque[tuple[Callable[..., object], tuple[Any, ...]]] = collections.deque()
        self._woken_at = -math.inf  # time.monotonic() of the wake-up that was sent and has not arrived

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Call `function(*args)` on the loop, soon; any thread may call this."""
        self._posts.append((function, args))
        now = time.monotonic()
        if now - self._woken_at >= WAKE_UP_TIMEOUT:
            self._woken_at = now
            self._loop.call_soon_threadsafe(self._run_posts, context=self._context)

    def soon(self, function: Callable[..., object], *args: Any) -> None:
        """Call `function(*args)` after the messages that wait to be sent; only for the loop's own thread."""
        self._loop.call_soon(function, *args)

    def later(self, seconds: float, function: Callable[..., object], *args: Any) -> None:
        """Call `function(*args)` after `seconds`; only for the loop's own thread."""
        self._loop.call_later(seconds, function, *args)

    def post_and_wait(self, function: Callable[..., None], *args: Any, timeout: float) -> None:
        """Post, and wait until the messages that `function` sends are sent; at most `timeout` seconds."""
        done: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.post(function, *args)
        self.post(self.soon, done.put, None)
        with contextlib.suppress(queue.Empty):
            done.get(timeout=timeout)

    def _run_posts(self) -> None:
        self._woken_at = -math.inf  # before the first post is read, so that a new post sends a wake-up
        while self._posts:
            function, args = self._posts.popleft()
            try:
                function(*args)
            except Exception:
                logger.exception("callback of a task failed function=%s", function.__qualname__)
