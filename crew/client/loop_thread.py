"""Runs an event loop in a background thread, so that other threads can run coroutines on it."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from crew.errors import ConnectionError

T = TypeVar("T")


class LoopThread:
    """An event loop in a thread. The thread starts with the first coroutine.

    Attributes:
        is_inherited: whether this process is a forked child, and the thread runs in its parent.
    """

    def __init__(self) -> None:
        self.is_inherited = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._submitting = threading.Lock()
        self._is_closed = False

    def anew(self) -> "LoopThread":
        """Make a new one; it is closed if this one is."""
        other = LoopThread()
        other._is_closed = self._is_closed
        return other

    def check(self) -> None:
        """Raise RuntimeError if this is called in the thread of the loop, which would wait for itself."""
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                "a callback runs in the thread of its client, and must not block it: "
                "use a coroutine function with crew.Client, or move the work to another thread"
            )

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        """Run `step` on the loop, and wait for it; raises ConnectionError if `close` was called, or is called."""
        try:
            return self.submit(step).result()
        except concurrent.futures.CancelledError:
            raise ConnectionError("the client was closed", missing="client") from None

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `last` if the thread was started, and end the thread; idempotent."""
        self.check()
        with self._submitting:
            was_closed, self._is_closed = self._is_closed, True
        if was_closed:
            return
        if self._loop is None or self._thread is None:
            return
        try:
            for step in (last, _cancel_others):
                asyncio.run_coroutine_threadsafe(step(), self._loop).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def submit(self, step: Coroutine[Any, Any, T]) -> "concurrent.futures.Future[T]":
        """Schedule `step`, unless `close` was called: a stopped loop would never run it."""
        try:
            self.check()
            with self._submitting:
                if self._is_closed:
                    raise ConnectionError("the client was closed", missing="client")
                return asyncio.run_coroutine_threadsafe(step, self._loop or self._start())
        except BaseException:
            step.close()
            raise

    def _start(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="crew client", daemon=True)
        self._thread.start()
        return self._loop


async def _cancel_others() -> None:
    """Cancel all other tasks, so that the threads that wait for them go on."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
