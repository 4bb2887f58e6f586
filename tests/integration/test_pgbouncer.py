"""Jobs in a PostgreSQL behind PgBouncer in transaction mode: the URL needs no parameter for it."""

import asyncio
import time

import pytest

from crew import Client
from crew.jobs import JobStore
from crew.jobs.job import JobStatus
from crew.jobs.store.query import JobQuery
from tests.integration.conftest import StartWorker
from tests.support.stores import added, count_by_status, opened, started, succeeded

ALL = JobQuery(statuses=None)


@pytest.mark.gen_test(timeout=60)
async def test_two_stores_behind_a_pooler_may_get_another_connection_for_each_transaction(
    pgbouncer_url: str,
) -> None:
    async with opened(pgbouncer_url, pgbouncer_url) as stores:
        for _ in range(5):
            jobs = await asyncio.gather(*(added(store) for store in stores * 5))
            for change in (started, succeeded):
                reports = [change(job) for job in jobs]
                settled = await asyncio.gather(*(stores[n % 2].apply([one]) for n, one in enumerate(reports)))
                assert [one.was is not None for some in settled for one in some] == [True] * len(jobs)
            assert [len(page.jobs) for page in await asyncio.gather(*(store.page(ALL) for store in stores * 5))]
            found = await asyncio.gather(*(stores[n % 2].get(job.id) for n, job in enumerate(jobs)))
            assert {job.status for job in found} == {JobStatus.SUCCESS}
            await asyncio.gather(*(store.claim(time.time(), until=time.time() + 9, most=5) for store in stores))
            await asyncio.gather(*(store.purge(0.0) for store in stores))
        assert await count_by_status(stores[0]) == {JobStatus.SUCCESS: 50}


@pytest.mark.gen_test(timeout=60)
async def test_jobs_are_submitted_run_canceled_and_listed_behind_a_pooler(
    pgbouncer_url: str, broker_url: str, start_worker: StartWorker, prefix: str
) -> None:
    start_worker()
    async with (
        Client(broker_url, store=JobStore(pgbouncer_url)) as one,
        Client(broker_url, store=JobStore(pgbouncer_url)) as two,
    ):
        handles = await asyncio.gather(*(client.submit(prefix + "echo", n) for n, client in enumerate([one, two] * 20)))
        values = await asyncio.gather(*((two, one)[n % 2].jobs.result(job.id, 30) for n, job in enumerate(handles)))
        assert values == list(range(40))
        waiting = await one.submit(prefix + "unserved", wait_for_worker=True, unique="skip")
        assert not (await two.submit(prefix + "unserved", wait_for_worker=True, unique="skip")).is_new
        assert await two.jobs.cancel(waiting.id)
        page = await one.jobs.page(ALL)
        assert [job.status for job in page.jobs] == [JobStatus.CANCELED] + [JobStatus.SUCCESS] * 40
