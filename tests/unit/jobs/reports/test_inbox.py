"""Every report of a job is committed and then acknowledged, also after errors of the database."""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from crew.amqp import Delivery
from crew.amqp.channel import Channel
from crew.errors import ConnectionError, CrewError
from crew.jobs import JobStore
from crew.jobs.job import Job, JobStatus
from crew.jobs.reports import refused_reports
from crew.jobs.reports.inbox import Inbox
from crew.jobs.reports.report import Report
from crew.jobs.store import update
from crew.jobs.store.errors import Rejected
from crew.jobs.tuning import JobTuning
from crew.protocol import properties
from crew.protocol.encoding import codec
from crew.protocol.message import Outcome, Reply, Run
from crew.protocol.topology import HTTP_TASK
from tests.support.a_job import HOST, NOW, a_specification, opened
from tests.support.deliveries import RecordingChannel
from tests.support.waiting import until

tags = itertools.count(1)


def delivered(channel: RecordingChannel, job: Job, value: object, outcome: Outcome = Outcome.RETURNED) -> Delivery:
    """The report of a worker that the task returned `value`."""
    body = codec.encode(value, "msgpack")
    reply = Reply(id=job.id, outcome=outcome, body=body, run=Run(host=HOST, started=NOW))
    return Delivery(
        channel=cast(Channel, channel),
        tag=next(tags),
        queue="crew.jobs",
        topic="crew.jobs",
        redelivered=False,
        properties=properties.of_reply(reply),
        body=reply.body.data,
    )


@pytest.mark.gen_test
async def test_a_value_that_the_store_rejects_ends_its_own_job_and_delays_no_other(tmp_path: Path) -> None:
    channel = RecordingChannel()
    async with opened(tmp_path) as store:
        inbox = an_inbox(store)
        jobs = [(await store.insert(a_specification(task=task))).job for task in ("t", HTTP_TASK, "t")]
        for job in jobs:
            inbox.on_delivery(delivered(channel, job, {"code": float("inf")}))
        await until(lambda: len(channel.acked) == len(jobs))
        ended = [await store.get(job.id) for job in jobs]
        assert [job.status for job in ended] == [JobStatus.SUCCESS, JobStatus.ERROR, JobStatus.SUCCESS]
        assert b"cannot convert float infinity" in (ended[1].failure or b"")
        await inbox.close()


QUICK = JobTuning(retry_report=0.01, max_retry_report=0.02, retry_store=0.01, progress_check=0.02)
PREFETCH = QUICK.prefetch


def an_inbox(store: JobStore, *, clock: Callable[[], float] = time.monotonic) -> Inbox:
    """An inbox with short intervals, whose results are not needed."""
    return Inbox(
        store,
        on_applied=lambda applied: None,
        on_revocation_request=lambda request: None,
        tuning=QUICK,
        clock=clock,
    )


