"""What a job came to, as its caller gets it: the value of its task, or the exception in its place."""

from typing import Any, Final

from crew import errors
from crew.jobs.job import Job, JobStatus
from crew.protocol import failure
from crew.protocol.encoding import codec

_ERRORS: Final[dict[str, type[errors.TaskError]]] = {
    "WorkerLost": errors.WorkerLost,
    "UnknownTask": errors.UnknownTask,
    "Overloaded": errors.Overloaded,
}


def result_of(job: Job, decode: codec.Decode = codec.decode) -> Any:
    """The value of a job that has ended, or what it raises: see `JobHandle.result`."""
    if job.status is JobStatus.SUCCESS or (job.is_http and job.result is not None):
        return None if job.result is None else decode(job.result)
    raise _error(job)


def _error(job: Job) -> errors.TaskError:
    told = failure.decode(job.failure or b"{}")
    of: dict[str, Any] = {"task": job.task, "id": job.id}
    match job.status:
        case JobStatus.TIMEOUT:
            return errors.TimeoutError(told.message or None, traceback=told.traceback, **of)
        case JobStatus.EXPIRED:
            return errors.ExpirationError(told.message or None, **of)
        case JobStatus.CANCELED:
            return errors.Canceled(told.message or None, **of)
        case _ if told.type_name in _ERRORS:
            return _ERRORS[told.type_name](told.message or None, **of)
    return failure.raised(told, **of)
