"""The record of a job, its statuses, and the allowed transitions between them. Nothing here does I/O."""

import enum
from typing import Any, Final

import msgspec

from crew.errors import CrewError, SerializationError
from crew.protocol.encoding import codec
from crew.protocol.message import Body, Call, Headers, Outcome
from crew.protocol.topology import HTTP_TASK

LEASE: Final = 10.0  # seconds that one gateway has to publish a job before another gateway may


class JobStatus(enum.StrEnum):
    """The status of a job; the last five are final."""

    QUEUED = "queued"  # recorded; its message waits for the broker or for a worker
    STARTED = "started"  # a worker runs it, or ran it and will retry it
    SUCCESS = "success"  # its task returned; a URL job got a response with a code below 400
    ERROR = "error"  # its task raised, its workers died, or a URL job got a response with a code of 400 or more
    TIMEOUT = "timeout"  # it ran longer than its timeout
    EXPIRED = "expired"  # no worker took it in time
    CANCELED = "canceled"  # it was canceled

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return not TRANSITIONS[self]


_ENDS: Final = frozenset(set(JobStatus) - {JobStatus.QUEUED, JobStatus.STARTED})

# A short job sends no `started`: its end is its first report. STARTED follows STARTED when a worker reports that it
# still runs the job, or when another worker took over. EXPIRED after STARTED is handled in `report.apply`.
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
    """A job cannot change from one status to the other."""


def check_transition(id: str, status: JobStatus, then: JobStatus) -> None:
    """Raise IllegalTransition if `then` must not follow `status`."""
    if then not in TRANSITIONS[status]:
        raise IllegalTransition(f"job {id} is {status.value} and cannot become {then.value}")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a job. Instants are epoch seconds, durations are seconds. None: not happened yet, or unknown.

    Attributes:
        id: uuid; also the id of its call.
        task: name of the task; `crew.http` is a URL job, whose body is the JSON of an HttpRequest.
        body: the encoded payload; None if the record was read without it.
        headers: for the task.
        status: see JobStatus.
        priority: 0-255, larger first.
        timeout: how long an execution may run.
        start_by: instant after which no worker starts it.
        result_ttl, failure_ttl: how long the record is kept after a success, and after any other end.
        unique_key: at most one active job has it.
        idempotency_key: a second submit with this key returns this job.
        fingerprint: hash of what was submitted with the idempotency key.
        wait_for_worker: whether it waits even if no worker has ever served its task.
        origin: address of the submitter.
        created, enqueued, started, ended: when it was recorded, taken by the broker, first started, and ended.
        seen: when a worker last reported that it runs the job; None: no report is due, since the broker has the job.
        attempts: how often it was started, as its last worker counted.
        host: "host:pid" of the worker process that ran it last.
        progress: the latest progress of its task, JSON.
        progress_run: the execution that sent `progress`, or the one that ended the job; None: unknown.
        progress_count: number of `progress` among the values that this execution has sent; 0: it has sent none.
        result: the encoded value of its task; None if there is none, if it was deleted, or if it was not read.
        result_headers: `context.headers` of the task.
        failure: JSON of a Failure: why there is no value.
        publish_at: instant from which on any gateway publishes it; None: the broker has it.
        submit_until: set while its first submit is under way: the broker may still refuse it, and then its record is
            deleted. After this instant the gateway that submits it is gone. None: it is accepted.
        is_given_up: whether it is revoked: it ended while its message may be in a queue, so workers must not start it.
        purge_at: instant at which the record is deleted.
        version: grows with every change.
        submitter: name of the token that submitted it to a gateway; None: no token, or a program submitted it.
        target: host of a URL job; None: not a URL job, or recorded by an older crew.
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
    submit_until: float | None = None
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
        """Seconds from the first start to the end."""
        return None if self.started is None or self.ended is None else max(0.0, self.ended - self.started)

    @property
    def decoded_progress(self) -> Any:
        """The latest progress of its task; None if there is none, or it is not JSON."""
        try:
            return None if self.progress is None else codec.from_json(self.progress)
        except SerializationError:
            return None

    def call(self, queue: str) -> Call:
        """The call that runs the job, with reports to `queue`; needs the body."""
        if self.body is None:
            raise ValueError(f"job {self.id} was read without its body: read it with its body to publish it")
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
