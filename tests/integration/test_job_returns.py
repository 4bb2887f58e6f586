"""A gateway that was away hears first what was said meanwhile; only then it ends jobs of which it knows nothing."""

import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from crew import Client, ConnectionError
from crew.jobs import JobStatus, JobStore, caretaker
from crew.jobs.caretaker import SILENCE, Caretaker
from crew.jobs.report import Report
from crew.protocol import codec, properties, topology
from crew.protocol.message import Outcome, Reply, Run
from tests.integration import stores
from tests.waiting import until


@pytest.mark.gen_test(timeout=30)
async def test_a_job_that_was_done_in_time_while_no_gateway_was_up_has_not_expired(
    broker_url: str, tmp_path: Path
) -> None:
    url, now = f"sqlite:///{tmp_path}/jobs.db", time.time()
    async with stores.opened(url) as (store,), Client(broker_url) as worker:
        jobs = [
            await stores.added(store, id=str(uuid.uuid4()), created=now - 9, enqueued=now - 9, start_by=now - 5)
            for _ in range(150)
        ]
        link = worker.links.publishing
        await link.declare_once(*topology.jobs_queue(store.id))
        for job in jobs:
            reply = Reply(
                id=job.id,
                outcome=Outcome.RETURNED,
                body=codec.encode("done"),
                persistent=True,
                run=Run(host="host:7", started=now - 8, ended=now - 7),
            )
            await link.publish("", store.queue, properties.of_reply(reply), reply.body.data, mandatory=True)
    async with Client(broker_url, store=JobStore(url)) as client:
        ended = [await client.jobs.wait(job.id, 10) for job in jobs]
        assert {job.status for job in ended} == {JobStatus.SUCCESS}


class Watched:
    """A caretaker that has listened for long to whatever was said, and one job that runs since long."""

    def __init__(self, store: JobStore) -> None:
        self.ended: list[Report] = []
        self.rounds = 0
        self.is_away = False
        self._purge = store.purge
        store.purge = self._look  # type: ignore[method-assign]
        self.caretaker = Caretaker(store, _NoPublisher(), settle=self._settle, has_listened=lambda: 2 * SILENCE)  # type: ignore[arg-type]

    async def _look(self, now: float) -> int:
        """The last step of a round."""
        self.rounds += 1
        if self.is_away:
            raise ConnectionError("the job store is away")  # so do the others
        return await self._purge(now)

    async def _settle(self, reports: Sequence[Report]) -> None:
        self.ended.extend(reports)

    async def looks_again(self) -> None:
        """Wait until all steps of a round are done."""
        seen = self.rounds
        await until(lambda: self.rounds > seen + 1)


class _NoPublisher:
    can_publish = False


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caretaker, "EVERY", 0.02)


Jump = Callable[[Watched, pytest.MonkeyPatch], None]


def the_store_is_away(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.is_away = True


def the_process_is_stopped(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or its host sleeps, or somebody sets its clock: there is a hole in its time."""


@pytest.mark.parametrize("away", [the_store_is_away, the_process_is_stopped])
@pytest.mark.gen_test(timeout=10)
async def test_a_job_is_not_given_up_as_silent_by_a_gateway_that_could_not_hear_of_it(
    away: Jump, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    async with stores.opened(f"sqlite:///{tmp_path}/jobs.db") as (store,):
        job = await stores.added(store, created=now())
        await store.settle([stores.started(job)])
        watched = Watched(store)
        watched.caretaker.start()
        await watched.looks_again()
        away(watched, monkeypatch)
        await watched.looks_again()
        monkeypatch.setattr(time, "time", lambda: now() + SILENCE + 10)
        await watched.looks_again()
        watched.is_away = False
        await watched.looks_again()
        await watched.caretaker.stop()
        assert watched.ended == []
