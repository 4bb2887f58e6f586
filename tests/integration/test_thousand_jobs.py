"""A thousand jobs on a few slots."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from crew import Client
from crew.jobs import JobStatus, JobStore
from tests.integration.conftest import StartWorker
from tests.support.stores import count_by_status
from tests.support.waiting import until

JOBS = 1_000
WORK = 0.05  # seconds each
PROCESSES, THREADS = 2, 10
WITHIN = 30.0  # seconds; 2.5 if no slot ever waits


@pytest.mark.chaos
@pytest.mark.gen_test(timeout=60)
async def test_a_thousand_jobs_on_twenty_slots_all_succeed_and_each_is_run_once(
    broker_url: str, tmp_path: Path, start_worker: StartWorker, prefix: str
) -> None:
    slots = ["--processes", str(PROCESSES), "--threads", str(THREADS)]
    worker = start_worker(*slots, count=PROCESSES, script="jobbing.py")
    async with Client(broker_url, store=JobStore(f"sqlite:///{tmp_path}/jobs.db")) as client:
        handles = await asyncio.gather(*(client.submit(f"{prefix}nap", WORK) for _ in range(JOBS)))
        ran_in = Counter(await asyncio.gather(*(handle.result(timeout=WITHIN) for handle in handles)))

        assert await count_by_status(client.jobs.store) == {JobStatus.SUCCESS: JOBS}
        assert len(ran_in) == PROCESSES
        await until(lambda: worker.output.count("DONE") == JOBS)
        for word in ("STARTED", "DONE"):
            assert Counter(jobs_of(word, worker.output)) == dict.fromkeys((handle.id for handle in handles), 1)


def jobs_of(word: str, output: str) -> list[str]:
    """Ids of the jobs in the lines that begin with `word`."""
    return [line.split()[1] for line in output.splitlines() if line.startswith(f"{word} ")]
