"""The result of a job for its caller: the value of its task, or the exception that is raised."""

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
    """Return the value of a job that has ended, or raise its failure: see `JobHandle.result`."""
    if job.status is JobStatus.SUCCESS or (job.is_http and job.result is not None):
        return None if job.result is None else decode(job.result)
    raise error_of(job)


def error_of(job: Job) -> errors.TaskError:
    """The failure of a job that has ended without a value."""
    decoded = failure.decode(job.failure or b"{}")
    message = decoded.message or None
    of: dict[str, Any] = {"task": job.task, "id": job.id}
    match job.status:
        case JobStatus.TIMEOUT:
            return errors.TimeoutError(message, traceback=decoded.traceback, **of)
        case JobStatus.EXPIRED:
            return errors.ExpirationError(message, **of)
        case JobStatus.CANCELED:
            return errors.Canceled(message, **of)
        case _ if decoded.type_name in _ERRORS:
            return _ERRORS[decoded.type_name](message, **of)
    return failure.raised(decoded, **of)
