"""The statuses of a job, and the transitions between them."""

import pytest

from crew.jobs.job import STATUS_OF, TRANSITIONS, IllegalTransition, JobStatus, check_transition
from crew.protocol.message import Outcome
from crew.protocol.topology import HTTP_TASK
from tests.support.a_job import a_job

FINAL = {JobStatus.SUCCESS, JobStatus.ERROR, JobStatus.TIMEOUT, JobStatus.EXPIRED, JobStatus.CANCELED}


def test_five_statuses_are_final_and_two_are_not() -> None:
    assert {status for status in JobStatus if status.is_final} == FINAL


@pytest.mark.parametrize("status", sorted(FINAL))
@pytest.mark.parametrize("then", list(JobStatus))
def test_a_final_status_never_changes(status: JobStatus, then: JobStatus) -> None:
    with pytest.raises(IllegalTransition, match=f"^job 17 is {status} and cannot become {then}$"):
        check_transition("17", status, then)


@pytest.mark.parametrize("status", [JobStatus.QUEUED, JobStatus.STARTED])
@pytest.mark.parametrize("then", [*sorted(FINAL - {JobStatus.EXPIRED}), JobStatus.STARTED])
def test_active_jobs_may_start_and_end(status: JobStatus, then: JobStatus) -> None:
    check_transition("17", status, then)


def test_only_a_queued_job_may_expire() -> None:
    check_transition("17", JobStatus.QUEUED, JobStatus.EXPIRED)
    with pytest.raises(IllegalTransition):
        check_transition("17", JobStatus.STARTED, JobStatus.EXPIRED)


@pytest.mark.parametrize("status", list(JobStatus))
def test_no_status_returns_to_queued(status: JobStatus) -> None:
    with pytest.raises(IllegalTransition):
        check_transition("17", status, JobStatus.QUEUED)


def test_every_status_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(JobStatus)


def test_a_job_that_never_started_has_no_elapsed_time() -> None:
    assert a_job(ended=5.0).elapsed is None
    assert a_job(started=3.0).elapsed is None
    assert a_job(started=3.0, ended=5.0).elapsed == 2.0


def test_the_elapsed_time_is_never_negative() -> None:
    assert a_job(started=5.0, ended=3.0).elapsed == 0.0


def test_the_call_of_a_job_has_its_id_and_reports_to_the_queue_of_the_store() -> None:
    job = a_job(timeout=3.0, start_by=9.0, priority=7, headers={"a": 1})
    call = job.call("crew.jobs.17")
    assert (call.id, call.reply_to, call.client, call.is_job) == (job.id, "crew.jobs.17", "crew.jobs.17", True)
    assert (call.timeout, call.start_by, call.priority, call.headers) == (3.0, 9.0, 7, {"a": 1})
    assert call.deadline is None
    assert call.persistent


def test_a_job_that_was_read_without_its_body_cannot_be_called() -> None:
    job = a_job(body=None)
    with pytest.raises(ValueError, match=f"job {job.id} was read without its body"):
        job.call("crew.jobs.17")


def test_a_job_of_the_http_task_is_a_url_job() -> None:
    assert a_job(task=HTTP_TASK).is_http
    assert not a_job().is_http


def test_every_outcome_but_progress_has_a_status() -> None:
    assert set(STATUS_OF) == set(Outcome) - {Outcome.PROGRESS}
