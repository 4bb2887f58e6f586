"""The messages of crew as frozen values: Call, Reply, Event, Control; `properties.py` has their AMQP form."""

import enum
import secrets
from typing import Any

import msgspec

Headers = dict[str, Any]


class Outcome(enum.StrEnum):
    """The outcome of a call in a reply."""

    STARTED = "started"  # not final: sent once for a call that still runs after 200 ms; for a job at intervals
    PROGRESS = "progress"  # not final: the body is the progress of a job, as its task has set it
    RETURNED = "returned"  # the body is the value of the task
    RAISED = "raised"  # the body is a Failure, here and in all below
    TIMED_OUT = "timed_out"
    EXPIRED = "expired"
    CANCELED = "canceled"
    UNKNOWN_TASK = "unknown_task"
    WORKER_LOST = "worker_lost"

    @property
    def is_end(self) -> bool:
        """Whether the outcome is final: no other reply follows."""
        return self not in (Outcome.STARTED, Outcome.PROGRESS)


class Body(msgspec.Struct, frozen=True, gc=False):
    """Encoded bytes and their encoding.

    Attributes:
        data: the encoded bytes.
        content_type: MIME type of the payload.
        content_encoding: "gzip", or None.
        to_compress: whether it is still to be compressed, in a thread: see `codec.compressed`.
    """

    data: bytes
    content_type: str | None
    content_encoding: str | None = None
    to_compress: bool = False


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request to run `task` that awaits one reply.

    Attributes:
        id: unique among the calls in flight; the reply has the same id.
        priority: 0-255, larger first.
        deadline: epoch seconds, by the sender's clock, until which the caller waits; None where it is unknown.
        timeout: seconds that the task may run, or None.
        persistent: survives a restart of the broker; at least once instead of at most once.
        client: id of the calling client; the broker routes dead letters back by it.
        reply_to: queue for the reply, or None where no reply is wanted.
        attempt: 1, and one more for each execution that has raised and was retried.
        message_id: distinguishes it from earlier calls with the same id; None where no other call has this id.
        is_job: it has a job record, which is updated from the replies.
        start_by: epoch seconds after which a job is not started for the first time any more, or None.
        clock: seconds by which the broker's clock is ahead of the sender's, or None.
        skew: seconds by which this host's clock is ahead of the sender's; not part of the message.
        headers: the caller's own headers.
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
        """Key that no other call has, not even an earlier call with the same id."""
        return self.id if self.message_id is None else f"{self.id} {self.message_id}"

    def sender_time(self, now: float) -> float:
        """Convert `now` of this host's clock to the sender's clock, to compare it with the deadline."""
        return now - self.skew


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a job, for the job record.

    Attributes:
        host: the worker process, as "host:pid".
        started: epoch seconds, or None where it was not started.
        ended: epoch seconds, or None where it still runs.
        attempt: 1, and one more for each execution before it.
        is_only_one: its message was acknowledged at the start: if the process dies, the job is not run again.
        progress_count: number of progress values that it has sent, including that of this message.
    """

    host: str
    started: float | None = None
    ended: float | None = None
    attempt: int = 1
    is_only_one: bool = False
    progress_count: int = 0


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The reply to a call.

    Attributes:
        id: id of the call.
        outcome: the outcome of the call.
        body: the value where the call RETURNED, else an encoded Failure.
        persistent: as in the call.
        worker: id of the worker that replied, or None.
        message_id: as in the call.
        run: the execution of the job; None where the call is not a job.
        headers: headers that the task has set in `context.headers`.
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
    """A cancel, sent to the control queues of workers.

    A later call may use the same id again. So a control has one more attribute to identify its call: its deadline, its
    message id where the sender does not know the deadline, or `is_job`. A control without any of them comes from an
    older client and applies to every call with the id.

    Attributes:
        id: id of the call.
        reason: "canceled", or "timeout" after the caller's deadline.
        deadline: deadline of the call, in epoch seconds; workers remember the cancel until then.
        message_id: message id of a call that a worker has started, or the id of the call where it has no message id.
            Workers do not remember this cancel.
        is_job: it cancels the job with this id; workers remember this cancel as long as they run.
    """

    id: str
    reason: str
    deadline: float | None = None
    message_id: str | None = None
    is_job: bool = False

    def is_about(self, call: Call) -> bool:
        """Whether it applies to `call`."""
        if self.id != call.id:
            return False
        if self.message_id is not None:
            return self.message_id == (call.message_id or call.id)
        if self.is_job:
            return call.is_job
        return self.deadline is None or self.deadline == call.deadline


class RevocationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's request to the gateways for the jobs of its tasks that were revoked while they were queued.

    A worker that may have missed cancels sends it to the gateways of all job stores. Each store answers with one
    Control message. It has the id from `answer_id`, the reason "briefed", and a body with a digest of each job's id.
    Gateways of an older version send one more Control message for each job before it.

    Attributes:
        id: id of the request.
        worker: id of the worker.
        tasks: names of the tasks that the worker serves.
    """

    id: str
    worker: str
    tasks: tuple[str, ...]


def new_id() -> str:
    """Return a new unique id."""
    return secrets.token_bytes(16).hex()
