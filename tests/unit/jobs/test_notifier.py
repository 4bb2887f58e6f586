"""A gateway answers workers that ask which jobs are revoked."""

import asyncio
from collections.abc import Collection, Sequence
from typing import cast

import pytest

from crew.errors import ConnectionError
from crew.jobs import JobStore
from crew.jobs import notifier as notifier_module
from crew.jobs.notifier import Notifier
from crew.protocol.message import RevocationRequest
from crew.protocol.revocation_request import digest, to_revoked
from tests.support.links import FakeLink


class FakeStore:
    """Ids of revoked jobs.

    Attributes:
        asked: the tasks of each read so far.
        may_answer: whether it answers.
    """

    queue = "crew.jobs.a"

    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.is_away = False

    async def revoked(self, tasks: Collection[str], most: int) -> list[str]:
        """As JobStore.revoked."""
        self.asked.append(tuple(tasks))
        await self.may_answer.wait()
        if self.is_away:
            raise ConnectionError("the job store is away")
        return [f"job {number}" for number in range(min(most, 10_000))]


class NotifierUnderTest:
    """A notifier, its link and store, and the tasks of the answered workers."""

    def __init__(self) -> None:
        self.link, self.store = FakeLink(), FakeStore()
        self.notifier = Notifier(self.link.as_link(), cast(JobStore, self.store))
        self.answered: list[Sequence[str]] = []

    async def brief(self, number: int, *tasks: str) -> None:
        """Answer the revocation request of a worker."""
        asked = RevocationRequest(id=f"q{number}", worker=f"w{number}", tasks=tasks or ("t",))
        await self.notifier.answer(asked, self._on_asked)

    async def _on_asked(self, tasks: Sequence[str]) -> None:
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
async def test_a_flood_of_revocation_requests_reads_the_store_one_at_a_time_and_is_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notifier_module, "MAX_WAITING", 5)
    tested = NotifierUnderTest()
    tested.store.may_answer.clear()
    first = asyncio.ensure_future(tested.brief(0, "other"))
    await asyncio.sleep(0)
    for number in range(100):
        await tested.brief(number % 8)
    assert len(tested.notifier._requests) == 5
    assert "revocation request discarded: 5 workers wait for an answer worker='w7'" in caplog.text
    tested.store.may_answer.set()
    await first
    assert tested.store.asked == [("other",), ("t",)], "requests for the same tasks share one read"
    assert len(tested.link.published) == 6


@pytest.mark.gen_test
async def test_after_a_store_error_the_next_worker_is_answered() -> None:
    tested = NotifierUnderTest()
    tested.store.is_away = True
    await tested.brief(1)
    tested.store.is_away = False
    await tested.brief(2)
    assert [one.key for one in tested.link.published] == ["worker.w2"]
