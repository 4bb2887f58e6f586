"""Waiters for jobs are woken by the change that they wait for, and share reads."""

import asyncio
import contextlib
import random
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from crew.client import Event
from crew.jobs.job import Job, JobStatus
from crew.jobs.store import rows
from crew.jobs.waiters import Waiters
from crew.protocol.encoding import codec
from tests.support.a_job import a_job
from tests.support.jobs_gateway import JobsGateway, jobs_gateway
from tests.support.waiting import until

WAITERS = 100
PROGRESS = 20  # reports
MEGABYTE = random.Random(26).randbytes(1_000_000)  # gzip cannot make it smaller
PAYLOAD = RESULT = codec.encode(MEGABYTE)


class Reads:
    """Records that were read from the store.

    Attributes:
        rows: number of records.
        bytes: size of their payloads and results.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.rows = self.bytes = 0
        self._to_job = rows.to_job
        patch.setattr(rows, "to_job", self._count)

    def _count(self, row: Any) -> Job:
        self.rows += 1
        self.bytes += sum(len(row[name]) for name in ("body", "result") if row.get(name) is not None)
        return self._to_job(row)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


async def wait_for(gateway: JobsGateway, job: Job, count: int = WAITERS) -> "list[asyncio.Task[Any]]":
    """Start `count` waiters for the end of `job`; each has read it once."""
    waiting = [asyncio.create_task(gateway.jobs.result(job.id, 60)) for _ in range(count)]
    await until(lambda: gateway.waiters == count)
    await gateway.jobs.store.get_with_result(job.id)  # all reads of the waiters are before this one
    return waiting


@pytest.mark.gen_test
async def test_waiters_read_nothing_while_the_job_runs_and_share_one_read_of_its_result(
    tmp_path: Path, reads: Reads
) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job(body=PAYLOAD)
        waiting = await wait_for(gateway, job)
        assert reads.bytes == 0, "no waiter needs the payload"
        reads.rows = 0
        for n in range(PROGRESS):
            await gateway.report_progress(job, {"at": n})
        assert (reads.rows, reads.bytes) == (PROGRESS, 0), "each report reads the record that it changes, and no more"
        await gateway.report(job, JobStatus.SUCCESS, result=RESULT)
        values = await asyncio.gather(*waiting)
        assert set(values) == {MEGABYTE}
        assert (reads.rows, reads.bytes) == (PROGRESS + 2, len(RESULT.data))


@pytest.mark.gen_test
async def test_a_waiter_for_the_end_of_a_job_is_woken_when_another_job_replaces_it(tmp_path: Path) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        with gateway.jobs._waiters.waiting(job.id) as woken:
            gateway.jobs._on_replaced([job])  # its state before the replacement; it is canceled now
            assert woken.is_set()


async def no_jobs(ids: Collection[str]) -> list[Job]:
    return []


@pytest.mark.gen_test
async def test_a_change_wakes_waiters_for_a_change_and_only_the_end_wakes_waiters_for_the_end() -> None:
    waiters, id = Waiters(no_jobs), a_job().id
    with waiters.waiting(id) as for_the_end, waiters.waiting(id, 3) as for_any, waiters.waiting(a_job().id) as other:
        waiters.wake({id: 4}, [])
        assert (for_the_end.is_set(), for_any.is_set()) == (False, True)
        for_any.clear()
        waiters.wake({id: 5}, [id])
        assert (for_the_end.is_set(), for_any.is_set(), other.is_set()) == (True, True, False)
        waiters.close()
        assert other.is_set()


@pytest.mark.gen_test
async def test_of_a_thousand_waiters_a_change_wakes_the_one_that_does_not_know_it() -> None:
    """For one job, where each but one knows the newest version; and for a thousand jobs."""
    waiters, job, others = Waiters(no_jobs), a_job().id, [a_job().id for _ in range(1_000)]
    with contextlib.ExitStack() as stack:
        known = [stack.enter_context(waiters.waiting(job, 8)) for _ in range(999)]
        behind = stack.enter_context(waiters.waiting(job, 7))
        of_others = [stack.enter_context(waiters.waiting(id, 0)) for id in others]
        waiters.wake({job: 8}, [])
        assert behind.is_set()
        assert not any(woken.is_set() for woken in (*known, *of_others))
        waiters.wake({others[500]: 1}, [])
        assert [woken.is_set() for woken in of_others].count(True) == 1
        assert of_others[500].is_set()
        waiters.wake({job: 9}, [])
        assert all(woken.is_set() for woken in known)


@pytest.mark.gen_test
async def test_a_change_that_arrives_twice_wakes_once(tmp_path: Path) -> None:
    """Here and as an event of another gateway: the second one is no newer version."""
    async with jobs_gateway(tmp_path) as gateway:
        job = await gateway.add_job()
        await gateway.report_progress(job, 1)
        version = (await gateway.jobs.get(job.id)).version
        event = {"from": "other", "changed": [job.id], "versions": [version], "ended": []}
        with gateway.jobs._waiters.waiting(job.id, version) as woken:
            gateway.jobs._on_gateway_event(Event("jobs", event, {}))
            assert not woken.is_set()
            gateway.jobs._on_gateway_event(Event("jobs", {**event, "versions": [version + 1]}, {}))
            assert woken.is_set()


@pytest.mark.parametrize("versions", [None, 5, [], [1, 2], ["1"], [None]])
@pytest.mark.gen_test
async def test_an_event_without_valid_versions_wakes_the_waiters_for_a_change(tmp_path: Path, versions: Any) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        id = a_job().id
        event = {"from": "other", "changed": [id], "versions": versions, "ended": []}
        with gateway.jobs._waiters.waiting(id, 3) as woken, gateway.jobs._waiters.waiting(id) as for_the_end:
            gateway.jobs._on_gateway_event(Event("jobs", event, {}))
            assert (woken.is_set(), for_the_end.is_set()) == (True, False)


@pytest.mark.parametrize(
    ("payload", "wakes"),
    [
        ({"from": "other", "changed": ["{id}"], "ended": []}, False),
        ({"from": "other", "changed": ["{id}"], "ended": ["{id}"]}, True),
        ({"from": "other", "changed": ["{id}"]}, True),  # from an older version of crew: the job may have ended
        ({"from": "other", "changed": ["{id}"], "ended": 5}, True),
        ({"from": "other", "ended": ["{id}"]}, False),
        ({"changed": 5}, False),
        (None, False),
    ],
)
@pytest.mark.gen_test
async def test_another_gateway_wakes_waiters_for_the_end_of_a_job(tmp_path: Path, payload: Any, wakes: bool) -> None:
    async with jobs_gateway(tmp_path) as gateway:
        id = a_job().id
        if payload:
            payload = {
                name: [one.format(id=id) for one in value] if isinstance(value, list) else value
                for name, value in payload.items()
            }
        with gateway.jobs._waiters.waiting(id) as woken:
            gateway.jobs._on_gateway_event(Event("jobs", payload, {}))
            assert woken.is_set() is wakes
