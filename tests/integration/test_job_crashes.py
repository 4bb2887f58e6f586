"""A gateway that is killed at any step loses no accepted job, and no job has two results."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from crew import Client
from crew.jobs import JobQuery, JobStatus, JobStore
from crew.jobs.job import Job
from crew.protocol import topology
from tests.support.paths import PROGRAM_FOLDER
from tests.support.processes import Process, Processes
from tests.support.programs.crashing import SECOND, STEPS

SCRIPT = PROGRAM_FOLDER / "crashing.py"
ENDED_WITHIN = 15.0  # seconds: the lease is half a second, and maintenance runs every second
ALL = JobQuery(statuses=None)

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.gen_test(timeout=60)
async def test_a_killed_gateway_loses_no_accepted_job_and_none_has_two_results(
    step: str, processes: Processes, shared_worker: Process, prefix: str, broker_url: str, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    accepted = await asyncio.to_thread(accepted_before_kill, processes.python(SCRIPT, url, prefix + "who", step))
    async with Client(broker_url, store=JobStore(url)) as client:
        listed = (await client.jobs.page(ALL)).jobs
        assert accepted <= {job.id for job in listed}, "an accepted job was lost"
        first = [await client.jobs.wait(job.id, ENDED_WITHIN) for job in listed]
        queue = client.jobs.store.queue
    assert [job.status for job in first] == [JobStatus.SUCCESS] * len(listed), "a job is stuck"
    assert 1 <= len(listed) <= SECOND
    async with Client(broker_url, store=JobStore(url)) as client:
        await wait_until_empty(broker_url, topology.task_queue_name(prefix + "who"), queue)
        assert [end_of(await client.jobs.get(job.id)) for job in listed] == [end_of(job) for job in first]
    await wait_until_empty(broker_url, queue)


def accepted_before_kill(process: Process) -> set[str]:
    """Ids of the jobs that the process accepted before it was killed."""
    assert process.ends(timeout=20) == -signal.SIGKILL, repr(process)
    return {line.split()[1] for line in process.output.splitlines() if line.startswith("ACCEPTED")}


def end_of(job: Job) -> Any:
    """The fields that a second result would change."""
    return job.status, job.result, job.ended, job.host


async def wait_until_empty(url: str, *queues: str) -> None:
    """Wait until these queues are empty: no message is left to be delivered again."""
    async with Client(url) as client:
        channel = await client.links.publishing.open_channel()
        async with asyncio.timeout(ENDED_WITHIN):
            while [(await channel.depth(queue)).ready for queue in queues] != [0] * len(queues):
                await asyncio.sleep(0.05)
