"""What is heard of a job, and what becomes of its record: decided here, written elsewhere."""

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

# What was given up in a queue is kept for so long at least, unless its message is heard to have left it: a worker that
# comes to that queue is told not to start it, and of a job without a record nobody can tell.
KEPT_IN_QUEUE: Final = 7 * 86_400.0  # seconds
MAX_HOST: Final = 255  # characters
MAX_CONTENT_TYPE: Final = 255  # characters
MAX_CONTENT_ENCODING: Final = 32  # characters
MAX_REASON: Final = 100  # characters
MAX_PROGRESS: Final = 64 * 1024  # bytes
_ID: Final = re.compile("[0-9A-Fa-f-]{32,36}")  # as `specification.check_id` writes a uuid, or without its dashes


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a job.

    Attributes:
        id: the job's.
        status: that it has from then on; None where it only said something.
        at: when we heard of it, epoch seconds.
        run: the execution that it is about.
        worker: id of the worker that says so.
        progress: JSON.
        result: the value of its task.
        result_headers: of the reply.
        failure: JSON of a Failure.
        may_be_queued: whether its message may still be in a queue.
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
    """What a message of the queue of jobs means for a record.

    Args:
        at: now, epoch seconds.
        max_result: bytes that a result may have as it travels; a larger one becomes a failure that says so.

    Raises:
        MalformedMessage: its id is not that of a job. The database could refuse it, and the refusal of it.
    """
    if not _ID.fullmatch(reply.id):
        raise MalformedMessage(f"its correlation_id is not the id of a job: {foreign.brief(reply.id)}")
    if isinstance(reply, DeadLetter):
        return _of_dead_letter(reply, at)
    said: dict[str, Any] = {"id": reply.id, "at": at, "run": _run(reply.run), "worker": _worker(reply.worker)}
    match reply.outcome:
        case Outcome.STARTED:
            return Report(status=JobStatus.STARTED, **said)
        case Outcome.PROGRESS:
            return Report(status=None, progress=reply.body.data[:MAX_PROGRESS], **said)
        case Outcome.RETURNED if len(reply.body.data) > max_result:
            told = f"the result has {len(reply.body.data)} bytes, more than the {max_result} that the job store keeps"
            return Report(status=JobStatus.ERROR, failure=_failure("TooLarge", told), **said)
        case Outcome.RETURNED if not _is_typed(reply.body):
            told = f"the result has a content type that no job has: {foreign.brief(reply.body.content_type)}"
            return Report(status=JobStatus.ERROR, failure=_failure("SerializationError", told), **said)
        case Outcome.RETURNED:
            return Report(status=JobStatus.SUCCESS, result=reply.body, result_headers=reply.headers, **said)
        case outcome:
            return Report(status=STATUS_OF[outcome], failure=_told(reply.body.data), **said)


def _told(body: bytes) -> bytes | None:
    """The failure of a worker as it is recorded: one that is too long is replaced by one that says so."""
    return failure.encode(failure.decode(body)) if len(body) > failure.MAX_ENCODED else body or None


def _is_typed(body: Body) -> bool:
    """Whether every database takes what the body says of itself."""
    kind, encoding = body.content_type or "", body.content_encoding or ""
    is_short = len(kind) <= MAX_CONTENT_TYPE and len(encoding) <= MAX_CONTENT_ENCODING
    return is_short and kind.isprintable() and encoding.isprintable()


def _run(run: Run | None) -> Run | None:
    """`run` with a host and a number of attempts that every database takes."""
    if run is None or (foreign.is_plain(run.host) and run.attempt <= foreign.MAX_COUNT):
        return run
    host = escaped(run.host[:MAX_HOST])[:MAX_HOST]
    return msgspec.structs.replace(run, host=host, attempt=min(run.attempt, foreign.MAX_COUNT))


def _worker(id: str | None) -> str | None:
    """The worker, or None where no control message can have it as a routing key."""
    try:
        return None if id is None else topology.check_name("worker", id)
    except ValueError:
        return None


def _of_dead_letter(letter: DeadLetter, at: float) -> Report:
    told = f"the broker gave the job back: {letter.reason[:MAX_REASON]}"
    return Report(id=letter.id, status=JobStatus.ERROR, at=at, failure=_failure("DeadLetter", told))


def ended(
    id: str, status: JobStatus, *, at: float, type_name: str, message: str, may_be_queued: bool = False
) -> Report:
    """A gateway itself has ended the job."""
    return Report(id=id, status=status, at=at, failure=_failure(type_name, message), may_be_queued=may_be_queued)


def canceled(id: str, *, at: float, message: str) -> Report:
    """Somebody has given the job up, wherever it is."""
    return ended(id, JobStatus.CANCELED, at=at, type_name="Canceled", message=message, may_be_queued=True)


