"""The job store on SQLite and on PostgreSQL: lists, and jobs that are due."""

import asyncio
from pathlib import Path

import pytest

from crew.jobs.job import JobStatus
from crew.jobs.store.query import JobQuery
from crew.protocol.message import Body
from crew.protocol.topology import HTTP_TASK
from tests.support.stores import JSON, added, opened, report, started, succeeded

EVERYTHING = JobQuery(statuses=None)


# --- claims ---------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_two_gateways_never_claim_the_same_job(store_url: str) -> None:
    async with opened(store_url, store_url) as [one, two]:
        jobs = [await added(one, publish_at=float(number)) for number in range(30)]
        await added(one, publish_at=1e12)  # leased by another gateway
        await one.mark_enqueued((await added(one, publish_at=0.0)).id, 1.0)
        claimed = [
            claim
            for round in range(4)
            for claim in await asyncio.gather(
                one.claim(100.0, until=200.0, most=5), two.claim(100.0, until=200.0, most=5)
            )
        ]
        ids = [job.id for some in claimed for job in some]
        assert len(ids) == len(set(ids)) == 30
        assert set(ids) == {job.id for job in jobs}
        assert all(job.body is not None and job.publish_at == 200.0 for some in claimed for job in some)
        assert len(await two.claim(201.0, until=300.0, most=50)) == 30  # their leases have ended


@pytest.mark.gen_test
async def test_a_job_that_ended_is_not_claimed(store_url: str) -> None:
    async with opened(store_url) as [store]:
        one = await added(store, publish_at=1.0)
        await store.apply([report(one, JobStatus.CANCELED)])
        assert await store.claim(10.0, until=20.0, most=5) == []


# --- lists ----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_pages_hold_each_job_once_while_others_are_added(store_url: str) -> None:
    async with opened(store_url) as [store]:
        there = [await added(store, created=float(number // 3)) for number in range(25)]  # some in the same instant
        seen, cursor, newer = [], None, 100.0
        while True:
            page = await store.page(JobQuery(limit=4, cursor=cursor))
            seen += [one.id for one in page.jobs]
            if (cursor := page.cursor) is None:
                break
            await added(store, created=(newer := newer + 1.0))
        assert len(seen) == len(set(seen))
        assert set(seen) == {one.id for one in there}
        assert [one.created for one in page.jobs] == sorted((one.created for one in page.jobs), reverse=True)


@pytest.mark.gen_test
async def test_a_list_has_only_the_selected_statuses_and_task(store_url: str) -> None:
    async with opened(store_url) as [store]:
        queued, success, error = [
            [await added(store, task=task, created=float(number)) for task in "ab"] for number in range(3)
        ]
        await store.apply([succeeded(one) for one in success] + [report(one, JobStatus.ERROR) for one in error])

        async def listed(task: str | None, *statuses: JobStatus) -> list[str]:
            query = JobQuery(task=task, statuses=statuses or None)
            return [one.id for one in (await store.page(query)).jobs]

        assert set(await listed(None)) == {one.id for some in (queued, success, error) for one in some}
        assert await listed("a") == [error[0].id, success[0].id, queued[0].id]
        assert await listed("b", JobStatus.SUCCESS) == [success[1].id]
        assert await listed("a", JobStatus.QUEUED, JobStatus.ERROR) == [error[0].id, queued[0].id]
        twice = [JobStatus.QUEUED, JobStatus.ERROR] * 300
        assert await listed("a", *twice) == [error[0].id, queued[0].id]
        assert await listed("c") == await listed(None, JobStatus.TIMEOUT) == []


@pytest.mark.gen_test
@pytest.mark.parametrize("cursor", ["", "nonsense", "!!!", "bm90IGEgbnVtYmVyIGlk", "MS4wAA"])
async def test_a_bad_cursor_is_refused(tmp_path: Path, cursor: str) -> None:
    async with opened(f"sqlite:///{tmp_path}/jobs.db") as [store]:
        with pytest.raises(ValueError, match="cursor must be the cursor of a page of jobs"):
            await store.page(JobQuery(cursor=cursor))


@pytest.mark.gen_test
async def test_overdue_jobs_and_jobs_without_reports_are_found(store_url: str) -> None:
    async with opened(store_url) as [store]:
        late, running = await added(store, start_by=10.0), await added(store, start_by=10.0)
        await added(store, start_by=30.0)
        await store.apply([started(running, at=5.0)])
        assert await store.overdue(20.0, 10) == [late.id]
        assert await store.without_report(6.0, 10) == [running.id]
        assert await store.without_report(5.0, 10) == []


# --- time to live ---------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_purge_deletes_only_records_past_their_time_to_live(store_url: str) -> None:
    async with opened(store_url, store_url) as [store, another]:
        good, bad = [await added(store, result_ttl=10.0, failure_ttl=100.0) for _ in range(2)]
        active = await added(store, result_ttl=0.0, failure_ttl=0.0)
        await store.apply([succeeded(good, at=1000.0), report(bad, JobStatus.TIMEOUT, at=1000.0), started(active)])

        async def left() -> set[str]:
            return {one.id for one in (await store.page(EVERYTHING)).jobs}

        assert await store.purge(1009.0) == 0
        assert sum(await asyncio.gather(store.purge(1011.0), another.purge(1011.0))) == 1
        assert await left() == {bad.id, active.id}
        assert await store.purge(1101.0) == 1
        assert await store.purge(1e12) == 0
        assert await left() == {active.id}


# --- requests of URL jobs -------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_list_contains_small_requests_of_url_jobs_and_no_other_payload(store_url: str) -> None:
    small, large, packed = Body(b'{"url":"http://h/"}', JSON), Body(b"x" * 40_000, JSON), Body(b"x", JSON, "gzip")
    async with opened(store_url) as [store]:
        bodies = {(await added(store, task=HTTP_TASK, body=body)).id: body for body in (small, large, packed)}
        of_task = await added(store, body=small)
        await store.apply([succeeded(of_task)])
        for query in (EVERYTHING, JobQuery(statuses=(JobStatus.QUEUED, JobStatus.SUCCESS), limit=10)):
            listed = {job.id: job.body for job in (await store.page(query)).jobs}
            assert [listed[id] for id in bodies] == [small, None, None]
            assert listed[of_task.id] is None
        assert [(await store.get_with_request(id)).body for id in bodies] == list(bodies.values())
        assert (await store.get_with_request(of_task.id)).body is None


# --- usage ----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_queued_and_running_jobs_are_counted_by_token_and_host(store_url: str) -> None:
    async with opened(store_url) as [store]:
        body = Body(b"12345", JSON)
        mine = [await added(store, body=body, submitter="a", target="h.example") for _ in range(3)]
        await added(store, body=body, submitter="b")
        await added(store, body=body)
        await store.apply([started(mine[0]), succeeded(mine[1])])
        found = {(one.submitter, one.target): (one.jobs, one.size) for one in await store.usage()}
        assert found == {("a", "h.example"): (2, 10), ("b", None): (1, 5), (None, None): (1, 5)}
        kept = await store.get(mine[0].id)
        assert (kept.submitter, kept.target) == ("a", "h.example")
