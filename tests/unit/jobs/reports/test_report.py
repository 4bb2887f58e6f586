"""Reports change the record of a job once, in any order and any number."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crew.jobs.job import STATUS_OF, Job, JobStatus
from crew.jobs.reports import report
from crew.jobs.reports.report import Report, apply, of_reply
from crew.protocol import failure
from crew.protocol.encoding import codec
from crew.protocol.message import Body, Outcome, Reply, Run
from crew.protocol.properties import DeadLetter
from crew.protocol.topology import HTTP_TASK
from tests.support.a_job import HOST, NOW, a_job

JOB = a_job(publish_at=NOW + 10)
ENDS = (
    Outcome.RETURNED,
    Outcome.RAISED,
    Outcome.TIMED_OUT,
    Outcome.EXPIRED,
    Outcome.CANCELED,
    Outcome.UNKNOWN_TASK,
    Outcome.WORKER_LOST,
)


def reported(outcome: Outcome, value: object = None, *, at: float = NOW + 1, run: Run | None = None) -> Report:
    """The report that a reply for JOB is decoded to."""
    run = run or Run(host=HOST, started=NOW + 0.5, is_only_one=True)
    reply = Reply(id=JOB.id, outcome=outcome, body=codec.encode(value), worker="w", run=run)
    return of_reply(reply, at=at, max_result=1_000)


def after(job: Job, *reports: Report) -> Job:
    """The record after all `reports`."""
    for one in reports:
        job = apply(job, one) or job
    return job


CANCEL = report.ended(
    JOB.id, JobStatus.CANCELED, at=NOW + 1, type_name="Canceled", message="enough", may_be_queued=True
)
ANY = st.sampled_from([*(reported(outcome, 1) for outcome in Outcome), CANCEL])


@given(st.lists(ANY, max_size=8))
def test_any_order_and_repetition_of_reports_ends_a_job_at_most_once(reports: list[Report]) -> None:
    job, end = JOB, None
    for one in reports:
        job = apply(job, one) or job
        if end is not None:
            assert (job.status, job.ended, job.result, job.failure) == (end.status, end.ended, end.result, end.failure)
        elif job.status.is_final:
            end = job
    statuses = [one.status for one in reports if one.status is not None]
    begun = statuses.index(JobStatus.STARTED) if JobStatus.STARTED in statuses else len(statuses)
    in_time = [status for status in statuses[begun:] if status is not JobStatus.EXPIRED]
    assert job.status.is_final == any(status.is_final for status in statuses[:begun] + in_time)


@given(st.lists(ANY, min_size=1, max_size=8))
def test_only_a_change_increments_the_version(reports: list[Report]) -> None:
    job = JOB
    for one in reports:
        then = apply(job, one)
        if then is not None:
            assert then.version == job.version + 1
            job = then


def test_a_started_job_has_its_worker_and_start_time() -> None:
    job = after(JOB, reported(Outcome.STARTED))
    assert (job.status, job.host, job.started, job.attempts) == (JobStatus.STARTED, HOST, NOW + 0.5, 1)
    assert job.publish_at is None
    assert job.enqueued is not None


def test_a_heartbeat_only_renews_the_time_of_the_last_report() -> None:
    job = after(JOB, reported(Outcome.STARTED), reported(Outcome.STARTED, at=NOW + 31))
    assert (job.started, job.seen) == (NOW + 0.5, NOW + 31)


def test_a_job_that_was_started_in_time_does_not_expire() -> None:
    """The job may have been published twice, and its second message delivered after the expiration."""
    runs = Run(host=HOST, started=NOW + 0.5)
    overdue = report.ended(JOB.id, JobStatus.EXPIRED, at=NOW + 9, type_name="E", message="", may_be_queued=True)
    job = after(JOB, reported(Outcome.STARTED, run=runs))
    assert apply(job, overdue) is None
    job = after(job, reported(Outcome.EXPIRED, at=NOW + 9, run=Run(host=HOST)))
    assert (job.status, job.seen) == (JobStatus.STARTED, NOW + 9)
    assert after(job, reported(Outcome.STARTED, run=runs, at=NOW + 31)).seen is None
    assert after(job, reported(Outcome.RETURNED, 5, run=runs)).status is JobStatus.SUCCESS


def test_no_heartbeat_is_due_for_a_job_that_the_broker_would_deliver_again() -> None:
    """Its host may be lost, and no other host available for days."""
    runs = reported(Outcome.STARTED, run=Run(host=HOST, started=NOW + 0.5))
    job = after(JOB, runs, reported(Outcome.PROGRESS, 5, at=NOW + 31))
    assert (job.status, job.seen) == (JobStatus.STARTED, None)


def test_no_heartbeat_is_due_for_a_job_that_waits_for_its_retry() -> None:
    """The retry may be a day away; maintenance must not end the job as lost."""
    waits = Run(host=HOST, started=NOW, ended=NOW + 1)
    job = after(a_job(), reported(Outcome.STARTED), reported(Outcome.STARTED, run=waits, at=NOW + 2))
    assert (job.status, job.seen) == (JobStatus.STARTED, None)
    assert after(job, reported(Outcome.STARTED)).seen is None, "a late report: another gateway has committed the retry"
    again = Run(host=HOST, started=NOW + 499, attempt=2, is_only_one=True)
    assert after(job, reported(Outcome.STARTED, run=again, at=NOW + 500)).seen == NOW + 500
    elsewhere = Run(host="other:18", started=NOW + 499, is_only_one=True)
    assert after(job, reported(Outcome.STARTED, run=elsewhere, at=NOW + 500)).seen == NOW + 500


def test_a_job_names_the_worker_that_took_over_and_keeps_its_first_start() -> None:
    taken_over = Run(host="other:18", started=NOW + 60, attempt=2)
    job = after(JOB, reported(Outcome.STARTED), reported(Outcome.STARTED, run=taken_over))
    assert (job.host, job.attempts, job.started) == ("other:18", 2, NOW + 0.5)


def test_the_first_report_of_a_short_job_is_its_end() -> None:
    job = after(JOB, reported(Outcome.RETURNED, 5, run=Run(host=HOST, started=NOW + 1, ended=NOW + 2)))
    assert (job.status, job.started, job.ended, job.attempts) == (JobStatus.SUCCESS, NOW + 1, NOW + 2, 1)
    assert job.result == codec.encode(5)
    assert job.publish_at is None


def test_an_end_that_is_reported_before_the_start_is_kept() -> None:
    job = after(JOB, reported(Outcome.RETURNED, 5), reported(Outcome.STARTED))
    assert job.status is JobStatus.SUCCESS


def test_the_second_result_of_a_job_that_ran_twice_changes_nothing() -> None:
    job = after(JOB, reported(Outcome.RETURNED, 1))
    assert apply(job, reported(Outcome.RETURNED, 2)) is None


@pytest.mark.parametrize("outcome", ENDS)
def test_a_canceled_job_stays_canceled_whatever_its_worker_reports(outcome: Outcome) -> None:
    job = after(JOB, CANCEL, reported(outcome, 1))
    assert (job.status, job.result) == (JobStatus.CANCELED, None)


def test_a_job_is_no_longer_revoked_once_a_worker_has_reported_its_end() -> None:
    job = after(JOB, CANCEL)
    assert job.is_given_up
    assert not after(job, reported(Outcome.CANCELED)).is_given_up


def test_a_second_cancel_keeps_the_job_revoked() -> None:
    job = after(JOB, CANCEL)
    assert apply(job, CANCEL) is None
    expired = report.ended(JOB.id, JobStatus.EXPIRED, at=NOW, type_name="E", message="", may_be_queued=True)
    assert after(JOB, expired, CANCEL) == after(JOB, expired)


def test_results_and_failures_have_their_own_times_to_live() -> None:
    job = msgspec.structs.replace(JOB, result_ttl=10.0, failure_ttl=20.0)
    assert after(job, reported(Outcome.RETURNED, 1)).purge_at == NOW + 11
    for outcome in ENDS[1:]:
        assert after(job, reported(outcome)).purge_at == NOW + 21


def test_a_result_above_max_result_is_an_error() -> None:
    job = after(JOB, reported(Outcome.RETURNED, "x" * 999))
    decoded = failure.decode(job.failure or b"")
    assert (job.status, decoded.type_name) == (JobStatus.ERROR, "TooLarge")
    assert decoded.message == "the result has 1001 bytes, more than max_result of the store, 1000"


def test_progress_is_recorded_until_a_success_and_during_clean_up_after_a_cancel() -> None:
    running = after(JOB, reported(Outcome.STARTED), reported(Outcome.PROGRESS, 1))
    assert (running.progress, running.status) == (b"1", JobStatus.STARTED)
    assert after(running, CANCEL, reported(Outcome.PROGRESS, 2)).progress == b"2"
    assert after(running, reported(Outcome.RETURNED), reported(Outcome.PROGRESS, 2)).progress == b"1"


def numbered(outcome: Outcome, count: int, value: object = None, *, host: str = HOST, attempt: int = 1) -> Report:
    """As `reported`, from a worker that numbers the progress of its execution."""
    run = Run(host=host, started=NOW + 0.5, attempt=attempt, progress_count=count)
    return reported(outcome, value, run=run)


PROGRESS = [numbered(Outcome.PROGRESS, count, count) for count in (1, 2, 3)]


@pytest.mark.parametrize("outcome", [one for one in ENDS if one is not Outcome.EXPIRED])
@given(st.data())
def test_the_last_progress_of_an_execution_is_kept_in_any_order_of_reports(
    outcome: Outcome, data: st.DataObject
) -> None:
    reports = [numbered(Outcome.STARTED, 0), *PROGRESS, numbered(outcome, 3, 5)]
    job = after(JOB, *data.draw(st.permutations(reports)))
    assert (job.progress, job.status) == (b"3", STATUS_OF[outcome])
    assert after(job, *reports) == job, "redelivered reports change nothing"


def test_older_progress_does_not_replace_newer_progress_of_an_execution() -> None:
    job = after(JOB, PROGRESS[1], PROGRESS[0])
    assert job.progress == b"2"
    again = numbered(Outcome.PROGRESS, 1, "again", host="other:18", attempt=2)
    assert after(job, again).progress == b'"again"', "another execution counts from 1"


def test_progress_of_an_earlier_execution_is_ignored_after_the_end() -> None:
    ended = numbered(Outcome.RETURNED, 0, 5, host="other:18", attempt=2)
    job = after(JOB, PROGRESS[0], ended, PROGRESS[1])
    assert (job.progress, job.status) == (b"1", JobStatus.SUCCESS)


def test_progress_without_a_number_is_the_newest_while_its_job_runs() -> None:
    job = after(JOB, PROGRESS[2], reported(Outcome.PROGRESS, "older"))
    assert job.progress == b'"older"'
    assert after(job, reported(Outcome.RETURNED, 5), reported(Outcome.PROGRESS, "late")).progress == b'"older"'


def test_a_dead_lettered_job_is_an_error_with_its_reason() -> None:
    letter = DeadLetter(id=JOB.id, reason="delivery_limit")
    job = after(JOB, of_reply(letter, at=NOW, max_result=1))
    assert job.status is JobStatus.ERROR
    assert failure.decode(job.failure or b"").message == "the broker dead-lettered the job: delivery_limit"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (codec.encode({"code": 200}), JobStatus.SUCCESS),
        (codec.encode({"code": 399}), JobStatus.SUCCESS),
        (codec.encode({"code": 400}), JobStatus.ERROR),
        (codec.encode({"code": 503}), JobStatus.ERROR),
        (codec.encode({"code": "many"}), JobStatus.ERROR),
        (codec.encode(["no response"]), JobStatus.ERROR),
        (Body(b"{", codec.JSON), JobStatus.ERROR),
    ],
)
def test_the_response_code_decides_the_status_of_a_url_job(body: Body, status: JobStatus) -> None:
    received = of_reply(Reply(id=JOB.id, outcome=Outcome.RETURNED, body=body), at=NOW, max_result=1_000)
    job = apply(msgspec.structs.replace(JOB, task=HTTP_TASK), received)
    assert job is not None
    assert (job.status, job.result) == (status, body)
