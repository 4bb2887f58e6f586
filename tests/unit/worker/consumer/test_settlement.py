"""Settlement: what happens to a delivery and its caller, whatever the broker does with the reply.

The broker is a fake link, so that the test decides when a reply, a retry or a parked message is confirmed.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from crew.amqp import ConfirmStatus, Delivery
from crew.protocol import failure, properties, topology
from crew.protocol.encoding import codec
from crew.protocol.message import Call, Outcome, Reply
from crew.protocol.properties import MalformedMessage, Properties
from crew.worker.consumer.settlement import Settlement
from crew.worker.execution.execution import Execution
from crew.worker.execution.held import Held
from crew.worker.execution.interrupt import InterruptReason
from crew.worker.execution.result import timed_out
from crew.worker.job_reports.jobs import JobReports
from crew.worker.mailbox import Mailbox
from crew.worker.replies.reply_publisher import ReplyPublisher
from crew.worker.replies.retry_publisher import RetryPublisher
from crew.worker.retry_policy import Retry
from tests.support.deliveries import RecordingChannel, a_delivery, an_execution, run
from tests.support.links import FakeLink, Published
from tests.support.waiting import until

ME = "crew.reply.the-client"
QUEUE = topology.task_queue_name("t")


class Counter(Held):
    """Counts the deliveries that are no longer held."""

    def __init__(self) -> None:
        super().__init__()
        self.released: list[str] = []

    def acknowledge(self, delivery: Delivery) -> bool:
        return self._noted(delivery, super().acknowledge(delivery))

    def requeue(self, delivery: Delivery) -> bool:
        return self._noted(delivery, super().requeue(delivery))

    def _noted(self, delivery: Delivery, is_released: bool) -> bool:
        if is_released:
            self.released.append(delivery.queue)
        return is_released


class Settling:
    """A settlement with a fake link and a fake channel."""

    def __init__(self) -> None:
        self.link, self.channel, self.counter = FakeLink(), RecordingChannel(), Counter()
        replies = ReplyPublisher(self.link.as_link(), "w")
        self.settlement = Settlement(
            replies,
            RetryPublisher(self.link.as_link(), replies),
            JobReports(
                "w",
                ["t"],
                publishing=self.link.as_link(),
                replies=replies,
                mailbox=Mailbox(asyncio.get_running_loop()),
            ),
            self.counter,
        )

    def ends(self, function: Callable[[Any], Any] = lambda data: "value", **options: Any) -> Execution:
        """Run a call to its end, and settle it."""
        execution = an_execution(function, channel=self.channel, **options)
        execution.begin()
        run(execution)
        assert execution.result is not None
        self.settlement.settle(execution, execution.result)
        return execution

    def interrupted(self, reason: InterruptReason, **options: Any) -> Execution:
        """Interrupt a call whose task runs on, and settle it."""
        execution = an_execution(retry=Retry(retries=2), channel=self.channel, **options)
        execution.begin()
        execution.interrupt(reason)
        assert execution.result is not None
        self.settlement.settle(execution, execution.result)
        return execution

    def sent(self, key: str = ME) -> list[Published]:
        """Messages with this routing key."""
        return [one for one in self.link.published if one.key == key]

    def replies(self) -> list[tuple[str | None, Outcome]]:
        """Id and outcome of each reply."""
        found = [properties.to_reply(one.properties, one.body) for one in self.sent()]
        return [(one.id, one.outcome) for one in found if isinstance(one, Reply)]

    def is_held(self, delivery: Delivery) -> bool:
        """Whether the delivery is neither acknowledged nor requeued; fails if the count of deliveries disagrees."""
        settled = self.channel.acked + self.channel.requeued
        assert len(self.counter.released) == len(settled)
        return delivery.tag not in settled


@pytest.mark.gen_test
async def test_a_call_is_acknowledged_when_the_broker_has_its_reply() -> None:
    settling = Settling()
    execution = settling.ends()
    assert settling.replies() == [(execution.call.id, Outcome.RETURNED)]
    assert settling.is_held(execution.delivery)
    settling.link.confirm_all()
    assert settling.channel.acked == [execution.delivery.tag]
    assert settling.counter.released == [QUEUE]


@pytest.mark.gen_test
async def test_a_call_stays_held_while_the_broker_is_away_and_its_reply_is_sent_afterwards() -> None:
    settling = Settling()
    settling.link.is_ready = False
    execution = settling.ends()
    await asyncio.sleep(0)
    assert (settling.replies(), settling.is_held(execution.delivery)) == ([], True)


@pytest.mark.gen_test
async def test_a_retry_is_published_and_the_call_acknowledged_when_the_broker_has_it() -> None:
    settling = Settling()
    execution = settling.ends(lambda data: 1 / 0, retry=Retry(retries=1))
    await until(lambda: bool(settling.link.published))
    (retry,) = settling.link.published
    assert (retry.exchange, retry.key) == (topology.RETRY, QUEUE)
    assert settling.is_held(execution.delivery)
    settling.link.confirm_all()
    await until(lambda: not settling.is_held(execution.delivery))
    assert settling.replies() == [(execution.call.id, Outcome.STARTED)], "its client waits for the retry"
    assert settling.channel.requeued == []


@pytest.mark.gen_test
async def test_a_call_whose_task_runs_on_gets_a_reply_and_no_retry() -> None:
    """A retry would run at the same time as the task that could not be interrupted."""
    settling = Settling()
    execution = settling.interrupted(InterruptReason.TIMEOUT)
    assert settling.replies() == [(execution.call.id, Outcome.TIMED_OUT)]
    settling.link.confirm_all()
    assert not settling.is_held(execution.delivery)


@pytest.mark.gen_test
async def test_a_call_that_was_acknowledged_at_its_start_is_acknowledged_once() -> None:
    settling = Settling()
    execution = an_execution(lambda data: "value", channel=settling.channel, persistent=False)
    execution.begin()
    assert settling.settlement.acknowledge_at_start(execution)
    run(execution)
    assert execution.result is not None
    settling.settlement.settle(execution, execution.result)
    settling.link.confirm_all()
    assert settling.channel.acked == [execution.delivery.tag]
    assert settling.counter.released == [QUEUE]


@pytest.mark.gen_test
async def test_a_delivery_that_was_lost_with_its_channel_is_neither_acknowledged_nor_counted() -> None:
    settling = Settling()
    execution = settling.ends()
    settling.channel.is_open = False
    settling.link.confirm_all()
    assert settling.is_held(execution.delivery)
    assert settling.counter.released == []


@pytest.mark.gen_test
async def test_a_call_that_may_run_once_does_not_start_without_its_acknowledgement() -> None:
    settling = Settling()
    settling.channel.is_open = False
    execution = an_execution(channel=settling.channel, persistent=False)
    execution.begin()
    assert not settling.settlement.acknowledge_at_start(execution)


@pytest.mark.gen_test
async def test_the_start_of_a_call_is_announced_once() -> None:
    settling = Settling()
    execution = an_execution(channel=settling.channel)
    execution.begin()
    for _ in range(3):
        settling.settlement.announce(execution)
    assert settling.replies() == [(execution.call.id, Outcome.STARTED)]


@pytest.mark.gen_test
async def test_a_start_that_could_not_be_announced_is_announced_later() -> None:
    settling = Settling()
    execution = an_execution(channel=settling.channel)
    execution.begin()
    settling.link.is_ready = False
    settling.settlement.announce(execution)
    settling.link.is_ready = True
    settling.settlement.announce(execution)
    assert settling.replies() == [(execution.call.id, Outcome.STARTED)]


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.gen_test
async def test_the_stack_of_a_task_that_timed_out_is_sent_only_where_callers_may_see_it(debug: bool) -> None:
    settling = Settling()
    settling.interrupted(InterruptReason.TIMEOUT, stack=(lambda execution: "in the_task") if debug else None)
    (sent,) = settling.sent()
    reply = properties.to_reply(sent.properties, sent.body)
    assert isinstance(reply, Reply)
    assert ("in the_task" in failure.decode(reply.body.data).traceback) is debug


@pytest.mark.gen_test
async def test_the_stack_of_a_task_that_timed_out_is_not_that_of_its_clean_up() -> None:
    settling, places = Settling(), ["in the task"]
    execution = an_execution(channel=settling.channel, stack=lambda execution: places[-1])
    execution.begin()
    execution.interrupt(InterruptReason.TIMEOUT)
    places.append("in its clean-up")
    assert execution.result is not None
    settling.settlement.settle(execution, execution.result)
    (sent,) = settling.sent()
    reply = properties.to_reply(sent.properties, sent.body)
    assert isinstance(reply, Reply)
    assert failure.decode(reply.body.data).traceback == "in the task"


# --- calls that do not run -------------------------------------------------------------------------------------------


def a_call(**fields: Any) -> Call:
    return Call(**{"id": "17", "task": "t", "body": codec.encode(None), "reply_to": ME, **fields})


def a_message(settling: Settling, **fields: Any) -> Delivery:
    """A delivery of a call."""
    given = properties.of_call(a_call(**fields), now=time.time())
    return a_delivery(settling.channel, properties=given)


@pytest.mark.gen_test
async def test_a_refused_call_is_acknowledged_when_the_broker_has_its_reply() -> None:
    settling = Settling()
    delivery = a_message(settling)
    settling.settlement.refuse(delivery, a_call(), timed_out("too late"), executions=1, exit_status="")
    assert (settling.replies(), settling.is_held(delivery)) == ([("17", Outcome.TIMED_OUT)], True)
    settling.link.confirm_all()
    assert settling.channel.acked == [delivery.tag]


@pytest.mark.gen_test
async def test_a_call_that_crashed_too_often_is_parked_before_its_caller_gets_a_reply() -> None:
    settling = Settling()
    delivery = a_message(settling)
    settling.settlement.refuse(delivery, a_call(), timed_out("gone"), executions=3, exit_status="SIGKILL")
    (parked,) = settling.link.published
    assert (parked.key, settling.replies()) == (topology.PARKED, [])
    settling.link.confirm_all()
    assert (settling.replies(), settling.is_held(delivery)) == ([("17", Outcome.TIMED_OUT)], True)
    settling.link.confirm_all()
    assert settling.channel.acked == [delivery.tag]


@pytest.mark.parametrize(
    ("given", "replies"),
    [
        ({"reply_to": ME, "correlation_id": "17"}, [("17", Outcome.RAISED)]),
        ({"reply_to": ME}, []),
        ({"correlation_id": "17"}, []),
        ({}, []),
    ],
)
@pytest.mark.gen_test
async def test_a_malformed_message_is_parked_and_gets_a_reply_if_it_names_a_caller(
    given: dict[str, Any], replies: list[tuple[str, Outcome]]
) -> None:
    settling = Settling()
    delivery = a_delivery(settling.channel, properties=Properties(**given))
    settling.settlement.refuse_malformed(delivery, "t", MalformedMessage("crew-deadline is no number"))
    assert [one.key for one in settling.link.published] == [topology.PARKED]
    assert settling.channel.acked == []
    settling.link.confirm_all()
    assert settling.channel.acked == [delivery.tag]
    assert settling.replies() == replies


@pytest.mark.gen_test
async def test_a_message_without_a_valid_signature_is_parked_and_gets_no_reply() -> None:
    settling = Settling()
    delivery = a_message(settling)
    settling.settlement.park_refused(delivery)
    (parked,) = settling.link.published
    assert parked.key == topology.PARKED
    settling.link.confirm_all(ConfirmStatus.CONFIRMED)
    assert settling.channel.acked == [delivery.tag]
    assert settling.replies() == []
