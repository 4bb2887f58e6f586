"""Progress reports of jobs."""

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


class PlayedProgress:
    """Progress with a fake broker."""

    def __init__(self) -> None:
        self.link = FakeLink()
        self.progress = Progress(Mailbox(asyncio.get_running_loop()), ReplyPublisher(self.link.as_link(), "w"))

    @property
    def values(self) -> list[object]:
        """Values that were sent."""
        found = [properties.to_reply(one.properties, one.body) for one in self.link.published]
        return [codec.decode(Body(one.body.data, codec.JSON)) for one in found if hasattr(one, "body")]


@pytest.mark.gen_test
async def test_the_first_report_is_sent_at_once_and_then_only_the_latest() -> None:
    played, execution = PlayedProgress(), a_job()
    played.progress.report(execution, 0)
    await until(lambda: played.values == [0])
    for number in range(1, 1_000):
        played.progress.report(execution, number)
    played.progress.flush(execution)
    assert played.values == [0, 999]
    assert len(played.progress) == 0


@pytest.mark.gen_test
async def test_while_the_broker_is_away_only_the_latest_report_waits() -> None:
    played, execution = PlayedProgress(), a_job()
    played.link.is_ready = False
    for number in range(10):
        played.progress.report(execution, number)
    await until(lambda: len(played.progress) == 1)
    played.link.is_ready = True
    await until(lambda: played.values == [9])


@pytest.mark.gen_test
async def test_a_call_that_is_no_job_sends_no_progress() -> None:
    played = PlayedProgress()
    played.progress.report(an_execution(), object())
    await asyncio.sleep(0)
    assert played.values == []


@pytest.mark.gen_test
async def test_progress_that_is_not_json_or_too_large_is_refused() -> None:
    played, execution = PlayedProgress(), a_job()
    played.progress.report(execution, "x" * (MAX_PROGRESS - 2))
    with pytest.raises(TooLarge, match="the progress of task 't' cannot be sent"):
        played.progress.report(execution, "x" * (MAX_PROGRESS - 1))
    with pytest.raises(SerializationError):
        played.progress.report(execution, b"bytes")
    played.progress.flush(execution)
