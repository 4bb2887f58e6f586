"""The awaitable that `Client.call` returns."""

import asyncio
import logging
from collections.abc import Callable, Generator
from typing import Any

from crew.client.callback import call_back
from crew.errors import Canceled
from crew.protocol.message import Call, Headers

logger = logging.getLogger(__name__)

OnAnswer = Callable[[Any, Headers], object]


class PendingCall:
    """A call without a reply yet: `await` it (or `yield` it in a `gen.coroutine`) for the task's value.

    Several may await one call; it ends once, and all get the same value or exception.

    Args:
        message: the call as it travels.
        callback: called with (value, headers) when the call ends; a failure comes as an exception value. May be a
            coroutine function.
        on_canceled: told when nobody wants the answer any longer.
    """

    def __init__(
        self, message: Call, *, callback: OnAnswer | None, on_canceled: "Callable[[PendingCall], None]"
    ) -> None:
        self.message = message
        self.headers: Headers = {}
        self.has_started = False
        self.is_published = False
        self._callback = callback
        self._on_canceled = on_canceled
        self._is_done = False
        self._is_seen = callback is not None
        self._value: Any = None
        self._error: BaseException | None = None
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def id(self) -> str:
        """The call's id: unique among the calls in flight."""
        return self.message.id

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.message.task

    def __repr__(self) -> str:
        return f"<PendingCall {self.id} of {self.task}: {self._state()}>"

    def __await__(self) -> Generator[Any, None, Any]:
        if not self._is_done:
            yield from self._wait()
        self._is_seen = True
        if self._error is not None:
            raise self._error
        return self._value

    def __del__(self) -> None:
        if self._error is not None and not self._is_seen and not isinstance(self._error, Canceled):
            logger.warning("call %s of task %s failed, and nobody looked: %s", self.id, self.task, self._error)

    def done(self) -> bool:
        """Whether it has ended."""
        return self._is_done

    def cancel(self) -> bool:
        """Give the call up: who awaits it gets Canceled. False where it has ended already."""
        if self._is_done:
            return False
        self._on_canceled(self)
        return self.settle(Canceled(f"call {self.id} of task {self.task} was cancelled", task=self.task, id=self.id))

    def settle(self, answer: Any, headers: Headers | None = None) -> bool:
        """End it with a value, or with an exception as `answer`; False where it has ended already."""
        if self._is_done:
            return False
        self._is_done = True
        self.headers = headers or {}
        if isinstance(answer, BaseException):
            self._error = answer
        else:
            self._value = answer
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self._callback is not None:
            call_back(self._callback, answer, self.headers, of=f"call {self.id} of task {self.task}")
        return True

    def _wait(self) -> Generator[Any, None, None]:
        """Wait for the end; when the last who waits is cancelled by asyncio, the call is given up."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            yield from waiter
        except asyncio.CancelledError:
            self._waiters.remove(waiter)
            if not self._waiters and self._callback is None:
                self.cancel()
            raise

    def _state(self) -> str:
        if not self._is_done:
            return "running" if self.has_started else "published" if self.is_published else "waiting for the broker"
        return f"failed: {self._error!r}" if self._error is not None else "returned"
