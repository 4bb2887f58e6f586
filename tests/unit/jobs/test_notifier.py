"""A gateway answers requests of workers for the revoked jobs."""

import asyncio
from collections.abc import Collection, Sequence
from typing import cast

import pytest

from crew.errors import ConnectionError
from crew.jobs import JobStore
from crew.jobs.notifier import Notifier
from crew.protocol.message import RevocationRequest
from crew.protocol.revocation_request import digest, to_revoked
from tests.support.links import FakeLink


class FakeStore:
    """A store with revoked jobs.

    Attributes:
        reads: tasks of each read so far.
        may_return: set if reads may return.
    """

    queue = "crew.jobs.a"

    def __init__(self) -> None:
        self.reads: list[Sequence[str]] = []
        self.may_return = asyncio.Event()
        self.may_return.set()
        self.is_away = False

    async def revoked(self, tasks: Collection[str], most: int) -> list[str]:
        """Return ids of revoked jobs, as JobStore does."""
        self.reads.append(tuple(tasks))
        await self.may_return.wait()
        if self.is_away:
            raise ConnectionError("the job store is away")
        return [f"job {number}" for number in range(min(most, 10_000))]


class NotifierUnderTest:
    """A notifier, its link and store, and the tasks of the answered workers."""

    def __init__(self, *, max_waiting: int = 1_000) -> None:
        self.link, self.store = FakeLink(), FakeStore()
        self.notifier = Notifier(self.link.as_link(), cast(JobStore, self.store), max_waiting=max_waiting)
        self.answered: list[Sequence[str]] = []

    async def brief(self, number: int, *tasks: str) -> None:
        """Answer the revocation request of a worker."""
        request = RevocationRequest(id=f"q{number}", worker=f"w{number}", tasks=tasks or ("t",))
        await self.notifier.answer(request, self._on_answered)

    async def _on_answered(self, tasks: Sequence[str]) -> None:
        self.answered.append(tasks)


@pytest.mark.gen_test
async def test_the_answer_is_one_message_without_ids_for_any_number_of_jobs() -> None:
    tested = NotifierUnderTest()
    await tested.brief(7)
    (published,) = tested.link.published
    assert (published.key, published.properties.correlation_id) == ("worker.w7", "q7 crew.jobs.a")
    assert len(published.body) == 80_000
    assert b"job" not in published.body
    assert digest("q7", "job 17") in to_revoked(published.body)
    assert tested.answered == [("t",)]


@pytest.mark.gen_test
async def test_many_revocation_requests_are_bounded_and_read_the_store_one_at_a_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tested = NotifierUnderTest(max_waiting=5)
    tested.store.may_return.clear()
    first = asyncio.ensure_future(tested.brief(0, "other"))
    await asyncio.sleep(0)
    for number in range(100):
        await tested.brief(number % 8)
    assert len(tested.notifier._requests) == 5
    assert "revocation request discarded: 5 workers wait for an answer worker='w7'" in caplog.text
    tested.store.may_return.set()
    await first
    assert tested.store.reads == [("other",), ("t",)], "requests for the same tasks share one read"
    assert len(tested.link.published) == 6


@pytest.mark.gen_test
async def test_after_a_store_error_the_next_worker_is_answered() -> None:
    tested = NotifierUnderTest()
    tested.store.is_away = True
    await tested.brief(1)
    tested.store.is_away = False
    await tested.brief(2)
    assert [one.key for one in tested.link.published] == ["worker.w2"]
