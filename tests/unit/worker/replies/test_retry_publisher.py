"""The retry publisher."""

from typing import Any

import msgspec
import pytest

from crew.amqp import ConfirmStatus
from crew.amqp.outbox.policy import MAX_RETRY_ATTEMPTS, RETRIES
from crew.protocol import failure, properties, topology
from crew.protocol.encoding import codec
from crew.protocol.failure import Failure
from crew.protocol.message import Call, Outcome, Reply
from crew.worker.execution.execution import Execution
from crew.worker.execution.result import Result, failed_with, worker_lost
from crew.worker.execution.state import ExecutionEvent
from crew.worker.replies.reply_publisher import ReplyPublisher
from crew.worker.replies.retry_publisher import RetryPublisher
from tests.support.deliveries import RecordingChannel, an_execution
from tests.support.links import FakeLink, Published, never
from tests.support.waiting import until

FAILED = failed_with(Outcome.RAISED, Failure(type_name="OSError"), retry_after=1.5)


class Sending:
    """A retry publisher on a fake link."""

    def __init__(self, **options: Any) -> None:
        self.link = FakeLink()
        self.retries = RetryPublisher(self.link.as_link(), ReplyPublisher(self.link.as_link(), "w"), **options)
        self.channel = RecordingChannel()
        self.sent = 0

    def send(self, ended: Result = FAILED, **options: Any) -> Execution:
        """Retry a call."""
        execution = an_execution(channel=self.channel, **options)
        self.retries.send(execution, ended, self._on_sent)
        return execution

    def _on_sent(self) -> None:
        self.sent += 1

    async def published(self, count: int = 1) -> list[Published]:
        """Wait until messages were published to the delay exchange, and return them."""
        await until(lambda: len(self._delayed()) >= count)
        return self._delayed()

    def replies(self) -> list[Reply]:
        """Replies so far."""
        found = [properties.to_reply(one.properties, one.body) for one in self.link.published if not one.exchange]
        return [reply for reply in found if isinstance(reply, Reply)]

    def _delayed(self) -> list[Published]:
        return [one for one in self.link.published if one.exchange == topology.RETRY]


def call_in(published: Published) -> Call:
    """Parse the call as the next worker will."""
    return properties.to_call("t", published.properties, published.body, make_id=lambda: "made-here")


@pytest.mark.gen_test
async def test_a_call_goes_through_the_queue_of_its_delay_to_the_queue_of_its_task() -> None:
    sending = Sending()
    sending.send()
    (published,) = await sending.published()
    assert (published.key, published.mandatory) == ("crew.tasks.t", True)
    assert (published.properties.headers or {})["crew-delay"] == 1500
    assert sending.link.declared_once == [*topology.delay_queue(1500)]


@pytest.mark.gen_test
async def test_a_retried_call_differs_only_in_its_attempt() -> None:
    for persistent in (True, False):
        sending = Sending()
        execution = sending.send(data={"a": 1}, timeout=3.0, attempt=2, persistent=persistent, headers={"tenant": "x"})
        (published,) = await sending.published()
        call, original = call_in(published), execution.call
        assert (call.id, call.attempt, call.timeout) == (original.id, 3, 3.0)
        assert call.deadline == pytest.approx(original.deadline, abs=0.001)
        assert (call.reply_to, call.headers, call.persistent) == ("crew.reply.the-client", {"tenant": "x"}, persistent)
        assert codec.decode(call.body) == {"a": 1}
        sending.retries.stop()


@pytest.mark.gen_test
async def test_headers_that_would_break_the_connection_are_removed() -> None:
    sending = Sending()
    sending.send(headers={"tenant": "a", "nested": {"a": [1]}})
    assert call_in((await sending.published())[0]).headers == {"tenant": "a"}


@pytest.mark.gen_test
async def test_a_delivery_is_settled_only_when_the_broker_has_confirmed_the_retry() -> None:
    sending = Sending()
    sending.send()
    await sending.published()
    assert (sending.sent, len(sending.retries)) == (0, 1)
    sending.link.confirm_all()
    await until(lambda: not len(sending.retries))
    assert sending.sent == 1


@pytest.mark.gen_test
@pytest.mark.parametrize(("attempt", "outcomes"), [(1, [Outcome.STARTED]), (2, [])])
async def test_a_retry_announces_the_start_of_the_call_once(attempt: int, outcomes: list[Outcome]) -> None:
    sending = Sending()
    sending.send(attempt=attempt)
    await sending.published()
    sending.link.confirm_all()
    await until(lambda: sending.sent)
    assert [reply.outcome for reply in sending.replies()] == outcomes


