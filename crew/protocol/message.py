"""The kinds of message: Call, Reply, Event, Control. Frozen values; how they look in AMQP is `properties.py`."""

import enum
import secrets
from typing import Any

import msgspec

Headers = dict[str, Any]


class Outcome(enum.StrEnum):
    """What became of a call, as a reply says it."""

    STARTED = "started"  # not an end: sent once for a call that is still running after 200 ms; of a job now and then
    PROGRESS = "progress"  # not an end: the body is what the task of a job has said of it
    RETURNED = "returned"  # the body is the task's value
    RAISED = "raised"  # the body is a Failure, as it is below
    TIMED_OUT = "timed_out"
    EXPIRED = "expired"
    CANCELED = "canceled"
    UNKNOWN_TASK = "unknown_task"
    WORKER_LOST = "worker_lost"

    @property
    def is_end(self) -> bool:
        """Whether nothing follows."""
        return self not in (Outcome.STARTED, Outcome.PROGRESS)


class Body(msgspec.Struct, frozen=True, gc=False):
    """Encoded bytes and how they were encoded.

    Attributes:
        data: the bytes as they travel.
        content_type: MIME type of the payload.
        content_encoding: "gzip", or None.
    """

    data: bytes
    content_type: str | None
    content_encoding: str | None = None


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request to run `task` that awaits one reply.

    Attributes:
        id: unique among the calls in flight; the reply carries it.
        priority: 0-255, larger first.
        deadline: epoch seconds, by the sender's clock, at which the caller stops waiting; None for a message that knows
            none.
        timeout: seconds that the task may run, or None.
        persistent: survives a restart of the broker; at least once instead of at most once.
        client: id of the calling client; its dead letters find their way back by it.
        reply_to: queue that takes the reply, or None where nobody waits for one.
        attempt: 1, and one more for each execution that has raised and was to be repeated.
        message_id: tells it from the calls that have had its id before; None where no other call ever has it.
        is_job: it has a record, which is kept by what is replied: who ran it, when, and what it says meanwhile.
        start_by: epoch seconds at which a job that has never been started is not worth starting any longer, or None.
        clock: seconds by which the broker's clock is ahead of the sender's, where it says so.
        skew: seconds by which this host's clock is ahead of the sender's; does not travel.
        headers: the caller's own.
    """

    id: str
    task: str
    body: Body
    priority: int = 0
    deadline: float | None = None
    timeout: float | None = None
    persistent: bool = True
    client: str | None = None
    reply_to: str | None = None
    attempt: int = 1
    message_id: str | None = None
    is_job: bool = False
    start_by: float | None = None
    clock: float | None = None
    skew: float = 0.0
    headers: Headers = {}

    @property
    def key(self) -> str:
        """What tells it from all other calls, those that have had its id before too."""
        return self.id if self.message_id is None else f"{self.id} {self.message_id}"

    def sender_time(self, now: float) -> float:
        """What the sender's clock shows when this host's shows `now`: its deadline is compared with that."""
        return now - self.skew


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a job, as its record has it.

    Attributes:
        host: where it ran, as "host:pid".
        started: epoch seconds, or None where it never was.
        ended: epoch seconds, or None where it still runs.
        attempt: 1, and one more for each execution before it.
        is_only_one: its message has left the queue with its start: where it dies, nobody runs the job again.
        progress_count: values of progress that it has sent, that of this message included.
    """

    host: str
    started: float | None = None
    ended: float | None = None
    attempt: int = 1
    is_only_one: bool = False
    progress_count: int = 0


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a call.

    Attributes:
        id: the call's.
        outcome: what became of it.
        body: the value where it RETURNED, else an encoded Failure.
        persistent: as the call was.
        worker: id of the worker that answered, or None.
        message_id: the call's.
        run: where the call is a job, the execution that this is about.
        headers: what the task put into `context.headers`.
    """

    id: str
    outcome: Outcome
    body: Body
    persistent: bool = True
    worker: str | None = None
    message_id: str | None = None
    run: Run | None = None
    headers: Headers = {}


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One published message on a topic."""

    topic: str
    body: Body
    persistent: bool = False
    headers: Headers = {}


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """A cancel, sent to workers beside the queues of their tasks.

    An id may be used again by a later call, so a control names its call by one more attribute: the deadline of a call,
    the message of a call whose deadline the sender does not know, or `is_job`. A control that has none of them comes
    from an older client, and applies to every call with the id.

    Attributes:
        id: of the call.
        reason: "canceled", or "timeout" where the caller's time is over.
        deadline: of the call, in epoch seconds; workers remember the cancel until then.
        message_id: of the call, or its id where its message has no other: a call that a worker has started. Workers do
            not remember it.
        is_job: it cancels the job with this id; workers remember it for as long as they remember anything.
    """

    id: str
    reason: str
    deadline: float | None = None
    message_id: str | None = None
    is_job: bool = False

    def is_about(self, call: Call) -> bool:
        """Whether it cancels `call`."""
        if self.id != call.id:
            return False
        if self.message_id is not None:
            return self.message_id == (call.message_id or call.id)
        if self.is_job:
            return call.is_job
        return self.deadline is None or self.deadline == call.deadline


class Briefing(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's question to the gateways: which jobs of my tasks were given up while they were queued?

    It is asked by a worker that has no cancels of before, and goes to the gateways of every job store. The answer of
    each store is one Control message with the id that `briefed_id` gives, the reason "briefed", and a digest of the id
    of each job as its body. Gateways of an older crew send a Control message for each job before it.

    Attributes:
        id: of the question.
        worker: id of the worker that asks.
        tasks: what it serves.
    """

    id: str
    worker: str
    tasks: tuple[str, ...]


def new_id() -> str:
    """An id that nobody else has."""
    return secrets.token_hex(16)
