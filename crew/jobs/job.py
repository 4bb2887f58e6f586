"""A job: a call that outlives the request, with its states and which may follow which. Nothing here does I/O."""

import enum
from typing import Final

import msgspec

from crew.errors import CrewError
from crew.protocol.message import Body, Call, Headers, Outcome
from crew.protocol.topology import HTTP_TASK


class JobStatus(enum.StrEnum):
    """Where a job is in its life; the last five are final."""

    QUEUED = "queued"  # recorded; its message waits for the broker or for a worker
    STARTED = "started"  # a worker runs it, or ran it and is to run it again
    SUCCESS = "success"  # its task returned; a URL job was answered with a code below 400
    ERROR = "error"  # its task raised, its workers died, or the URL was answered with a code from 400 on
    TIMEOUT = "timeout"  # it ran longer than it may
    EXPIRED = "expired"  # no worker took it in time
    CANCELED = "canceled"  # somebody gave it up

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return not TRANSITIONS[self]


_ENDS: Final = frozenset(set(JobStatus) - {JobStatus.QUEUED, JobStatus.STARTED})

# A short job is never announced: its end is the first thing that is heard of it. STARTED follows itself where a worker
# says that it is still at it, or another one has taken over. EXPIRED after STARTED: its first worker has gone.
TRANSITIONS: Final[dict[JobStatus, frozenset[JobStatus]]] = {
    JobStatus.QUEUED: _ENDS | {JobStatus.STARTED},
    JobStatus.STARTED: _ENDS - {JobStatus.EXPIRED} | {JobStatus.STARTED},
    **{end: frozenset[JobStatus]() for end in _ENDS},
}
ACTIVE: Final = (JobStatus.QUEUED, JobStatus.STARTED)

STATUS_OF: Final = {
    Outcome.STARTED: JobStatus.STARTED,
    Outcome.RETURNED: JobStatus.SUCCESS,
    Outcome.RAISED: JobStatus.ERROR,
    Outcome.TIMED_OUT: JobStatus.TIMEOUT,
    Outcome.EXPIRED: JobStatus.EXPIRED,
    Outcome.CANCELED: JobStatus.CANCELED,
    Outcome.UNKNOWN_TASK: JobStatus.ERROR,
    Outcome.WORKER_LOST: JobStatus.ERROR,
}


class IllegalTransition(CrewError):
    """A job cannot go from one status to the other."""


def check_transition(id: str, status: JobStatus, then: JobStatus) -> None:
    """Raise IllegalTransition where `then` may not follow `status`."""
    if then not in TRANSITIONS[status]:
        raise IllegalTransition(f"job {id} is {status.value} and cannot become {then.value}")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a job. Instants are epoch seconds, durations seconds; what is None has not happened, or is unknown.

    Attributes:
        id: uuid; the call has the same.
        task: its name; `crew.http` is a URL job, whose body is the JSON of an HttpRequest.
        body: the encoded payload; None where the record was read without it.
        headers: for the task.
        status: where it is.
        priority: 0-255, larger first.
        timeout: that an execution may run.
        start_by: instant from which on it is not started any longer.
        result_ttl, failure_ttl: how long it is kept after a success, and after any other end.
        unique_key: no two jobs with the same one are active.
        idempotency_key: who sends it again gets this job.
        fingerprint: of what was submitted with the idempotency key.
        wait_for_worker: it waits even where no worker has ever served its task.
        origin: address of who submitted it.
        created, enqueued, started, ended: when it was recorded, taken by the broker, first run, and done.
        seen: when a worker last said that it runs; None where nobody has to, since the broker has it.
        attempts: how often it was started, as the last worker counts.
        host: "host:pid" of the worker process that ran it last.
        progress: JSON that its task said last.
        progress_run: the execution that `progress` is of, or the one that has ended the job; None: unknown.
        progress_count: number of `progress` among the values that this execution has sent; 0: it has sent none.
        result: the value of its task, as it travelled; None where there is none, or it was deleted, or not read.
        result_headers: what the task put into `context.headers`.
        failure: JSON of a Failure: why there is no value.
        publish_at: instant from which on whoever sees it publishes it; None where the broker has it.
        is_given_up: it was ended while its message may be in a queue, so that workers have to be told.
        purge_at: instant at which it is deleted.
        version: grows with every change.
        submitter: name of the token that has submitted it to a gateway; None: there was none, or a program has.
        target: host of a URL job; None: it is none, or an older crew has recorded it.
    """

    id: str
    task: str
    body: Body | None = None
    headers: Headers = {}
    status: JobStatus = JobStatus.QUEUED
    priority: int = 0
    timeout: float | None = None
    start_by: float | None = None
    result_ttl: float = 86_400.0
    failure_ttl: float = 7 * 86_400.0
    unique_key: str | None = None
    idempotency_key: str | None = None
    fingerprint: str | None = None
    wait_for_worker: bool = False
    origin: str | None = None
    created: float
    enqueued: float | None = None
    started: float | None = None
    ended: float | None = None
    seen: float | None = None
    attempts: int = 0
    host: str | None = None
    progress: bytes | None = None
    progress_run: str | None = None
    progress_count: int | None = None
    result: Body | None = None
    result_headers: Headers = {}
    failure: bytes | None = None
    publish_at: float | None = None
    is_given_up: bool = False
    purge_at: float | None = None
    version: int = 1
    submitter: str | None = None
    target: str | None = None

    @property
    def is_http(self) -> bool:
        """Whether it is a URL job."""
        return self.task == HTTP_TASK

    @property
    def elapsed(self) -> float | None:
        """Seconds from its first start to its end."""
        return None if self.started is None or self.ended is None else max(0.0, self.ended - self.started)

    def call(self, queue: str) -> Call:
        """The call that runs it, and is reported to `queue`; needs the body."""
        if self.body is None:
            raise ValueError(f"job {self.id} was read without its body")
        return Call(
            id=self.id,
            task=self.task,
            body=self.body,
            priority=self.priority,
            timeout=self.timeout,
            client=queue,
            reply_to=queue,
            is_job=True,
            start_by=self.start_by,
            headers=self.headers,
        )
