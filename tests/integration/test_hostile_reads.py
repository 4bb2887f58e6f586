"""Texts that PostgreSQL cannot hold are refused where they are looked up or submitted, and harm nobody else."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from crew import Client, CrewError
from crew.jobs import JobQuery, JobStatus, JobStore
from tests.waiting import until

BAD = ["\0", "a\0b", "\ud800", "x" * 70_000]


@pytest.mark.gen_test(timeout=60)
async def test_a_text_that_the_database_cannot_hold_is_refused_and_the_next_use_succeeds(
    store_url: str, broker_url: str
) -> None:
    async with Client(broker_url, store=JobStore(store_url)) as client:
        task = f"nobody.{uuid.uuid4().hex}"
        job = await client.submit(task, wait_for_worker=True)
        for bad in BAD:
            uses: list[Callable[[], Awaitable[Any]]] = [
                lambda bad=bad: client.submit(task, bad, wait_for_worker=True),
                lambda bad=bad: client.submit(task, headers={"x": bad}, wait_for_worker=True),
                lambda bad=bad: client.submit(task, headers={bad: "x"}, wait_for_worker=True),
                lambda bad=bad: client.submit(bad, wait_for_worker=True),
                lambda bad=bad: client.submit(task, id=bad, wait_for_worker=True),
                lambda bad=bad: client.submit(task, unique="skip", key=bad, wait_for_worker=True),
                lambda bad=bad: client.submit(task, idempotency_key=bad, wait_for_worker=True),
                lambda bad=bad: client.jobs.page(JobQuery(task=bad)),
                lambda bad=bad: client.jobs.page(JobQuery(cursor=bad)),
                lambda bad=bad: client.jobs.get(bad),
                lambda bad=bad: client.jobs.cancel(bad),
                lambda bad=bad: client.jobs.store.ids_from(bad, 5),
                lambda bad=bad: client.jobs.store.given_up([bad], 5),
            ]
            for number, use in enumerate(uses):
                try:
                    await use()
                except (CrewError, ValueError) as error:
                    assert "\0" not in str(error), (number, bad[:10])
                except Exception as error:
                    raise AssertionError((number, bad[:10])) from error
                assert await job.status() is JobStatus.QUEUED
        assert await client.jobs.obstacle() is None
        await until(lambda: not client.jobs._inbox)
