"""The PostgreSQL server of the job store is killed under load and restarted: no job is lost or run again."""

import asyncio

import pytest

from crew import Client, ConnectionError
from crew.jobs import JobStore
from crew.jobs.job import JobStatus
from tests.integration.conftest import StartWorker
from tests.support.postgresql import Server
from tests.support.waiting import until


@pytest.mark.chaos
@pytest.mark.gen_test(timeout=90)
async def test_jobs_run_while_their_store_is_unavailable_and_are_recorded_afterwards(
    own_postgresql: Server, broker_url: str, start_worker: StartWorker, prefix: str
) -> None:
    worker = start_worker()
    async with Client(broker_url, store=JobStore(own_postgresql.make_database())) as client:
        # Submitted at once: else a worker on a busy machine could finish them before the server is killed.
        payloads = [{"name": f"{n}.", "seconds": 0.05} for n in range(40)]
        jobs = await asyncio.gather(*(client.submit(prefix + "note", payload) for payload in payloads))
        waiting = [asyncio.ensure_future(job.result(timeout=60)) for job in jobs[-3:]]
        worker.says("STARTED 5.")
        own_postgresql.kill()
        with pytest.raises(ConnectionError, match="the job store postgresql://crew:"):
            await client.submit(prefix + "note", {"name": "refused"})
        done = worker.output.count("STARTED")
        await until(lambda: worker.output.count("STARTED") > done + 5)  # workers need no store
        own_postgresql.start()

        assert await jobs[0].result(timeout=30) is not None
        ended = [await client.jobs.wait(job.id, 30) for job in jobs]
        assert {job.status for job in ended} == {JobStatus.SUCCESS}
        assert worker.output.count("STARTED") == len(jobs)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(one, dict | ConnectionError) for one in results)  # a wait may fail when the store fails
