"""What tasks say of their jobs, on its way to the broker."""

import asyncio

import pytest

from crew.errors import SerializationError, TooLarge
from crew.protocol import properties
from crew.protocol.encoding import codec
from crew.protocol.message import Body
from crew.worker.job_reports.progress import MAX_PROGRESS, Progress
from crew.worker.mailbox import Mailbox
from crew.worker.replies.reply_publisher import ReplyPublisher
from tests.support.deliveries import a_job, an_execution
from tests.support.links import FakeLink
from tests.support.waiting import until


class Told:
    """Progress, on a broker that the test plays."""

    def __init__(self) -> None:
        self.link = FakeLink()
        self.progress = Progress(Mailbox(asyncio.get_running_loop()), ReplyPublisher(self.link.as_link(), "w"))

    @property
    def values(self) -> list[object]:
        """What has left."""
        found = [properties.to_reply(one.properties, one.body) for one in self.link.published]
        return [codec.decode(Body(one.body.data, codec.JSON)) for one in found if hasattr(one, "body")]


@pytest.mark.gen_test
async def test_the_first_report_is_sent_at_once_and_then_only_the_latest() -> None:
    told, execution = Told(), a_job()
    told.progress.report(execution, 0)
    await until(lambda: told.values == [0])
    for number in range(1, 1_000):
        told.progress.report(execution, number)
    told.progress.flush(execution)
    assert told.values == [0, 999]
    assert len(told.progress) == 0


@pytest.mark.gen_test
async def test_while_the_broker_is_away_only_the_latest_report_waits() -> None:
    told, execution = Told(), a_job()
    told.link.is_ready = False
    for number in range(10):
        told.progress.report(execution, number)
    await until(lambda: len(told.progress) == 1)
    told.link.is_ready = True
    await until(lambda: told.values == [9])


@pytest.mark.gen_test
async def test_a_call_that_is_no_job_sends_no_progress() -> None:
    told = Told()
    told.progress.report(an_execution(), object())
    await asyncio.sleep(0)
    assert told.values == []


@pytest.mark.gen_test
async def test_progress_that_is_not_json_or_too_large_is_refused() -> None:
    told, execution = Told(), a_job()
    told.progress.report(execution, "x" * (MAX_PROGRESS - 2))
    with pytest.raises(TooLarge, match="the progress of task 't' cannot be sent"):
        told.progress.report(execution, "x" * (MAX_PROGRESS - 1))
    with pytest.raises(SerializationError):
        told.progress.report(execution, b"bytes")
    told.progress.flush(execution)
