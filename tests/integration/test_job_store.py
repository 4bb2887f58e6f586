"""The job store on SQLite and on PostgreSQL: both behave alike."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from crew import CrewError, DuplicateCallId, KeyReused, UnknownJob
from crew.jobs.job import JobStatus
from crew.jobs.store.query import JobQuery
from crew.protocol.message import Body, Run
from tests.support.stores import JSON, added, count_by_status, job, opened, report, specification, started, succeeded

EVERYTHING = JobQuery(statuses=None)


# --- recording ------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_recorded_job_is_read_as_it_was_written(store_url: str) -> None:
    everything = job(
        headers={"tenant": "a\x00b ü", "level": 3, "beta": True},
        priority=255,
        timeout=0.25,
        start_by=1_795_000_000.123456,
        result_ttl=0.0,
        failure_ttl=1e9,
        unique_key="ключ" * 60,
        idempotency_key="k" * 255,
        fingerprint="f" * 64,
        wait_for_worker=True,
        origin="2001:db8::1",
        created=1_795_000_000.654321,
        publish_at=1_795_000_010.5,
        body=Body(bytes(range(256)), "application/octet-stream", "gzip"),
    )
    async with opened(store_url) as [store]:
        await store.insert(specification(**{name: getattr(everything, name) for name in everything.__struct_fields__}))
        assert await store.get(everything.id) == everything
    async with opened(store_url) as [later]:
        assert await later.get(everything.id) == everything


@pytest.mark.gen_test
async def test_a_duplicate_id_is_refused_and_its_job_is_unchanged(store_url: str) -> None:
    async with opened(store_url) as [store]:
        first = await added(store, task="first")
        with pytest.raises(DuplicateCallId, match=first.id):
            await store.insert(specification(id=first.id, task="second", may_exist=True))
        assert await store.get(first.id) == first


@pytest.mark.gen_test
async def test_a_job_that_cannot_be_recorded_does_not_affect_other_jobs(store_url: str) -> None:
    async with opened(store_url) as [store]:
        taken = await added(store)
        good = [specification() for _ in range(5)]
        bad = specification(id=taken.id)
        inserted = await asyncio.gather(*map(store.insert, [*good[:2], bad, *good[2:]]), return_exceptions=True)
        assert [type(one) for one in inserted if isinstance(one, Exception)] == [CrewError]
        assert {one.id for one in (await store.page(EVERYTHING)).jobs} == {taken.id, *(one.job.id for one in good)}


@pytest.mark.gen_test
async def test_an_unknown_id_raises_unknown_job(store_url: str) -> None:
    async with opened(store_url) as [store]:
        with pytest.raises(UnknownJob, match="there is no job missing"):
            await store.get("missing")


@pytest.mark.gen_test
async def test_stores_have_the_same_id_only_if_they_use_the_same_database(store_url: str, tmp_path: Path) -> None:
    async with opened(store_url, store_url, f"sqlite:///{tmp_path}/another.db") as [one, two, another]:
        assert one.id == two.id != another.id


# --- unique jobs, keys ----------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_skip_returns_the_active_job_and_records_none(store_url: str) -> None:
    async with opened(store_url) as [store]:
        first = await added(store, unique="skip", unique_key="k")
        second = await store.insert(specification(unique="skip", unique_key="k"))
        assert (second.job.id, second.is_new) == (first.id, False)
        other = await store.insert(specification(unique="skip", unique_key="another"))
        assert other.is_new
        await store.apply([succeeded(first)])
        third = await store.insert(specification(unique="skip", unique_key="k"))
        assert third.is_new
        assert third.job.id != first.id


@pytest.mark.gen_test
async def test_replace_cancels_the_active_job_and_records_another(store_url: str) -> None:
    async with opened(store_url) as [store]:
        first = await added(store, unique="replace", unique_key="k")
        second = await store.insert(specification(unique="replace", unique_key="k"))
        assert [one.id for one in second.replaced] == [first.id]
        assert (await store.get(first.id)).status is JobStatus.CANCELED
        assert (await store.get(second.job.id)).status is JobStatus.QUEUED
        assert await store.revoked(["resize"], 10) == [first.id]


@pytest.mark.gen_test
async def test_the_active_job_is_restored_if_its_replacement_is_refused(store_url: str) -> None:
    async with opened(store_url) as [store]:
        first = await added(store, unique="replace", unique_key="k")
        second = await store.insert(specification(unique="replace", unique_key="k"))
        assert await store.withdraw(second) == ()
        assert (await store.get(first.id)).status is JobStatus.QUEUED
        third = await store.insert(specification(unique="skip", unique_key="k"))
        assert (third.job.id, third.is_new) == (first.id, False)


@pytest.mark.gen_test
async def test_concurrent_unique_jobs_at_two_gateways_are_recorded_once(store_url: str) -> None:
    async with opened(store_url, store_url) as stores:
        keys = [f"k{number}" for number in range(10)]
        orders = (keys, keys[::-1])  # two transactions that meet in the middle
        inserted = await asyncio.gather(
            *(
                store.insert(specification(unique="skip", unique_key=key))
                for store, order in zip(stores, orders, strict=True)
                for key in order
                for _ in range(3)
            )
        )
        new = {one.job.id for one in inserted if one.is_new}
        assert len(new) == len(keys)
        assert {one.job.id for one in inserted} == new


@pytest.mark.gen_test
async def test_one_job_remains_of_those_that_replace_each_other_at_two_gateways(store_url: str) -> None:
    async with opened(store_url, store_url) as stores:
        inserted = await asyncio.gather(
            *(store.insert(specification(unique="replace", unique_key="k")) for _ in range(10) for store in stores)
        )
        assert all(one.is_new for one in inserted)
        counts = await count_by_status(stores[0])
        assert counts == {JobStatus.CANCELED: 19, JobStatus.QUEUED: 1}
        assert len({one.id for result in inserted for one in result.replaced}) == 19


@pytest.mark.gen_test
async def test_an_idempotency_key_returns_the_same_job_even_after_its_end(store_url: str) -> None:
    async with opened(store_url, store_url) as stores:
        same: dict[str, Any] = {"idempotency_key": "k", "fingerprint": "f"}
        inserted = await asyncio.gather(*(store.insert(specification(**same)) for _ in range(5) for store in stores))
        assert len({one.job.id for one in inserted}) == 1
        assert [one.is_new for one in inserted].count(True) == 1
        await stores[0].apply([succeeded(inserted[0].job)])
        assert (await stores[1].insert(specification(**same))).job.id == inserted[0].job.id
        with pytest.raises(KeyReused, match="'k'"):
            await stores[1].insert(specification(idempotency_key="k", fingerprint="another"))


# --- reports --------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_each_report_is_written_to_the_record(store_url: str) -> None:
    async with opened(store_url) as [store]:
        one = await added(store, result_ttl=50.0, publish_at=5.0)
        await store.mark_enqueued(one.id, 10.0)
        await store.apply([started(one, at=20.0, attempt=2)])
        assert (await store.get(one.id)).status is JobStatus.STARTED
        await store.apply([report(one, None, at=25.0, progress=b'{"done":1}')])
        await store.apply([succeeded(one, b"7", at=30.0)])
        then = await store.get(one.id)
        assert then.status is JobStatus.SUCCESS
        assert (then.enqueued, then.started, then.ended, then.elapsed) == (10.0, 20.0, 30.0, 10.0)
        assert (then.host, then.attempts, then.progress, then.result) == ("host:7", 2, b'{"done":1}', Body(b"7", JSON))
        assert (then.publish_at, then.purge_at) == (None, 80.0)


@pytest.mark.gen_test
async def test_reports_of_one_batch_are_applied_in_order(store_url: str) -> None:
    async with opened(store_url) as [store]:
        jobs = [await added(store) for _ in range(3)]
        reports = [make(one) for one in jobs for make in (started, succeeded)]
        settled = await store.apply(reports)
        assert [one.was for one in settled] == [JobStatus.QUEUED, JobStatus.STARTED] * 3
        assert await count_by_status(store) == {JobStatus.SUCCESS: 3}


@pytest.mark.gen_test
async def test_late_duplicate_and_unknown_reports_change_nothing(store_url: str) -> None:
    async with opened(store_url, store_url) as [store, another]:
        one = await added(store)
        await store.apply([succeeded(one, b"1")])
        first = await store.get(one.id)
        late = [succeeded(one, b"2"), started(one), report(one, JobStatus.TIMEOUT), report(one, JobStatus.CANCELED)]
        assert all(settled.is_late for settled in await another.apply([*late, report(job(), JobStatus.ERROR)]))
        assert await store.get(one.id) == first


@pytest.mark.gen_test
async def test_only_one_of_two_concurrent_ends_of_a_job_is_recorded(store_url: str) -> None:
    async with opened(store_url, store_url) as [one, two]:
        jobs = [await added(one) for _ in range(50)]
        applied = await asyncio.gather(
            one.apply([succeeded(job) for job in jobs]),
            two.apply([report(job, JobStatus.CANCELED, may_be_queued=True) for job in reversed(jobs)]),
        )
        for pair in zip(applied[0], reversed(applied[1]), strict=True):
            assert [settled.was for settled in pair].count(JobStatus.QUEUED) == 1
        assert sum((await count_by_status(one)).values()) == 50


@pytest.mark.gen_test
async def test_a_canceled_job_stays_revoked_until_its_message_has_left_the_queue(store_url: str) -> None:
    async with opened(store_url) as [store]:
        one, other = await added(store), await added(store, task="other")
        await store.apply([report(each, JobStatus.CANCELED, may_be_queued=True) for each in (one, other)])
        assert await store.revoked(["resize", "nothing"], 10) == [one.id]
        run = Run(host="host:7", started=1.0, ended=2.0)
        await store.apply([report(one, JobStatus.CANCELED, run=run)])
        assert await store.revoked(["resize", "other"], 10) == [other.id]
        assert (await store.get(one.id)).status is JobStatus.CANCELED


@pytest.mark.gen_test
async def test_deleting_a_result_keeps_the_record(store_url: str) -> None:
    async with opened(store_url) as [store]:
        one = await added(store)
        assert not await store.delete_result(one.id)
        await store.apply([succeeded(one)])
        assert await store.delete_result(one.id)
        assert not await store.delete_result(one.id)
        then = await store.get(one.id)
        assert (then.status, then.result) == (JobStatus.SUCCESS, None)
