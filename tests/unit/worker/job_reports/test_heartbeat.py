"""A job that runs for long is said to run, again and again, and no longer than it does."""

import asyncio

import pytest

from crew.protocol import properties
from crew.protocol.message import Outcome, Reply
from crew.worker.execution.execution import Execution
from crew.worker.job_reports import heartbeat
from crew.worker.job_reports.heartbeat import Heartbeat
from crew.worker.replies.reply_publisher import ReplyPublisher
from tests.support.deliveries import a_job
from tests.support.links import FakeLink
from tests.support.waiting import until

EVERY = 0.02  # seconds


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """No half a minute."""
    monkeypatch.setattr(heartbeat, "HEARTBEAT_EVERY", EVERY)


class Heard:
    """A heartbeat, on a broker that the test plays."""

    def __init__(self) -> None:
        self.link = FakeLink()
        self.heartbeat = Heartbeat(ReplyPublisher(self.link.as_link(), "w"))

    def of(self, execution: Execution) -> list[Reply]:
        """What was said of it."""
        said = [properties.to_reply(one.properties, one.body) for one in self.link.published]
        return [one for one in said if isinstance(one, Reply) and one.id == execution.call.id]


@pytest.mark.gen_test
async def test_a_running_job_sends_heartbeats_with_worker_and_start_until_it_ends() -> None:
    heard, ends, stays = Heard(), a_job(), a_job()
    heard.heartbeat.add(ends)
    heard.heartbeat.add(stays)
    await until(lambda: len(heard.of(ends)) > 2)
    heard.heartbeat.remove(ends)
    said = len(heard.of(ends))
    more = len(heard.of(stays)) + 2
    await until(lambda: len(heard.of(stays)) > more)
    assert len(heard.of(ends)) == said
    for one in heard.of(stays):
        assert one.outcome is Outcome.STARTED
        assert one.run is not None
        assert one.run.started == pytest.approx(stays.started_at, abs=0.001)
    heard.heartbeat.stop()


@pytest.mark.gen_test
async def test_heartbeats_are_skipped_while_the_broker_is_away() -> None:
    heard, job = Heard(), a_job()
    heard.link.is_ready = False
    heard.heartbeat.add(job)
    loop = asyncio.get_running_loop()
    back = loop.time() + 3 * EVERY
    await until(lambda: loop.time() > back)
    assert not heard.of(job)
    heard.link.is_ready = True
    await until(lambda: heard.of(job))
    heard.heartbeat.stop()


@pytest.mark.gen_test
async def test_while_no_job_runs_there_is_no_timer() -> None:
    heard, job = Heard(), a_job()
    heard.heartbeat.add(job)
    heard.heartbeat.remove(job)
    heard.heartbeat.remove(job)
    await until(lambda: heard.heartbeat._timer is None)
    heard.heartbeat.add(job)
    await until(lambda: heard.of(job))
    heard.heartbeat.stop()
    heard.heartbeat.stop()
    assert heard.heartbeat._timer is None
