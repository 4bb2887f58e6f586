"""Makes the calls of tasks: `context.call("stat", payload)`.

They use the connections of the worker, on the I/O thread. A nested call has the remaining time of the call that its
task serves, and ends with it.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from crew.amqp import Delivery, Link
from crew.client import Scope
from crew.client.calling.call import PendingCall
from crew.client.calling.caller import Caller
from crew.duration import MAX_DURATION, Duration, parse_duration
from crew.errors import Canceled, CrewError, ExpirationError
from crew.protocol import deadline, user_headers
from crew.protocol.encoding import codec
from crew.worker.execution.execution import CALLER_ENDED, Execution
from crew.worker.execution.shield import Shield
from crew.worker.mailbox import Mailbox
from crew.worker.nested_calls.call import NestedCall

MAX_IN_FLIGHT: Final = 10_000  # nested calls of one worker process
MAX_BYTES: Final = 64 * 1024 * 1024  # of unconfirmed calls; small, as a host has many worker processes
TRACE_HEADERS: Final = ("traceparent", "tracestate", "baggage")  # https://www.w3.org/TR/trace-context/


class NestedCalls:
    """Makes the calls of the tasks of one worker process.

    Args:
        worker: id of the worker process.
        publishing, consuming: its connections.
        mailbox: of the I/O thread.
        on_call: called before each call is sent.
        max_message: bytes that the body of a call may have as it travels.
        compresses: whether large bodies are compressed.
    """

    def __init__(
        self,
        worker: str,
        mailbox: Mailbox,
        *,
        publishing: Link,
        consuming: Link,
        decode: codec.Decode,
        on_call: Callable[[], None],
        max_message: int = codec.MAX_BODY,
        compresses: bool = True,
    ) -> None:
        self._caller = Caller(
            worker,
            MAX_IN_FLIGHT,
            publishing=publishing,
            consuming=consuming,
            decode=decode,
            max_message=max_message,
            compresses=compresses,
            max_bytes=MAX_BYTES,
            ack=Delivery.ack,  # replies share the channel of the tasks' calls
        )
        self._consuming = consuming
        self._mailbox = mailbox
        self._on_call = on_call
        self._opening: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<NestedCalls: {len(self._caller.calls)} in flight>"

    def call(self, execution: Execution, task: str, payload: Any, **options: Any) -> NestedCall[Any]:
        """Make a call for `context.call`, in the thread of `execution`."""
        options["expiration"] = _budget(execution, task, options["expiration"])
        if options["priority"] is None:
            options["priority"] = execution.call.priority
        given = user_headers.sendable(execution.call.headers)  # another AMQP client may have sent any values
        inherited = {name: given[name] for name in TRACE_HEADERS if name in given}
        options["headers"] = {**inherited, **(options["headers"] or {})}
        nested: NestedCall[Any] = NestedCall(
            self._caller, self._mailbox, execution, task=task, payload=payload, **options
        )
        with Shield(execution):  # an interrupt is raised before or after
            self._mailbox.post(self._begin, execution, nested)
        return nested

    def send_waiting(self) -> None:
        """Send the calls that wait for the broker."""
        self._caller.calls.send_waiting()

    async def close(self) -> None:
        """End all calls, and delete the reply queue."""
        for task in list(self._sending):
            task.cancel()
        self._caller.calls.close()
        if self._opening is not None and self._consuming.is_ready:
            await self._consuming.delete_queue(self._caller.queue)

    # --- on the I/O thread --------------------------------------------------------------------------------------------

    def _begin(self, execution: Execution, nested: NestedCall[Any]) -> None:
        scope = execution.scope = execution.scope or Scope()
        if execution.has_ended or (execution.is_interrupted and not execution.interruption.shields):
            scope.abandon(CALLER_ENDED)
        scope.add(nested.pending, wholly=True)
        task = asyncio.get_running_loop().create_task(self._send(nested.pending))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, call: PendingCall[Any]) -> None:
        """Send `call` once its reply can arrive; the first call of a worker process declares the reply queue."""
        if self._opening is None or _has_failed(self._opening):
            self._opening = asyncio.get_running_loop().create_task(self._open())
        try:
            async with asyncio.timeout(self._caller.left(call)):
                await asyncio.shield(self._opening)
            if not call.done():
                self._on_call()
                self._caller.send(call)
        except TimeoutError:
            why = f"the broker could not be reached for task {call.task!r} in time"
            call.settle(ExpirationError(why, task=call.task, id=call.id))
        except CrewError as error:
            call.settle(error)

    async def _open(self) -> None:
        await self._consuming.declare(self._caller.queue, self._caller.binding)
        await self._consuming.consume(self._caller.consumer)


def _has_failed(opening: "asyncio.Task[None]") -> bool:
    return opening.done() and (opening.cancelled() or opening.exception() is not None)


def _budget(execution: Execution, task: str, expiration: Duration | None) -> float:
    """Seconds that a call of `task` may take: the remaining time, or less."""
    if execution.is_interrupted and not execution.interruption.shields:
        raise Canceled(f"task {task!r} is not called: the calling task was interrupted", task=task)
    wanted = None if expiration is None else parse_duration("expiration", expiration)
    left = execution.remaining
    if left is None:
        return deadline.DEFAULT_EXPIRATION if wanted is None else wanted
    if left <= 0:
        raise ExpirationError(f"task {task!r} is not called: no time remains for the calling task", task=task)
    return min(left, MAX_DURATION) if wanted is None else min(left, wanted)
