"""Makes deliveries and executions of a worker without a broker."""

import contextvars
import itertools
import time
from collections.abc import Callable
from typing import Any, cast

from crew.amqp import Delivery
from crew.amqp.channel import Channel
from crew.protocol import topology
from crew.protocol.encoding import codec
from crew.protocol.message import Body, Call, Headers, Outcome
from crew.protocol.properties import Properties
from crew.worker.execution.execution import Execution
from crew.worker.retry_policy import Retry
from crew.worker.task import Task

_numbers = itertools.count(1)


class RecordingChannel:
    """A fake Channel that records how each delivery was settled."""

    def __init__(self) -> None:
        self.is_open = True
        self.acked: list[int] = []
        self.acked_through: list[int] = []
        self.held: list[int] = []
        self.requeued: list[int] = []

    def ack(self, tag: int) -> bool:
        """As Channel.ack."""
        if self.is_open:
            self.acked.append(tag)
        return self.is_open

    def hold(self, tag: int) -> None:
        """As Channel.hold."""
        self.held.append(tag)

    def ack_through(self, tag: int) -> None:
        """As Channel.ack_through."""
        self.acked_through.append(tag)

    def requeue(self, tag: int) -> bool:
        """As Channel.requeue."""
        if self.is_open:
            self.requeued.append(tag)
        return self.is_open


def a_delivery(
    channel: RecordingChannel | None = None,
    *,
    task: str = "t",
    properties: Properties | None = None,
    body: bytes = b"null",
    redelivered: bool = False,
) -> Delivery:
    """A delivery with a new delivery tag."""
    return Delivery(
        cast(Channel, channel or RecordingChannel()),
        next(_numbers),
        topology.task_queue_name(task),
        topology.task_queue_name(task),
        redelivered,
        properties or Properties(),
        body,
    )


def a_task(
    function: Callable[[Any], Any],
    *,
    name: str = "t",
    timeout: float | None = None,
    retry: Retry | None = None,
    long: bool = False,
) -> Task:
    """A task that is not registered, with the signature that a worker makes before its first call."""
    task = Task(name, timeout=timeout)
    task.retry = retry or task.retry
    task.long = long
    task.function = function
    assert task.signature.task == name
    return task


def an_execution(
    function: Callable[[Any], Any] = lambda data: data,
    data: Any = None,
    *,
    timeout: float | None = None,
    budget: float | None = 60.0,
    level: int = 0,
    serializer: str | None = None,
    body: Body | None = None,
    persistent: bool = True,
    headers: Headers | None = None,
    crashes: int = 0,
    attempt: int = 1,
    retry: Retry | None = None,
    long: bool = False,
    channel: RecordingChannel | None = None,
    is_job: bool = False,
    stack: Callable[[Execution], str] | None = None,
) -> Execution:
    """An execution of `function`, ready to begin."""
    call = Call(
        id=f"call-{next(_numbers)}",
        task="t",
        body=body or codec.encode(data, serializer),
        deadline=None if budget is None else time.time() + budget,
        timeout=timeout,
        persistent=persistent,
        reply_to="crew.reply.the-client",
        attempt=attempt,
        headers=headers or {},
        is_job=is_job,
    )
    delivery = a_delivery(channel, properties=Properties(priority=level))
    return Execution(delivery, call, a_task(function, retry=retry, long=long), crashes=crashes, stack=stack)


def a_job() -> Execution:
    """An execution of a job that has begun."""
    execution = an_execution(is_job=True)
    execution.begin()
    return execution


def run(execution: Execution) -> None:
    """Run `execution`, in a context of its own as an executor does."""
    contextvars.copy_context().run(execution.run)


def outcome_of(execution: Execution) -> Outcome | None:
    """The outcome of `execution`; fails if it has no result."""
    assert execution.result is not None, f"{execution!r} has no result"
    return execution.result.outcome


def value_of(execution: Execution) -> Any:
    """The value that `execution` has returned; fails if it has another outcome."""
    assert outcome_of(execution) is Outcome.RETURNED, execution.result
    assert execution.result is not None
    return codec.decode(execution.result.body)
