"""The result of a job is the value of its task, or an exception."""

from typing import Any

import pytest

from crew import errors
from crew.jobs.job import JobStatus
from crew.jobs.result import result_of
from crew.protocol import failure
from crew.protocol.encoding import codec
from crew.protocol.failure import Failure
from crew.protocol.topology import HTTP_TASK
from tests.support.a_job import a_job

ENDS: list[tuple[JobStatus, str, type[Exception]]] = [
    (JobStatus.ERROR, "ValueError", errors.TaskFailed),
    (JobStatus.ERROR, "WorkerLost", errors.WorkerLost),
    (JobStatus.ERROR, "UnknownTask", errors.UnknownTask),
    (JobStatus.ERROR, "Overloaded", errors.Overloaded),
    (JobStatus.TIMEOUT, "TimeoutError", errors.TimeoutError),
    (JobStatus.EXPIRED, "ExpirationError", errors.ExpirationError),
    (JobStatus.CANCELED, "Canceled", errors.Canceled),
]


def test_a_success_is_the_value() -> None:
    assert result_of(a_job(status=JobStatus.SUCCESS, result=codec.encode({"a": 1}))) == {"a": 1}


def test_a_deleted_result_is_none() -> None:
    assert result_of(a_job(status=JobStatus.SUCCESS)) is None


@pytest.mark.parametrize(("status", "type_name", "kind"), ENDS)
def test_any_other_end_raises_its_error(status: JobStatus, type_name: str, kind: type[Exception]) -> None:
    recorded = failure.encode(Failure(type_name=type_name, message="so it is"))
    job = a_job(status=status, failure=recorded)
    with pytest.raises(kind, match="so it is") as raised:
        result_of(job)
    assert type(raised.value) is kind
    assert isinstance(raised.value, errors.TaskError)
    assert (raised.value.task, raised.value.id) == (job.task, job.id)


@pytest.mark.parametrize("fields", [{"failure": None}, {"failure": b"{"}])
def test_a_job_with_a_deleted_failure_still_raises(fields: dict[str, Any]) -> None:
    with pytest.raises(errors.TaskError):
        result_of(a_job(status=JobStatus.ERROR, **fields))


def test_an_error_response_of_a_url_job_is_a_value() -> None:
    job = a_job(task=HTTP_TASK, status=JobStatus.ERROR, result=codec.encode({"code": 404}))
    assert result_of(job) == {"code": 404}
