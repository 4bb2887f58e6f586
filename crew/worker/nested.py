"""Calls that tasks make: `context.call("stat", data)`.

They go over the links of the worker, on the I/O thread; the task waits in its own thread, or on its own event loop. A
nested call has what is left of the budget of the call that it is made for, and ends with it.
"""

import asyncio
import logging
import queue
from collections.abc import Generator
from typing import Any, Final

from crew.amqp import Delivery, Link
from crew.client import Scope
from crew.client.call import PendingCall
from crew.client.caller import Caller
from crew.errors import Canceled, CrewError, ExpirationError
from crew.protocol import codec, deadline
from crew.protocol.message import Headers
from crew.worker.execution import ENDED, Execution
from crew.worker.mailbox import Mailbox

logger = logging.getLogger(__name__)

MAX_IN_FLIGHT: Final = 10_000  # nested calls of one worker process
TRACE_HEADERS: Final = ("traceparent", "tracestate", "baggage")  # https://www.w3.org/TR/trace-context/

_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class NestedCall:
    """What `context.call` returns: wait with `.result()` in a plain function, with `await` in an `async def`."""

    def __init__(self, caller: Caller, mailbox: Mailbox, execution: Execution, **arguments: Any) -> None:
        self._mailbox = mailbox
        self._execution = execution
        self._answers: queue.SimpleQueue[None] = queue.SimpleQueue()  # no lock of ours that an interrupt leaves held
        self._waiters: list[_Waiter] = []
        self._answer: Any = None
        self._is_done = False
        self.pending: PendingCall = caller.make(**arguments, callback=self._on_answer)

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
        """Whether a worker has said that it runs it."""
        return self.pending.has_started

    def done(self) -> bool:
        """Whether it has ended."""
        return self._is_done

    def cancel(self) -> None:
        """Give the call up: who waits for it gets Canceled."""
        self._mailbox.post(self.pending.cancel)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the task's value, in a plain function.

        Args:
            timeout: seconds to wait here; None: until the call ends, which it does by its own deadline.

        Raises:
            builtins.TimeoutError: `timeout` is over; the call goes on, and may be waited for again.
            RuntimeError: an event loop runs here, which this would block: `await` the call.
            What awaiting `Client.call` raises.
        """
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("`.result()` would block the event loop: `await context.call(...)`")
        self._execution.waits_for = self
        try:
            self._answers.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"call {self.id} of task {self.task} has not ended within {timeout} s") from None
        self._execution.waits_for = None
        self._answers.put(None)  # for the next who asks
        return self._value()

    def __await__(self) -> Generator[Any, None, Any]:
        if not self._is_done:
            yield from self._wait()
        return self._value()

    def _wait(self) -> Generator[Any, None, None]:
        loop = asyncio.get_running_loop()
        waiter: _Waiter = loop, loop.create_future()
        self._waiters.append(waiter)
        if self._is_done:  # just now: whoever looked at the waiters may have missed this one
            return
        self._execution.waits_for = self
        try:
            yield from waiter[1]
        except asyncio.CancelledError:
            self._waiters.remove(waiter)
            if not self._waiters:
                self.cancel()
            raise
        self._execution.waits_for = None

    def _value(self) -> Any:
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer

    def _on_answer(self, answer: Any, headers: Headers) -> None:
        """On the I/O thread."""
        self._answer = answer
        self._is_done = True
        self._answers.put(None)
        for loop, waiter in list(self._waiters):
            loop.call_soon_threadsafe(_wake, waiter)


class NestedCalls:
    """Makes the calls of the tasks of one worker process.

    Args:
        worker: id of the worker process.
        publishing, consuming: its links.
        mailbox: of the I/O thread.
    """

    def __init__(
        self, worker: str, mailbox: Mailbox, *, publishing: Link, consuming: Link, decode: codec.Decode
    ) -> None:
        self._caller = Caller(
            worker,
            MAX_IN_FLIGHT,
            publishing=publishing,
            consuming=consuming,
            decode=decode,
            ack=Delivery.ack,  # the channel is that of the tasks, too
        )
        self._consuming = consuming
        self._mailbox = mailbox
        self._opening: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<NestedCalls: {len(self._caller.calls)} in flight>"

    def call(self, execution: Execution, task: str, data: Any, **options: Any) -> NestedCall:
        """As `context.call`, in the thread of `execution`."""
        options["expiration"] = _budget(execution, task, options["expiration"])
        if options["priority"] is None:
            options["priority"] = execution.call.priority
        inherited = {name: execution.call.headers[name] for name in TRACE_HEADERS if name in execution.call.headers}
        options["headers"] = {**inherited, **(options["headers"] or {})}
        nested = NestedCall(self._caller, self._mailbox, execution, task=task, data=data, **options)
        self._mailbox.post(self._begin, execution, nested)
        return nested

    def send_waiting(self) -> None:
        """Send what waits for the broker."""
        self._caller.calls.send_waiting()

    async def close(self) -> None:
        """End every call."""
        for task in list(self._sending):
            task.cancel()
        self._caller.calls.close()
        if self._opening is not None and self._consuming.is_ready:
            await self._consuming.delete_queue(self._caller.queue)

    # --- the I/O thread ---------------------------------------------------------------------------------------------

    def _begin(self, execution: Execution, nested: NestedCall) -> None:
        scope = execution.scope = execution.scope or Scope()
        if execution.has_ended or (execution.is_interrupted and not execution.shields):
            scope.abandon(ENDED)
        scope.add(nested.pending, wholly=True)
        task = asyncio.get_running_loop().create_task(self._send(nested.pending))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, call: PendingCall) -> None:
        """Send it once its reply could arrive; the first call of a worker has its queue declared."""
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
        await asyncio.shield(self._opening)
        if not call.done():
            try:
                self._caller.send(call)
            except CrewError as error:
                call.settle(error)

    async def _open(self) -> None:
        await self._consuming.declare(self._caller.queue, self._caller.binding)
        await self._consuming.consume(self._caller.consumer)


def _budget(execution: Execution, task: str, expiration: float | None) -> float:
    """Seconds that a call of `task` may take: what is left, or less."""
    if execution.is_interrupted and not execution.shields:
        raise Canceled(f"task {task!r} is not called: the task that wants it was interrupted", task=task)
    wanted = None if expiration is None else deadline.check_duration("expiration", expiration)
    left = execution.remaining
    if left is None:
        return deadline.DEFAULT_EXPIRATION if wanted is None else wanted
    if left <= 0:
        raise ExpirationError(f"task {task!r} is not called: the time of the task that wants it is over", task=task)
    return left if wanted is None else min(left, wanted)


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
