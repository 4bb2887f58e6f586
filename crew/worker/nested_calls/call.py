"""`NestedCall`: the call of another task, which `context.call` returns; its task waits in a thread or event loop."""

import asyncio
import queue
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

from crew.client.calling.call import PendingCall
from crew.client.calling.caller import Caller
from crew.duration import Duration, wait_time
from crew.protocol.message import Headers
from crew.worker.execution.execution import Execution
from crew.worker.mailbox import Mailbox

T = TypeVar("T")

_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class NestedCall(Generic[T]):
    """A call that a task has made: wait with `.result()` in a plain function, with `await` in an `async def`.

    Attributes:
        read: reads its value back by the annotation of the called task; None: the value is as it has arrived.
    """

    read: Callable[[Any], T] | None = None

    def __init__(self, caller: Caller, mailbox: Mailbox, execution: Execution, **arguments: Any) -> None:
        self._mailbox = mailbox
        self._execution = execution
        # Not an Event: it has a Python lock, which an interrupt could leave locked.
        self._done_tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._waiters: list[_Waiter] = []
        self._reply: Any = None
        self._is_done = False
        self.pending: PendingCall[Any] = caller.make(**arguments, callback=self._on_reply)

    def __repr__(self) -> str:
        return repr(self.pending).replace("PendingCall", "NestedCall")

    @property
    def id(self) -> str:
        """The call's id."""
        return self.pending.id

    @property
    def task(self) -> str:
        """Name of the task that is called."""
        return self.pending.task

    @property
    def headers(self) -> Headers:
        """The reply's headers, once the call has ended."""
        return self.pending.headers

    @property
    def has_started(self) -> bool:
        """Whether a worker has started it."""
        return self.pending.has_started

    def done(self) -> bool:
        """Whether it has ended."""
        return self._is_done

    def cancel(self) -> None:
        """Cancel the call: `result` and `await` raise Canceled."""
        self._mailbox.post(self.pending.cancel)

    def result(self, timeout: Duration | None = None) -> T:
        """Wait for the task's value, in a plain function.

        Args:
            timeout: how long to wait here: seconds, or text like "10s". Default: until the call ends by its own
                deadline.

        Raises:
            builtins.TimeoutError: `timeout` has passed; the call goes on, and you may wait for it again.
            RuntimeError: this would block a running event loop; write `await` instead.
            The errors that `Client.call` raises.
        """
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("`.result()` would block the event loop: `await context.call(...)`")
        seconds = wait_time(timeout)
        self._execution.waits_for = self
        try:
            self._done_tokens.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(f"call {self.id} of task {self.task} has not ended within {seconds} s") from None
        finally:
            self._waits_no_longer()
        self._done_tokens.put(None)  # for the next `result`
        return self._value()

    def __await__(self) -> Generator[Any, None, T]:
        if not self._is_done:
            yield from self._wait()
        return self._value()

    def _wait(self) -> Generator[Any, None, None]:
        loop = asyncio.get_running_loop()
        waiter: _Waiter = loop, loop.create_future()
        self._waiters.append(waiter)
        if self._is_done:  # just now: `_on_reply` may have missed this waiter
            return
        self._execution.waits_for = self
        try:
            yield from waiter[1]
        except asyncio.CancelledError:
            self._waiters.remove(waiter)
            if not self._waiters:
                self.cancel()
            raise
        finally:
            self._waits_no_longer()

    def _waits_no_longer(self) -> None:
        if self._execution.waits_for is self:  # an `async def` may wait for several calls
            self._execution.waits_for = None

    def _value(self) -> T:
        if isinstance(self._reply, BaseException):
            raise self._reply
        value: T = self._reply if self.read is None else self.read(self._reply)
        return value

    def _on_reply(self, reply: Any, headers: Headers) -> None:
        """On the I/O thread."""
        self._reply = reply
        self._is_done = True
        self._done_tokens.put(None)
        for loop, waiter in list(self._waiters):
            loop.call_soon_threadsafe(_wake, waiter)


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