@pytest.mark.gen_test
@pytest.mark.parametrize("away", ["is_ready", "breaks"])
async def test_a_retry_waits_while_the_broker_is_away(away: str) -> None:
    sending = Sending()
    sending.link.is_ready = away != "is_ready"
    sending.link.breaks = int(away == "breaks")
    sending.send()
    assert len(sending.retries) == 1
    sending.link.is_ready = True
    await sending.published()
    sending.link.confirm_all()
    await until(lambda: sending.sent)


@pytest.mark.gen_test
async def test_a_retry_whose_confirm_was_lost_is_sent_again() -> None:
    sending = Sending()
    sending.send()
    await sending.published()
    sending.link.confirm_all(ConfirmStatus.LOST)
    await sending.published(2)
    sending.link.confirm_all()
    await until(lambda: sending.sent)


@pytest.mark.gen_test
async def test_a_call_that_is_not_persistent_is_not_sent_twice_and_its_caller_gets_the_failure() -> None:
    sending = Sending()
    execution = sending.send(persistent=False)
    execution.state.move(ExecutionEvent.ACKNOWLEDGE_AT_START)
    await sending.published()
    sending.link.confirm_all(ConfirmStatus.LOST)
    await until(sending.replies)
    assert len(await sending.published()) == 1
    assert [reply.outcome for reply in sending.replies()] == [Outcome.RAISED]


@pytest.mark.gen_test
async def test_a_call_whose_delivery_was_lost_is_not_published_again() -> None:
    """Otherwise the broker would have it twice."""
    sending = Sending()
    sending.link.is_ready = False
    sending.send()
    sending.channel.is_open = False
    sending.link.is_ready = True
    await until(lambda: not len(sending.retries))
    assert (sending.link.published, sending.sent) == ([], 0)


@pytest.mark.gen_test
async def test_an_acknowledged_call_is_retried_even_if_its_channel_is_gone() -> None:
    sending = Sending()
    execution = sending.send()
    execution.state.move(ExecutionEvent.ACKNOWLEDGE_AT_START)
    sending.channel.is_open = False
    await sending.published()


@pytest.mark.gen_test
async def test_a_retry_that_waited_past_the_deadline_is_replaced_by_the_failure() -> None:
    sending = Sending()
    sending.link.is_ready = False
    sending.send(budget=1.4)
    sending.link.is_ready = True
    await until(sending.replies)
    (reply,) = sending.replies()
    assert (reply.outcome, failure.decode(reply.body.data).type_name) == (Outcome.RAISED, "OSError")
    sending.link.confirm_all()
    assert sending.sent == 1


@pytest.mark.gen_test
async def test_a_deleted_delay_queue_is_declared_again() -> None:
    sending = Sending()
    sending.send()
    await sending.published()
    sending.link.confirm_all(ConfirmStatus.RETURNED)
    await sending.published(2)
    assert sending.link.declared_once == [*topology.delay_queue(1500)] * 2


@pytest.mark.gen_test
async def test_a_retry_that_the_broker_never_accepts_is_replaced_by_the_failure() -> None:
    sending = Sending(policy=msgspec.structs.replace(RETRIES, again_after=0.001))
    sending.send()
    for count in range(1, MAX_RETRY_ATTEMPTS + 1):
        await sending.published(count)
        sending.link.confirm_all(ConfirmStatus.REFUSED)
    await until(sending.replies)
    assert [reply.outcome for reply in sending.replies()] == [Outcome.RAISED]


@pytest.mark.gen_test
async def test_a_delay_queue_is_declared_once_a_minute() -> None:
    """Publishing does not count as a use of a queue: RabbitMQ would delete it with the calls in it."""
    now = [1000.0]
    sending = Sending(clock=lambda: now[0])
    for count, (later, declared) in enumerate([(0, 1), (59, 1), (1, 2), (59, 2)], start=1):
        now[0] += later
        sending.send()
        await sending.published(count)
        assert len(sending.link.declared_once) == 2 * declared
    sending.retries.stop()


@pytest.mark.gen_test
async def test_no_retry_is_sent_after_stop() -> None:
    sending = Sending()
    sending.link.is_ready = False
    sending.retries.send(an_execution(), FAILED, never)
    sending.retries.stop()
    await until(lambda: not len(sending.retries))
    assert sending.link.published == []


@pytest.mark.gen_test
async def test_a_call_of_a_stopped_worker_is_published_at_once_with_the_same_attempt() -> None:
    sending = Sending()
    execution = sending.send(worker_lost("stopped", retry_after=0.0), attempt=2, long=True)
    await until(lambda: sending.link.published)
    (published,) = sending.link.published
    assert (published.exchange, published.key, published.mandatory) == ("", "crew.tasks.t", True)
    assert sending.link.declared_once == []
    again = call_in(published)
    assert (again.id, again.attempt, again.reply_to) == (execution.call.id, 2, execution.call.reply_to)
    assert again.deadline == pytest.approx(execution.call.deadline, abs=0.001)
    sending.link.confirm_all()
    await until(lambda: sending.sent)
