"""Reports change the record of a job once, in any order and any number."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crew.jobs.job import STATUS_OF, IllegalTransition, Job, JobStatus
from crew.jobs.reports import report
from crew.jobs.reports.report import (
    KEPT_IN_QUEUE,
    MAX_CONTENT_ENCODING,
    MAX_CONTENT_TYPE,
    MAX_HOST,
    MAX_PROGRESS,
    MAX_REASON,
    Report,
    apply,
    of_reply,
)
from crew.protocol import failure
from crew.protocol.encoding import codec, foreign
from crew.protocol.message import Body, Outcome, Reply, Run
from crew.protocol.properties import DeadLetter, MalformedMessage
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


# --- what is decoded from a message ----------------------------------------------------------------------------------


def decoded(outcome: Outcome, data: bytes = b"5", **fields: Any) -> Report:
    """The report of a reply whose body is `data`."""
    body = fields.pop("body", Body(data, codec.JSON))
    reply = Reply(id=fields.pop("id", JOB.id), outcome=outcome, body=body, **fields)
    return of_reply(reply, at=NOW, max_result=1_000)


def error_of(report: Report) -> tuple[JobStatus | None, str, str]:
    """Status, name of the error and message of a report of a failure."""
    found = failure.decode(report.failure or b"")
    return report.status, found.type_name, found.message


def test_a_report_has_what_its_message_says() -> None:
    run = Run(host=HOST, started=NOW, attempt=2)
    assert decoded(Outcome.STARTED, worker="w", run=run) == Report(
        id=JOB.id, status=JobStatus.STARTED, at=NOW, run=run, worker="w"
    )
    assert decoded(Outcome.PROGRESS, b"7", worker="w", run=run) == Report(
        id=JOB.id, status=None, at=NOW, run=run, worker="w", progress=b"7"
    )
    assert decoded(Outcome.RETURNED, b"7", worker="w", run=run, headers={"a": 1}) == Report(
        id=JOB.id,
        status=JobStatus.SUCCESS,
        at=NOW,
        run=run,
        worker="w",
        result=Body(b"7", codec.JSON),
        result_headers={"a": 1},
    )
    assert decoded(Outcome.RAISED, b"{}", worker="w", run=run) == Report(
        id=JOB.id, status=JobStatus.ERROR, at=NOW, run=run, worker="w", failure=b"{}"
    )


@pytest.mark.parametrize("id", ["", "x" * 32, "a" * 31, "a" * 37, "a" * 32 + "\n"])
def test_a_message_about_something_else_is_malformed(id: str) -> None:
    with pytest.raises(MalformedMessage, match="the correlation_id is not the id of a job: '"):
        decoded(Outcome.STARTED, id=id)


@pytest.mark.parametrize("id", ["a" * 32, "0123456789abcdef" * 2, "A-" * 18])
def test_an_id_may_have_dashes_or_not(id: str) -> None:
    assert decoded(Outcome.STARTED, id=id).id == id


def test_long_progress_is_cut() -> None:
    assert decoded(Outcome.PROGRESS, b"x" * (MAX_PROGRESS + 1)).progress == b"x" * MAX_PROGRESS


def test_a_result_of_exactly_max_result_is_recorded() -> None:
    assert decoded(Outcome.RETURNED, b"x" * 1_000).status is JobStatus.SUCCESS
    assert decoded(Outcome.RETURNED, b"x" * 1_001).status is JobStatus.ERROR


@pytest.mark.parametrize(
    ("content_type", "encoding", "status"),
    [
        ("t" * MAX_CONTENT_TYPE, None, JobStatus.SUCCESS),
        (None, "e" * MAX_CONTENT_ENCODING, JobStatus.SUCCESS),
        ("t" * (MAX_CONTENT_TYPE + 1), None, JobStatus.ERROR),
        (None, "e" * (MAX_CONTENT_ENCODING + 1), JobStatus.ERROR),
        ("a\0", "gzip", JobStatus.ERROR),
        ("a/b", "gzip\0", JobStatus.ERROR),
    ],
)
def test_a_result_whose_content_type_no_database_accepts_is_an_error(
    content_type: str | None, encoding: str | None, status: JobStatus
) -> None:
    report = decoded(Outcome.RETURNED, body=Body(b"5", content_type, encoding))
    assert report.status is status
    if status is JobStatus.ERROR:
        message = f"the content type of the result is not valid: {foreign.brief(content_type)}"
        assert error_of(report) == (JobStatus.ERROR, "SerializationError", message)


def test_a_failure_is_recorded_as_it_was_sent_unless_it_is_missing_or_too_long() -> None:
    assert decoded(Outcome.RAISED, b"").failure is None
    assert decoded(Outcome.RAISED, b"x" * failure.MAX_ENCODED).failure == b"x" * failure.MAX_ENCODED
    too_long = decoded(Outcome.RAISED, b"x" * (failure.MAX_ENCODED + 1))
    assert len(too_long.failure or b"") < 1_000
    assert error_of(too_long)[1] == "SerializationError"
    assert f"it has {failure.MAX_ENCODED + 1} bytes" in error_of(too_long)[2]


@pytest.mark.parametrize(
    ("run", "recorded"),
    [
        (Run(host="h:1", attempt=foreign.MAX_COUNT), Run(host="h:1", attempt=foreign.MAX_COUNT)),
        (Run(host="h:1", attempt=foreign.MAX_COUNT + 1), Run(host="h:1", attempt=foreign.MAX_COUNT)),
        (Run(host="h\n", started=NOW, attempt=3), Run(host="h\\n", started=NOW, attempt=3)),
        (Run(host="h" * (MAX_HOST + 1)), Run(host="h" * MAX_HOST)),
        (Run(host="\n" * MAX_HOST), Run(host=("\\n" * MAX_HOST)[:MAX_HOST])),
        (None, None),
    ],
)
def test_the_execution_is_recorded_with_values_that_every_database_accepts(
    run: Run | None, recorded: Run | None
) -> None:
    assert decoded(Outcome.STARTED, run=run).run == recorded


@pytest.mark.parametrize(("worker", "recorded"), [("w", "w"), (None, None), ("w\n", None), ("w" * 1_000, None)])
def test_a_worker_that_cannot_be_addressed_is_not_recorded(worker: str | None, recorded: str | None) -> None:
    assert decoded(Outcome.STARTED, worker=worker).worker == recorded


def test_a_long_reason_of_the_broker_is_cut() -> None:
    letter = of_reply(DeadLetter(id=JOB.id, reason="r" * 1_000), at=NOW, max_result=1)
    assert (letter.id, letter.at) == (JOB.id, NOW)
    text = f"the broker dead-lettered the job: {'r' * MAX_REASON}"
    assert error_of(letter) == (JobStatus.ERROR, "DeadLetter", text)


def test_a_gateway_reports_the_end_of_a_job_with_its_reason() -> None:
    end = report.ended(JOB.id, JobStatus.EXPIRED, at=NOW, type_name="ExpirationError", message="too late")
    assert (end.id, end.at, end.may_be_queued) == (JOB.id, NOW, False)
    assert error_of(end) == (JobStatus.EXPIRED, "ExpirationError", "too late")
    cancel = report.canceled(JOB.id, at=NOW, message="enough")
    assert (cancel.id, cancel.at, cancel.may_be_queued) == (JOB.id, NOW, True)
    assert error_of(cancel) == (JobStatus.CANCELED, "Canceled", "enough")


# --- the record after a report ----------------------------------------------------------------------------------------


def test_the_record_of_a_started_job_keeps_the_time_when_the_broker_took_it() -> None:
    taken = msgspec.structs.replace(JOB, enqueued=JOB.created + 0.1)
    assert after(taken, reported(Outcome.STARTED)).enqueued == JOB.created + 0.1
    late = Run(host=HOST, started=JOB.created + 3)
    assert after(JOB, reported(Outcome.STARTED, run=late)).enqueued == JOB.created + 3
    early = Run(host=HOST, started=JOB.created - 3)
    assert after(JOB, reported(Outcome.STARTED, run=early)).enqueued == JOB.created


def test_a_start_that_is_reported_without_an_execution_is_at_the_time_of_the_report() -> None:
    started = Report(id=JOB.id, status=JobStatus.STARTED, at=NOW + 5)
    job = after(JOB, started)
    assert (job.status, job.started, job.host, job.seen, job.attempts) == (JobStatus.STARTED, NOW + 5, None, None, 1)
    assert after(msgspec.structs.replace(JOB, host="h:1"), started).host == "h:1"
    without_time = reported(Outcome.STARTED, run=Run(host=HOST), at=NOW + 5)
    assert after(JOB, without_time).started == NOW + 5


def test_a_job_that_a_worker_has_reported_is_neither_published_again_nor_submitted() -> None:
    waiting = msgspec.structs.replace(JOB, submit_until=NOW + 30)
    for one in (reported(Outcome.STARTED), reported(Outcome.RETURNED, 5), CANCEL):
        job = after(waiting, one)
        assert (job.publish_at, job.submit_until) == (None, None)


def test_a_report_that_a_job_is_queued_again_is_an_illegal_transition() -> None:
    queued = Report(id=JOB.id, status=JobStatus.QUEUED, at=NOW)
    with pytest.raises(IllegalTransition, match=f"^job {JOB.id} is started and cannot become queued$"):
        apply(after(JOB, reported(Outcome.STARTED)), queued)


def test_the_number_of_attempts_never_decreases() -> None:
    job = after(JOB, reported(Outcome.STARTED, run=Run(host=HOST, started=NOW, attempt=3)))
    assert after(job, reported(Outcome.STARTED, run=Run(host=HOST, started=NOW, attempt=2))).attempts == 3
    assert after(job, reported(Outcome.RETURNED, 5, run=Run(host=HOST, started=NOW, attempt=2))).attempts == 3
    assert after(JOB, reported(Outcome.EXPIRED, run=Run(host=HOST, attempt=2))).attempts == 0, "it was not started"


def test_the_end_of_a_job_is_when_its_execution_ended_and_never_before_its_start() -> None:
    run = Run(host=HOST, started=NOW + 1, ended=NOW + 2)
    assert after(JOB, reported(Outcome.RETURNED, 5, run=run, at=NOW + 9)).ended == NOW + 2
    assert after(JOB, reported(Outcome.RETURNED, 5, run=Run(host=HOST, started=NOW), at=NOW + 9)).ended == NOW + 9
    backwards = Run(host=HOST, started=NOW + 3, ended=NOW + 2)
    assert after(JOB, reported(Outcome.RETURNED, 5, run=backwards)).ended == NOW + 3
    unknown = after(JOB, reported(Outcome.EXPIRED, run=Run(host=HOST, ended=NOW + 2)))
    assert (unknown.started, unknown.ended) == (None, NOW + 2)


def test_the_record_of_an_ended_job_has_all_of_its_report() -> None:
    run = Run(host="other:1", started=NOW, attempt=2)
    reply = Reply(id=JOB.id, outcome=Outcome.RETURNED, body=codec.encode(5), run=run, headers={"a": 1})
    job = after(JOB, of_reply(reply, at=NOW + 1, max_result=1_000))
    assert (job.host, job.attempts, job.result_headers, job.failure) == ("other:1", 2, {"a": 1}, None)
    assert (job.is_given_up, job.publish_at, job.version) == (False, None, JOB.version + 1)
    assert job.enqueued == JOB.created


def test_a_job_that_a_gateway_ends_keeps_what_its_worker_has_reported() -> None:
    job = after(JOB, numbered(Outcome.STARTED, 0), PROGRESS[0])
    ended = after(job, report.ended(JOB.id, JobStatus.ERROR, at=NOW + 9, type_name="WorkerLost", message="m"))
    assert (ended.host, ended.started, ended.attempts, ended.ended) == (HOST, NOW + 0.5, 1, NOW + 9)
    assert (ended.progress_run, ended.progress_count) == (job.progress_run, 1)
    assert ended.enqueued == job.enqueued
    assert after(JOB, CANCEL).enqueued is None


def test_the_execution_that_ended_a_job_is_the_one_whose_progress_counts() -> None:
    ended = after(JOB, PROGRESS[1], numbered(Outcome.RAISED, 0, host="other:18", attempt=2))
    assert ended.progress_count == 0
    late = numbered(Outcome.PROGRESS, 1, "late", host="other:18", attempt=2)
    assert after(ended, late).progress == b'"late"'
    assert after(after(JOB, PROGRESS[1], numbered(Outcome.RAISED, 2)), PROGRESS[1]).progress == b"2"


def test_a_revoked_job_is_kept_while_its_message_may_be_in_a_queue() -> None:
    short = msgspec.structs.replace(JOB, failure_ttl=10.0)
    assert after(short, CANCEL).purge_at == NOW + 1 + KEPT_IN_QUEUE
    long = msgspec.structs.replace(JOB, failure_ttl=2 * KEPT_IN_QUEUE)
    assert after(long, CANCEL).purge_at == NOW + 1 + 2 * KEPT_IN_QUEUE


def test_a_revoked_job_whose_message_has_left_the_queue_is_kept_for_its_time_to_live() -> None:
    canceled = after(msgspec.structs.replace(JOB, failure_ttl=10.0), CANCEL)
    job = after(canceled, reported(Outcome.CANCELED, at=NOW + 5))
    assert (job.purge_at, job.started, job.host) == (NOW + 11, NOW + 0.5, HOST)
    assert job.version == canceled.version + 1
    began = msgspec.structs.replace(canceled, started=NOW + 0.1, host="first:1")
    job = after(began, reported(Outcome.CANCELED))
    assert (job.started, job.host) == (NOW + 0.1, "first:1")
    letter = of_reply(DeadLetter(id=JOB.id, reason="expired"), at=NOW + 5, max_result=1)
    job = after(canceled, letter)
    assert (job.is_given_up, job.started, job.host) == (False, None, None)
    assert apply(canceled, reported(Outcome.STARTED)) is None
    assert after(msgspec.structs.replace(canceled, ended=None), letter).purge_at == NOW + 15


def test_progress_renews_the_time_of_the_last_report_while_a_report_is_due() -> None:
    running = after(JOB, reported(Outcome.STARTED))
    progressed = after(running, reported(Outcome.PROGRESS, 1, at=NOW + 8))
    assert (running.seen, progressed.seen) == (NOW + 1, NOW + 8)
    canceled = after(running, CANCEL)
    assert after(canceled, reported(Outcome.PROGRESS, 1, at=NOW + 8)).seen == canceled.seen


def test_progress_after_the_expiration_is_ignored() -> None:
    expired = after(JOB, report.ended(JOB.id, JobStatus.EXPIRED, at=NOW, type_name="E", message=""))
    assert apply(expired, PROGRESS[0]) is None


def test_progress_without_an_execution_is_recorded_without_one() -> None:
    job = after(JOB, Report(id=JOB.id, status=None, at=NOW, progress=b"1"))
    assert (job.progress, job.progress_run, job.progress_count) == (b"1", None, 0)


def test_progress_that_is_not_numbered_belongs_to_no_execution() -> None:
    job = after(JOB, PROGRESS[0], reported(Outcome.PROGRESS, "older"))
    assert (job.progress_run, job.progress_count) == (None, 0)


def test_an_expiration_that_is_reported_after_the_start_is_a_change_of_the_record() -> None:
    job = after(JOB, reported(Outcome.STARTED))
    then = apply(job, reported(Outcome.EXPIRED, at=NOW + 9, run=Run(host=HOST)))
    assert then is not None
    assert (then.version, then.seen) == (job.version + 1, NOW + 9)


def test_a_record_may_be_kept_for_less_than_a_second() -> None:
    job = msgspec.structs.replace(JOB, result_ttl=0.5, failure_ttl=0.25)
    assert after(job, reported(Outcome.RETURNED, 1)).purge_at == NOW + 1.5
    assert after(job, reported(Outcome.RAISED)).purge_at == NOW + 1.25


def test_a_url_job_without_a_response_code_is_a_success_and_other_tasks_have_none() -> None:
    url_job = msgspec.structs.replace(JOB, task=HTTP_TASK)
    assert after(url_job, reported(Outcome.RETURNED, {})).status is JobStatus.SUCCESS
    assert after(url_job, Report(id=JOB.id, status=JobStatus.SUCCESS, at=NOW)).status is JobStatus.SUCCESS
    assert after(JOB, reported(Outcome.RETURNED, {"code": 500})).status is JobStatus.SUCCESS
