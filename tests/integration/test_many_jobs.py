"""A store with 100,000 jobs that have ended takes less than twice the time of an empty one."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine, insert

from crew.jobs import JobStore
from crew.jobs.job import JobStatus
from crew.jobs.store import rows
from crew.jobs.store.query import JobQuery
from crew.jobs.store.schema import jobs
from crew.protocol.message import Body, new_id
from tests.support.postgresql import Server, ask
from tests.support.stores import JSON, added, job, opened, specification

MANY = 100_000
ROUNDS = 60
FACTOR = 2.0
FINISHED = JobQuery(statuses=(JobStatus.SUCCESS,))

Step = Callable[[JobStore], Awaitable[object]]


async def fill(store: JobStore, url: str) -> None:
    """Insert ended jobs of two tasks, with unique keys; the store's own writer would take a minute."""
    template = rows.of_job(
        job(status=JobStatus.SUCCESS, started=1.0, ended=2.0, result=Body(b"[1,2,3]", JSON), purge_at=4e9, start_by=5.0)
    )
    one = [
        {
            **template,
            "id": new_id(),
            "created": float(number),
            "task": f"task{number % 2}",
            "unique_key": f"k{number % 7}",
        }
        for number in range(10_000)
    ]
    driver = url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(driver)
    with engine.begin() as connection:
        for first in range(0, MANY, len(one)):
            more = [{**row, "id": new_id(), "created": row["created"] + first} for row in one]
            connection.execute(insert(jobs), more)
    engine.dispose()


async def seconds_of(step: Step, store: JobStore) -> float:
    begun = time.perf_counter()
    await step(store)
    return time.perf_counter() - begun


async def compare(step: Step, empty: JobStore, full: JobStore) -> tuple[float, float]:
    """The shortest time of `step` at each store. They take turns; other load on the machine can only add time."""
    taken = [(await seconds_of(step, empty), await seconds_of(step, full)) for _ in range(ROUNDS)]
    small, large = (min(one) for one in zip(*taken, strict=True))
    return small, large


async def newest(store: JobStore) -> object:
    return await store.page(JobQuery(statuses=None, limit=5))


async def of_task(store: JobStore) -> object:
    return await store.page(JobQuery(statuses=None, task="rare", limit=5))


async def queued(store: JobStore) -> object:
    return await store.page(JobQuery(limit=5))


async def submit(store: JobStore) -> object:
    return await added(store, publish_at=time.time())


async def submit_unique(store: JobStore) -> object:
    return await store.insert(specification(unique="skip", unique_key="k3"))


async def maintain(store: JobStore) -> object:
    """The queries of maintenance and of a worker that starts."""
    now = time.time()
    return [
        await store.overdue(now, 10),
        await store.without_report(now, 10),
        await store.revoked(["task0", "task1"], 10),
        await store.claim(0.0, until=now, most=5),
        await store.purge(now),
    ]


@pytest.mark.chaos
@pytest.mark.gen_test(timeout=110)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_hundred_thousand_ended_jobs_do_not_slow_down_the_store(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if kind == "sqlite":
        urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("empty", "full")]
    else:
        server: Server = request.getfixturevalue("postgresql")
        urls = [server.make_database() for _ in range(2)]
    async with opened(*urls) as [empty, full]:
        await fill(full, urls[1])
        if kind == "postgresql":
            ask(urls[1], "ANALYZE")  # as autovacuum does within a minute
        inserted = [await added(store) for store in (empty, full)]
        ids = {id(store): one.id for store, one in zip((empty, full), inserted, strict=True)}

        async def status(store: JobStore) -> object:
            return (await store.get(ids[id(store)], with_bodies=False)).status

        for step in (status, newest, of_task, queued, submit, submit_unique, maintain):
            await asyncio.gather(step(empty), step(full))
            small, large = await compare(step, empty, full)
            print(f"{kind} {step.__name__}: {small * 1000:.2f} ms, with {MANY:,} jobs {large * 1000:.2f} ms")
            assert large < FACTOR * small, step.__name__
        assert len((await full.page(FINISHED)).jobs) == FINISHED.limit