class Faults:
    """Makes the database fail for the reports of some jobs."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left: dict[str, list[Exception]] = {}  # by the id of the job
        self._apply = update.apply_reports
        patch.setattr(update, "apply_reports", self._apply_or_fail)

    async def _apply_or_fail(self, connection: Any, reports: Sequence[Report]) -> Any:
        for one in reports:
            if self.left.get(one.id):
                raise self.left[one.id].pop()
        return await self._apply(connection, reports)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults(monkeypatch)


@pytest.mark.parametrize(
    "error",
    [
        CrewError('the job store x refuses this: prepared statement "__asyncpg_stmt_7__" does not exist'),
        RuntimeError("an unexpected error"),
        ConnectionError("the job store is away"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.gen_test
async def test_an_error_that_may_be_temporary_never_ends_a_job(
    tmp_path: Path, faults: Faults, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    channel = RecordingChannel()
    async with opened(tmp_path) as store:
        receiver = an_inbox(store)
        failing, other = [(await store.insert(a_specification())).job for _ in range(2)]
        faults.left[failing.id] = [error] * 12
        with caplog.at_level(logging.WARNING, "crew.jobs.reports.inbox"):
            receiver.on_delivery(delivered(channel, failing, 1))
            receiver.on_delivery(delivered(channel, other, 2))
            await until(lambda: len(channel.acked) == 2)
        assert not faults.left[failing.id], "each error was followed by a retry"
        assert [(await store.get(job.id)).status for job in (failing, other)] == [JobStatus.SUCCESS] * 2
        logged = [record.getMessage() for record in caplog.records]
        if isinstance(error, ConnectionError):
            assert logged == [], "the store itself logs its outage"
        else:
            assert len(logged) == 1
            assert failing.id in logged[0]
            assert str(error) in logged[0]
        await receiver.close()


@pytest.mark.gen_test
async def test_a_report_that_fails_repeatedly_delays_no_other_and_keeps_its_message(
    tmp_path: Path, faults: Faults
) -> None:
    channel = RecordingChannel()
    async with opened(tmp_path) as store:
        receiver = an_inbox(store)
        jobs = [
            one.job for one in await asyncio.gather(*(store.insert(a_specification()) for _ in range(PREFETCH + 50)))
        ]
        faults.left[jobs[0].id] = [CrewError("unknown")] * 1_000_000
        for job in jobs:
            receiver.on_delivery(delivered(channel, job, 1))
        await until(lambda: len(channel.acked) == len(jobs) - 1)
        assert len(receiver) == 1
        late = (await store.insert(a_specification())).job
        receiver.on_delivery(delivered(channel, late, 1))
        await until(lambda: len(channel.acked) == len(jobs))
        assert (await store.get(jobs[0].id)).status is JobStatus.QUEUED
        await receiver.close()
        assert len(channel.acked) == len(jobs), "the broker keeps the other message for the next gateway"


@pytest.mark.gen_test
async def test_an_inbox_full_of_failing_reports_is_an_obstacle_until_one_is_recorded(
    tmp_path: Path, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    channel, now = RecordingChannel(), 1000.0
    async with opened(tmp_path) as store:
        receiver = an_inbox(store, clock=lambda: now)
        jobs = [one.job for one in await asyncio.gather(*(store.insert(a_specification()) for _ in range(PREFETCH)))]
        errors: list[Exception] = [CrewError("not known")] * 1_000_000
        for job in jobs:
            faults.left[job.id] = errors
            receiver.on_delivery(delivered(channel, job, 1))
        now += QUICK.stalled_after
        await until(lambda: str(receiver.obstacle).endswith("so no job ends; the last error: CrewError: not known"))
        assert "none has been recorded for" in str(receiver.obstacle)
        await until(lambda: "no job ends" in caplog.text)
        faults.left.clear()
        await until(lambda: len(channel.acked) == PREFETCH)
        assert receiver.obstacle is None
        assert "job reports are recorded again after" in caplog.text
        assert caplog.text.count("no job ends") == 1, "it is logged once"
        await receiver.close()


@pytest.mark.gen_test
async def test_a_single_report_that_is_retried_is_not_an_obstacle(tmp_path: Path, faults: Faults) -> None:
    async with opened(tmp_path) as store:
        receiver = an_inbox(store)
        job = (await store.insert(a_specification())).job
        faults.left[job.id] = [CrewError("not known")] * 1_000_000
        receiver.on_delivery(delivered(RecordingChannel(), job, 1))
        await until(lambda: receiver._retries)
        (one,) = receiver._retries
        one.since -= 1_000  # seconds: it has failed for a long time, and no report was recorded meanwhile
        receiver._watch._progressed_at -= 1_000
        while len(faults.left[job.id]) > 1_000_000 - 10:
            assert receiver.obstacle is None
            await asyncio.sleep(0.01)
        await receiver.close()


@pytest.mark.gen_test
async def test_an_unreadable_message_is_acknowledged_counted_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    channel = RecordingChannel()
    async with opened(tmp_path) as store:
        receiver = an_inbox(store)
        ids = ["\0", "a\0b", "x" * 255, "\u202e", "\ud800", "job-7", "", f"{a_specification().job.id}\0"]
        before = refused_reports.discarded[refused_reports.UNREADABLE]
        for number in range(300):
            job = msgspec.structs.replace(a_specification().job, id=ids[number % len(ids)])
            receiver.on_delivery(delivered(channel, job, 1, (Outcome.RETURNED, Outcome.STARTED)[number % 2]))
        assert len(channel.acked) == 300
        assert refused_reports.discarded[refused_reports.UNREADABLE] == before + 300
        assert caplog.text.count("job report discarded") == refused_reports.LINES
        assert "\0" not in caplog.text
        await receiver.close()


@pytest.mark.gen_test
async def test_a_report_that_cannot_be_encoded_ends_its_job_and_is_acknowledged(tmp_path: Path) -> None:
    channel, circle = RecordingChannel(), dict[str, Any]()
    circle["self"] = circle
    async with opened(tmp_path) as store:
        receiver = an_inbox(store)
        failing, other = [(await store.insert(a_specification())).job for _ in range(2)]
        delivery = delivered(channel, failing, 1)
        delivery.properties.headers = {**(delivery.properties.headers or {}), "x": circle}
        receiver.on_delivery(delivery)
        receiver.on_delivery(delivered(channel, other, 1))
        await until(lambda: len(channel.acked) == 2)
        assert [(await store.get(job.id)).status for job in (failing, other)] == [JobStatus.ERROR, JobStatus.SUCCESS]
        await receiver.close()


@pytest.mark.gen_test
async def test_a_permanent_error_ends_a_job_only_if_it_concerns_the_final_report(
    tmp_path: Path, faults: Faults
) -> None:
    channel = RecordingChannel()
    async with opened(tmp_path) as store:
        receiver = an_inbox(store)
        running, ending = [(await store.insert(a_specification())).job for _ in range(2)]
        rejected = Rejected("a value is too large")
        faults.left = {running.id: [rejected] * 2, ending.id: [rejected]}  # both at once, then each alone
        receiver.on_delivery(delivered(channel, running, {"at": 1}, Outcome.PROGRESS))
        receiver.on_delivery(delivered(channel, ending, 1))
        await until(lambda: len(channel.acked) == 2)
        jobs = [await store.get(job.id) for job in (running, ending)]
        assert [job.status for job in jobs] == [JobStatus.QUEUED, JobStatus.ERROR]
        assert b"cannot be recorded: a value is too large" in (jobs[1].failure or b"")
        await receiver.close()


@pytest.mark.gen_test
async def test_an_exception_in_the_callback_does_not_stop_the_inbox(tmp_path: Path) -> None:
    channel = RecordingChannel()

    def fail(applied: object) -> None:
        raise RuntimeError("no")

    async with opened(tmp_path) as store:
        receiver = Inbox(store, on_applied=fail, on_revocation_request=lambda request: None)
        for count in (1, 2):
            receiver.on_delivery(delivered(channel, (await store.insert(a_specification())).job, 1))
            await until(lambda: len(channel.acked) == count)  # noqa: B023  # it is called in this iteration
        await receiver.close()
