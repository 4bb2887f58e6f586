"""An event loop in a thread of its own, for those who call it from other threads."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from crew.errors import ConnectionError

T = TypeVar("T")


class LoopThread:
    """Runs coroutines on an event loop, in a thread that begins with the first of them.

    Attributes:
        is_inherited: this process is a forked child of the one in which the thread runs.
    """

    def __init__(self) -> None:
        self.is_inherited = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._submitting = threading.Lock()
        self._is_closed = False

    def anew(self) -> "LoopThread":
        """Another one, which is closed where this one is."""
        other = LoopThread()
        other._is_closed = self._is_closed
        return other

    def check(self) -> None:
        """Raises RuntimeError in this thread itself, which would wait for itself."""
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                "a callback runs in the thread of its client, and must not wait for it: "
                "make it a coroutine function of a crew.Client, or hand the work to another thread"
            )

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        """Run `step` on the loop, and wait for it; raises ConnectionError where `close` has begun, or begins."""
        try:
            return self._submit(step).result()
        except concurrent.futures.CancelledError:
            raise ConnectionError("the client was closed", missing="client") from None

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `last`, where anything has run before, and end the thread; idempotent."""
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

    def _submit(self, step: Coroutine[Any, Any, T]) -> "concurrent.futures.Future[T]":
        """Nothing is submitted once `close` has begun: a loop that has stopped would never do it."""
        try:
            self.check()
            with self._submitting:
                if self._is_closed:
                    raise ConnectionError("the client was closed", missing="client")
                return asyncio.run_coroutine_threadsafe(step, self._loop or self._begin())
        except BaseException:
            step.close()
            raise

    def _begin(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="crew client", daemon=True)
        self._thread.start()
        return self._loop


async def _cancel_others() -> None:
    """Let go of the threads that still wait for something."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