def _failure(type_name: str, message: str) -> bytes:
    return failure.encode(Failure(type_name=type_name, message=message))


def apply(job: Job, report: Report) -> Job | None:
    """The record after `report`, or None where it comes too late to change anything.

    A report that repeats another, or comes after the end, is harmless; so is one that overtakes another.
    """
    if report.status is None:
        return _with_progress(job, report)
    if job.status.is_final:
        return _with_the_rest(job, report)
    if report.status is JobStatus.EXPIRED and job.status is JobStatus.STARTED:
        return _in_doubt(job, report)
    then = _as_http(job, report) if report.status is JobStatus.SUCCESS and job.is_http else report.status
    check_transition(job.id, job.status, then)
    return _ended(job, report, then) if then.is_final else _started(job, report)


def _with_progress(job: Job, report: Report) -> Job | None:
    """The record with a newer value of progress, or None where it has a newer one.

    Gateways that share a store take the messages of one execution from one queue, and commit them in any order. So the
    values are numbered, and one that comes after the end of the job is still recorded: where the same execution sent it
    and has ended the job, or where the job was canceled or timed out, as its task may say something in its clean-up.
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
        progress_run=run if count else None,  # the worker of an older crew does not count
        progress_count=count,
        seen=job.seen if job.seen is None or job.status.is_final else report.at,
        version=job.version + 1,
    )


def _run_id(run: Run | None) -> str | None:
    """Tells one execution from all others."""
    return None if run is None else f"{run.host[:MAX_HOST]} {run.attempt} {run.started}"


def _with_the_rest(job: Job, report: Report) -> Job | None:
    """Its end is known; that its message has left the queue may be news, and who ran it until then."""
    is_out = report.status is not None and report.status.is_final and not report.may_be_queued
    if not (job.is_given_up and is_out):
        return None
    run = report.run
    return msgspec.structs.replace(
        job,
        is_given_up=False,
        purge_at=(job.ended or report.at) + _ttl(job, job.status),
        started=job.started or (run.started if run else None),
        host=job.host or (run.host if run else None),
        version=job.version + 1,
    )


def _started(job: Job, report: Report) -> Job:
    """Somebody has to say now and then that it runs only where the broker does not have it any more.

    The broker hands any other out again, when there is a worker for it, be that in a week; so it does with a retry.
    """
    run = report.run or Run(host=job.host or "", started=report.at)
    started = job.started or run.started or report.at
    # Of two gateways one may commit that it waits for its retry before the other commits that it had begun.
    is_over = job.status is JobStatus.STARTED and job.seen is None and _is_last(run, job)
    return msgspec.structs.replace(
        job,
        status=JobStatus.STARTED,
        started=started,
        seen=report.at if run.is_only_one and run.ended is None and not is_over else None,
        host=run.host or None,
        attempts=max(job.attempts, run.attempt),
        publish_at=None,
        enqueued=_enqueued(job, started),
        version=job.version + 1,
    )


def _is_last(run: Run, job: Job) -> bool:
    """Whether it is the execution that was heard of last."""
    return (run.host, run.attempt) == (job.host, job.attempts)


def _in_doubt(job: Job, report: Report) -> Job | None:
    """It was started in time: a gateway did not know yet, or the broker had it twice and a worker took one too late.

    Whoever runs it will say so again; where nobody does, there was no other message, and nobody will.
    """
    if report.may_be_queued:
        return None
    return msgspec.structs.replace(job, seen=report.at, version=job.version + 1)


def _ended(job: Job, report: Report, status: JobStatus) -> Job:
    run = report.run
    kept = max(_ttl(job, status), KEPT_IN_QUEUE if report.may_be_queued else 0.0)
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
        enqueued=job.enqueued if run is None else _enqueued(job, started or report.at),
        is_given_up=report.may_be_queued,
        purge_at=report.at + kept,
        version=job.version + 1,
    )


def _enqueued(job: Job, started: float) -> float:
    """When it was published: where its worker is heard before the broker's confirm, it was by the time it began."""
    return job.enqueued or max(job.created, started)


def _ttl(job: Job, status: JobStatus) -> float:
    return job.result_ttl if status is JobStatus.SUCCESS else job.failure_ttl


def _as_http(job: Job, report: Report) -> JobStatus:
    """An answer of 400 or more is no success, though the task has returned it."""
    try:
        value = codec.decode(report.result) if report.result is not None else {}
        return JobStatus.ERROR if int(value.get("code", 0)) >= 400 else JobStatus.SUCCESS
    except (ValueError, TypeError, AttributeError):
        return JobStatus.ERROR
