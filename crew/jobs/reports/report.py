"""Reports of jobs: decodes them from messages, and computes the record after a report. Does not write to the store."""

import re
from typing import Any, Final

import msgspec

from crew.escape import escaped
from crew.jobs.job import STATUS_OF, Job, JobStatus, check_transition
from crew.protocol import failure, topology
from crew.protocol.encoding import codec, foreign
from crew.protocol.failure import Failure
from crew.protocol.message import Body, Headers, Outcome, Reply, Run
from crew.protocol.properties import DeadLetter, MalformedMessage

# A revoked job keeps its record at least for so long, unless a report shows that its message has left the queue. A
# worker that starts asks which jobs are revoked: without the record it would run the job.
KEPT_IN_QUEUE: Final = 7 * 86_400.0  # seconds
MAX_HOST: Final = 255  # characters
MAX_CONTENT_TYPE: Final = 255  # characters
MAX_CONTENT_ENCODING: Final = 32  # characters
MAX_REASON: Final = 100  # characters
MAX_PROGRESS: Final = 64 * 1024  # bytes
_ID: Final = re.compile("[0-9A-Fa-f-]{32,36}")  # a uuid as `specification.check_id` writes it, or without dashes


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """An event in the life of a job.

    Attributes:
        id: of the job.
        status: the new status; None for a progress report.
        at: when it arrived, epoch seconds.
        run: the execution that it is about.
        worker: id of the worker that sent it.
        progress: JSON.
        result: the value of the task.
        result_headers: of the reply.
        failure: JSON of a Failure.
        may_be_queued: whether the message of the job may still be in a queue.
    """

    id: str
    status: JobStatus | None
    at: float
    run: Run | None = None
    worker: str | None = None
    progress: bytes | None = None
    result: Body | None = None
    result_headers: Headers = {}
    failure: bytes | None = None
    may_be_queued: bool = False


def of_reply(reply: Reply | DeadLetter, *, at: float, max_result: int) -> Report:
    """Decode a message of the report queue.

    Args:
        at: now, epoch seconds.
        max_result: bytes that an encoded result may have; a larger result becomes a failure.

    Raises:
        MalformedMessage: its id is not the id of a job. The database might reject such an id.
    """
    if not _ID.fullmatch(reply.id):
        raise MalformedMessage(f"the correlation_id is not the id of a job: {foreign.brief(reply.id)}")
    if isinstance(reply, DeadLetter):
        return _of_dead_letter(reply, at)
    fields: dict[str, Any] = {"id": reply.id, "at": at, "run": _run(reply.run), "worker": _worker(reply.worker)}
    match reply.outcome:
        case Outcome.STARTED:
            return Report(status=JobStatus.STARTED, **fields)
        case Outcome.PROGRESS:
            return Report(status=None, progress=reply.body.data[:MAX_PROGRESS], **fields)
        case Outcome.RETURNED if len(reply.body.data) > max_result:
            message = f"the result has {len(reply.body.data)} bytes, more than max_result of the store, {max_result}"
            return Report(status=JobStatus.ERROR, failure=_failure("TooLarge", message), **fields)
        case Outcome.RETURNED if not _has_valid_type(reply.body):
            message = f"the content type of the result is not valid: {foreign.brief(reply.body.content_type)}"
            return Report(status=JobStatus.ERROR, failure=_failure("SerializationError", message), **fields)
        case Outcome.RETURNED:
            return Report(status=JobStatus.SUCCESS, result=reply.body, result_headers=reply.headers, **fields)
        case outcome:
            return Report(status=STATUS_OF[outcome], failure=_bounded_failure(reply.body.data), **fields)


def _bounded_failure(body: bytes) -> bytes | None:
    """The failure that a worker sent; shortened if it is too long to be recorded."""
    return failure.encode(failure.decode(body)) if len(body) > failure.MAX_ENCODED else body or None


def _has_valid_type(body: Body) -> bool:
    """Whether every database accepts the content type and encoding."""
    kind, encoding = body.content_type or "", body.content_encoding or ""
    is_short = len(kind) <= MAX_CONTENT_TYPE and len(encoding) <= MAX_CONTENT_ENCODING
    return is_short and kind.isprintable() and encoding.isprintable()


def _run(run: Run | None) -> Run | None:
    """`run` with a host and a number of attempts that every database accepts."""
    if run is None or (foreign.is_plain(run.host) and run.attempt <= foreign.MAX_COUNT):
        return run
    host = escaped(run.host[:MAX_HOST])[:MAX_HOST]
    return msgspec.structs.replace(run, host=host, attempt=min(run.attempt, foreign.MAX_COUNT))


def _worker(id: str | None) -> str | None:
    """The worker id, or None if it cannot be the routing key of a control message."""
    try:
        return None if id is None else topology.check_name("worker", id)
    except ValueError:
        return None


def _of_dead_letter(letter: DeadLetter, at: float) -> Report:
    message = f"the broker dead-lettered the job: {letter.reason[:MAX_REASON]}"
    return Report(id=letter.id, status=JobStatus.ERROR, at=at, failure=_failure("DeadLetter", message))


def ended(
    id: str, status: JobStatus, *, at: float, type_name: str, message: str, may_be_queued: bool = False
) -> Report:
    """Report that a gateway itself ends the job."""
    return Report(id=id, status=status, at=at, failure=_failure(type_name, message), may_be_queued=may_be_queued)


def canceled(id: str, *, at: float, message: str) -> Report:
    """Report that the job was canceled; its message may be in a queue, or a worker may run it."""
    return ended(id, JobStatus.CANCELED, at=at, type_name="Canceled", message=message, may_be_queued=True)


