"""A submit that repeats another one waits until that one is accepted or refused."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from crew.errors import ConnectionError, Overloaded
from crew.jobs import JobStatus, JobStore
from crew.jobs.job import LEASE, Job
from crew.jobs.publisher import Publisher
from crew.jobs.reports.report import Report
from crew.jobs.specification import Specification, specify
from crew.jobs.store.submissions import Submissions
from crew.protocol.message import Run
from tests.support.a_job import HOST, opened


class FakePublisher:
    """A broker that answers when the test lets it.

    Attributes:
        error: what the broker refuses jobs with.
        jobs: the jobs that were to be published.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self.error: Exception | None = None
        self.jobs: list[Job] = []
        self.may_answer = asyncio.Event()

    async def publish(self, job: Job) -> bool:
        self.jobs.append(job)
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        await self._store.mark_enqueued(job.id, time.time())
        return True


class Submitting:
    """The submits of a gateway.

    Attributes:
        replaced: the jobs that new jobs have replaced.
    """

    def __init__(self, store: JobStore) -> None:
        self.publisher = FakePublisher(store)
        self.replaced: list[Job] = []
        self.submissions = Submissions(
            store, cast(Publisher, self.publisher), on_replaced=lambda jobs: self.replaced.extend(jobs)
        )

    def start(self, **options: Any) -> "asyncio.Task[Any]":
        """Start a submit with one idempotency key."""
        return asyncio.create_task(self.submissions.submit(a_specification(**options)))


def a_specification(**options: Any) -> Specification:
    return specify("t", {"n": 1}, **{"idempotency_key": "k", **options})


async def is_waiting(task: "asyncio.Task[Any]") -> bool:
    await asyncio.sleep(0.1)
    return not task.done()


@pytest.mark.gen_test
async def test_a_repeated_submit_returns_the_job_of_the_first_when_the_broker_has_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        one, two = Submitting(store), Submitting(store)
        first = one.start()
        assert await is_waiting(first)
        repeated = two.start()
        assert await is_waiting(repeated), "the first one may still be refused"
        one.publisher.may_answer.set()
        job = (await first).job
        assert ((await repeated).job.id, (await repeated).is_new) == (job.id, False)
        assert two.publisher.jobs == []
        assert (await store.get(job.id)).submit_until is None


@pytest.mark.gen_test
async def test_a_repeated_submit_is_made_itself_if_the_first_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        one, two = Submitting(store), Submitting(store)
        first = one.start()
        assert await is_waiting(first)
        repeated = two.start()
        assert await is_waiting(repeated)
        one.publisher.error = Overloaded("full")
        for each in (one, two):
            each.publisher.may_answer.set()
        with pytest.raises(Overloaded):
            await first
        result = await repeated
        assert result.is_new
        assert [job.id for job in two.publisher.jobs] == [result.job.id]


@pytest.mark.parametrize("is_over", ["postponed", "claimed", "started", "the gateway is gone", "an older crew"])
@pytest.mark.gen_test
async def test_a_job_whose_submit_is_over_is_returned_at_once(is_over: str, tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        specification = a_specification()
        job = specification.job
        if is_over == "the gateway is gone":
            job = msgspec.structs.replace(job, submit_until=time.time() - 0.1)
        if is_over == "an older crew":  # which does not know the column
            job = msgspec.structs.replace(job, submit_until=None)
        await store.insert(msgspec.structs.replace(specification, job=job))
        if is_over == "postponed":  # the broker is away: the record alone makes the job accepted
            await store.postpone(job.id, time.time() + LEASE)
        if is_over == "claimed":
            await store.claim(time.time() + 2 * LEASE, until=time.time() + 3 * LEASE, most=1)
        if is_over == "started":
            run = Run(host=HOST, started=time.time())
            await store.apply([Report(id=job.id, status=JobStatus.STARTED, at=time.time(), run=run)])
        async with asyncio.timeout(5):
            result = await Submitting(store).start()
        assert (result.job.id, result.is_new) == (job.id, False)


@pytest.mark.gen_test
async def test_a_submit_that_waits_for_another_ends_when_its_client_is_closed(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.insert(a_specification())
        waiting = Submitting(store)
        repeated = waiting.start()
        assert await is_waiting(repeated)
        waiting.submissions.close()
        with pytest.raises(ConnectionError, match="closed"):
            await repeated


@pytest.mark.parametrize("is_refused", [False, True])
@pytest.mark.gen_test
async def test_a_replaced_job_is_canceled_when_the_broker_has_the_new_one(is_refused: bool, tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        submitting = Submitting(store)
        submitting.publisher.may_answer.set()
        keys = {"idempotency_key": None, "unique": "replace", "unique_key": "u"}
        before = (await submitting.start(**keys)).job
        submitting.publisher.error = Overloaded("full") if is_refused else None
        results: Sequence[object] = await asyncio.gather(submitting.start(**keys), return_exceptions=True)
        assert isinstance(results[0], Overloaded) is is_refused
        assert [job.id for job in submitting.replaced] == ([] if is_refused else [before.id])
        status = (await store.get(before.id)).status
        assert status is (JobStatus.QUEUED if is_refused else JobStatus.CANCELED)
