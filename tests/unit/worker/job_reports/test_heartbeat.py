"""Heartbeats of running jobs."""

import asyncio

import pytest

from crew.protocol import properties
from crew.protocol.message import Outcome, Reply
from crew.worker.execution.execution import Execution
from crew.worker.job_reports.heartbeat import Heartbeat
from crew.worker.replies.reply_publisher import ReplyPublisher
from tests.support.deliveries import a_job
from tests.support.links import FakeLink
from tests.support.waiting import until

EVERY = 0.02  # seconds


class PlayedHeartbeat:
    """A heartbeat with a fake broker."""

    def __init__(self) -> None:
        self.link = FakeLink()
        self.heartbeat = Heartbeat(ReplyPublisher(self.link.as_link(), "w"), every=EVERY)

    def of(self, execution: Execution) -> list[Reply]:
        """Heartbeats sent for `execution`."""
        sent = [properties.to_reply(one.properties, one.body) for one in self.link.published]
        return [one for one in sent if isinstance(one, Reply) and one.id == execution.call.id]


@pytest.mark.gen_test
async def test_a_running_job_sends_heartbeats_with_worker_and_start_until_it_ends() -> None:
    played, ends, stays = PlayedHeartbeat(), a_job(), a_job()
    played.heartbeat.add(ends)
    played.heartbeat.add(stays)
    await until(lambda: len(played.of(ends)) > 2)
    played.heartbeat.remove(ends)
    sent = len(played.of(ends))
    more = len(played.of(stays)) + 2
    await until(lambda: len(played.of(stays)) > more)
    assert len(played.of(ends)) == sent
    for one in played.of(stays):
        assert one.outcome is Outcome.STARTED
        assert one.run is not None
        assert one.run.started == pytest.approx(stays.times.started_at, abs=0.001)
    played.heartbeat.stop()


@pytest.mark.gen_test
async def test_heartbeats_are_skipped_while_the_broker_is_away() -> None:
    played, job = PlayedHeartbeat(), a_job()
    played.link.is_ready = False
    played.heartbeat.add(job)
    loop = asyncio.get_running_loop()
    back = loop.time() + 3 * EVERY
    await until(lambda: loop.time() > back)
    assert not played.of(job)
    played.link.is_ready = True
    await until(lambda: played.of(job))
    played.heartbeat.stop()


@pytest.mark.gen_test
async def test_while_no_job_runs_there_is_no_timer() -> None:
    played, job = PlayedHeartbeat(), a_job()
    played.heartbeat.add(job)
    played.heartbeat.remove(job)
    played.heartbeat.remove(job)
    await until(lambda: played.heartbeat._timer is None)
    played.heartbeat.add(job)
    await until(lambda: played.of(job))
    played.heartbeat.stop()
    played.heartbeat.stop()
    assert played.heartbeat._timer is None