def _failure(type_name: str, message: str) -> bytes:
    return failure.encode(Failure(type_name=type_name, message=message))


def apply(job: Job, report: Report) -> Job | None:
    """The record after `report`, or None if the report changes nothing.

    Reports may be repeated, overtake each other, or arrive after the end of the job.
    """
    if report.status is None:
        return _with_progress(job, report)
    if job.status.is_final:
        return _after_end(job, report)
    if report.status is JobStatus.EXPIRED and job.status is JobStatus.STARTED:
        return _expired_after_start(job, report)
    then = _as_http(report) if report.status is JobStatus.SUCCESS and job.is_http else report.status
    check_transition(job.id, job.status, then)
    return _ended(job, report, then) if then.is_final else _started(job, report)


def _with_progress(job: Job, report: Report) -> Job | None:
    """The record with the new progress, or None if the record has a newer one.

    Gateways that share a store consume the reports of one execution from one queue, and commit them in any order. So
    progress is numbered. Progress that arrives after the end of the job is recorded in two cases: the same execution
    ended the job; or the job was canceled or timed out, as the task may report progress in its clean-up.
    """
    run, count = _run_id(report.run), report.run.progress_count if report.run else 0
    is_of_same_run = count > 0 and run == job.progress_run
    if is_of_same_run and count <= (job.progress_count or 0):
        return None
    if job.status is JobStatus.EXPIRED or (job.status in (JobStatus.SUCCESS, JobStatus.ERROR) and not is_of_same_run):
        return None
    return msgspec.structs.replace(
        job,
        progress=report.progress,
        progress_run=run if count else None,  # workers of an older crew do not number their progress
        progress_count=count,
        seen=job.seen if job.seen is None or job.status.is_final else report.at,
        version=job.version + 1,
    )


def _run_id(run: Run | None) -> str | None:
    """A text that identifies one execution."""
    return None if run is None else f"{run.host[:MAX_HOST]} {run.attempt} {run.started}"


def _after_end(job: Job, report: Report) -> Job | None:
    """The record of an ended job: the report may show that its message has left the queue, and which worker ran it."""
    is_out = report.status is not None and report.status.is_final and not report.may_be_queued
    if not (job.is_given_up and is_out):
        return None
    run = report.run
    return msgspec.structs.replace(
        job,
        is_given_up=False,
        purge_at=(job.ended or report.at) + job.failure_ttl,  # a job that was given up is no success
        started=job.started or (run.started if run else None),
        host=job.host or (run.host if run else None),
        version=job.version + 1,
    )


def _started(job: Job, report: Report) -> Job:
    """The record of a started job. Its worker must report regularly only if the broker no longer has the message.

    Otherwise the broker delivers the job or its retry again as soon as there is a worker, even after a week.
    """
    run = report.run or Run(host=job.host or "")
    started = job.started or run.started or report.at
    # One gateway may commit that the job waits for its retry before another commits that it had started.
    is_over = job.status is JobStatus.STARTED and job.seen is None and _is_last(run, job)
    return msgspec.structs.replace(
        job,
        status=JobStatus.STARTED,
        started=started,
        seen=report.at if run.is_only_one and run.ended is None and not is_over else None,
        host=run.host or None,
        attempts=max(job.attempts, run.attempt),
        publish_at=None,
        submit_until=None,
        enqueued=_enqueued(job, started),
        version=job.version + 1,
    )


def _is_last(run: Run, job: Job) -> bool:
    """Whether it is the execution of the latest report."""
    return (run.host, run.attempt) == (job.host, job.attempts)


def _expired_after_start(job: Job, report: Report) -> Job | None:
    """The record of a job that was started in time, but is reported as expired.

    Either a gateway did not know of the start, or the broker had two messages and a worker took one too late. A worker
    that runs the job will report again. If none does, the maintenance ends the job.
    """
    if report.may_be_queued:
        return None
    return msgspec.structs.replace(job, seen=report.at, version=job.version + 1)


def _ended(job: Job, report: Report, status: JobStatus) -> Job:
    run = report.run
    ttl = max(_ttl(job, status), KEPT_IN_QUEUE if report.may_be_queued else 0.0)
    at = run.ended if run is not None and run.ended is not None else report.at
    started = job.started or (run.started if run else None)
    is_known = run is None or _run_id(run) == job.progress_run
    return msgspec.structs.replace(
        job,
        progress_run=job.progress_run if is_known else _run_id(run),
        progress_count=job.progress_count if is_known else 0,
        status=status,
        started=started,
        ended=at if started is None else max(at, started),
        host=(run.host if run else None) or job.host,
        attempts=max(job.attempts, run.attempt if run is not None and run.started is not None else 0),
        result=report.result,
        result_headers=report.result_headers,
        failure=report.failure,
        publish_at=None,
        submit_until=None,
        enqueued=job.enqueued if run is None else _enqueued(job, started or report.at),
        is_given_up=report.may_be_queued,
        purge_at=report.at + ttl,
        version=job.version + 1,
    )


def _enqueued(job: Job, started: float) -> float:
    """When the job was published; at the latest when it started, if the report arrives before the confirm."""
    return job.enqueued or max(job.created, started)


def _ttl(job: Job, status: JobStatus) -> float:
    return job.result_ttl if status is JobStatus.SUCCESS else job.failure_ttl


def _as_http(report: Report) -> JobStatus:
    """The status of a URL job: a response with a code of 400 or more is an error, though the task returned."""
    try:
        value = codec.decode(report.result) if report.result is not None else {}
        return JobStatus.ERROR if int(value.get("code", 0)) >= 400 else JobStatus.SUCCESS
    except (ValueError, TypeError, AttributeError):
        return JobStatus.ERROR
