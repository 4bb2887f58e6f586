"""Text that PostgreSQL cannot store is refused by each lookup and submit; other operations are not affected."""

import functools
import uuid
from collections.abc import Awaitable, Callable

import pytest

from crew import Client, CrewError
from crew.jobs import JobQuery, JobStatus, JobStore
from tests.support.waiting import until

BAD = ["\0", "a\0b", "\ud800", "x" * 70_000]


@pytest.mark.gen_test(timeout=60)
async def test_a_text_that_the_database_cannot_store_is_refused_and_the_next_use_succeeds(
    store_url: str, broker_url: str
) -> None:
    async with Client(broker_url, store=JobStore(store_url)) as client:
        task = f"unserved.{uuid.uuid4().hex}"
        job = await client.submit(task, wait_for_worker=True)
        for bad in BAD:
            for number, use in enumerate(_uses(client, task, bad)):
                try:
                    await use()
                except (CrewError, ValueError) as error:
                    assert "\0" not in str(error), (number, bad[:10])
                except Exception as error:
                    raise AssertionError((number, bad[:10])) from error
                assert await job.status() is JobStatus.QUEUED
        assert await client.jobs.obstacle() is None
        await until(lambda: not client.jobs._inbox)


def _uses(client: Client, task: str, bad: str) -> list[Callable[[], Awaitable[object]]]:
    """All operations that pass a text to the database."""
    jobs = client.jobs
    submit = functools.partial(client.submit, task, wait_for_worker=True)
    return [
        lambda: client.submit(task, bad, wait_for_worker=True),
        lambda: submit(headers={"x": bad}),
        lambda: submit(headers={bad: "x"}),
        lambda: client.submit(bad, wait_for_worker=True),
        lambda: submit(id=bad),
        lambda: submit(unique="skip", unique_key=bad),
        lambda: submit(idempotency_key=bad),
        lambda: jobs.page(JobQuery(task=bad)),
        lambda: jobs.page(JobQuery(cursor=bad)),
        lambda: jobs.get(bad),
        lambda: jobs.cancel(bad),
        lambda: jobs.store.ids_with_prefix(bad, 5),
        lambda: jobs.store.revoked([bad], 5),
    ]
