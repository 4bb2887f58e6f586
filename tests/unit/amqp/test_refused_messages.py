"""Finds which of several messages the broker refuses; the test plays the broker."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika.exceptions import ChannelClosedByBroker, StreamLostError

from crew.amqp.channel import Channel
from crew.amqp.confirms.confirm import Confirm, ConfirmStatus
from crew.amqp.errors import LinkError, brief_reason, link_error
from crew.amqp.refused_messages import ClosedChannel, RefusedMessages
from crew.protocol.properties import Properties
from tests.support.links import never

FAULT = link_error(ChannelClosedByBroker(406, "PRECONDITION_FAILED - invalid message: because\nof this"))


class FakeChannel:
    """Accepts messages in order; a refused message closes the channel, and later messages are lost."""

    def __init__(self, broker: "FakeBroker", on_closed: Callable[[LinkError], None]) -> None:
        self.is_open = True
        self._broker = broker
        self._on_closed = on_closed
        self._sent: list[Confirm] = []

    def send(self, message: Confirm) -> None:
        """Publish a message."""
        self._sent.append(message)
        if len(self._sent) == 1:
            asyncio.get_running_loop().call_soon(self._answer)

    async def close(self) -> None:
        """Close the channel."""
        self.is_open = False

    def _answer(self) -> None:
        sent, self._sent = self._sent, []
        for message in sent:
            if self.is_open and (fault := self._broker.fault_of(message)):
                self.is_open = False
                self._on_closed(fault)
            if self.is_open:
                self._broker.accepted.append(message)
            message.settle(ConfirmStatus.CONFIRMED if self.is_open else ConfirmStatus.LOST)


class FakeBroker:
    """A broker that refuses messages by their id: `refused` in any queue, `refused_in_q` in the queue q only.

    Attributes:
        accepted: messages that it has accepted.
        opened: number of channels that were opened.
    """

    def __init__(self, refused: set[str], refused_in_q: set[str] = set()) -> None:  # noqa: B006  # never changed
        self.refused, self.refused_in_q = refused, refused_in_q
        self.fault = FAULT
        self.accepted: list[Confirm] = []
        self.opened = 0

    async def open_channel(self, *, on_closed: Callable[[LinkError], None]) -> Channel:
        """Open a channel."""
        self.opened += 1
        channel: Any = FakeChannel(self, on_closed)
        return channel  # type: ignore[no-any-return]

    def fault_of(self, message: Confirm) -> LinkError | None:
        """The fault with which it refuses `message`, or None."""
        is_refused = message.key in self.refused or (message.key in self.refused_in_q and message.routing_key == "q")
        return self.fault if is_refused else None


def a_message(number: int, *, mode: int, exchange: str = "", key: str = "q", size: int = 1) -> Confirm:
    """A published message."""
    return Confirm(exchange, key, Properties(correlation_id=str(number), delivery_mode=mode), b"x" * size)


async def settled(
    broker: FakeBroker, messages: list[Confirm], fault: LinkError = FAULT, on_failed: Callable[..., None] = never
) -> list[Confirm]:
    """Find the refused ones of `messages`; return those that were sent again."""
    again: list[Confirm] = []
    refusals = RefusedMessages(broker.open_channel, again.extend)
    refusals.add(ClosedChannel(fault, messages, on_failed))
    task = refusals._task
    assert task is not None
    await task
    assert len(refusals) == 0 or on_failed is not never
    return again


@given(
    st.lists(st.sampled_from([1, 2]), min_size=1, max_size=40),
    st.sets(st.integers(0, 39), min_size=1, max_size=6),
)
@settings(deadline=None, max_examples=60)
def test_every_refused_message_is_found_and_no_other_is_refused(modes: list[int], bad: set[int]) -> None:
    bad = {number for number in bad if number < len(modes)} or {0}
    broker = FakeBroker({str(number) for number in bad})
    messages = [a_message(number, mode=mode) for number, mode in enumerate(modes)]
    again = asyncio.run(settled(broker, messages))
    for number, message in enumerate(messages):
        if number in bad:
            assert (message.status, message in again) == (ConfirmStatus.INVALID, False)
            assert message.reason == "PRECONDITION_FAILED - invalid message: because of this (406)"
        elif number < min(bad) and modes[number] == 1:
            assert (message.status, message in again) == (ConfirmStatus.CONFIRMED, False), "it was accepted"
        else:
            assert (message.status, message in again) == (None, True)
    assert all(message.routing_key.startswith("crew.refused.") for message in broker.accepted), "no duplicates"


@pytest.mark.gen_test
async def test_messages_that_are_accepted_the_second_time_are_confirmed() -> None:
    messages = [a_message(number, mode=2) for number in range(3)]
    assert await settled(FakeBroker(set()), messages) == []
    assert {message.status for message in messages} == {ConfirmStatus.CONFIRMED}


@pytest.mark.gen_test
async def test_a_message_refused_by_its_queue_is_found_if_it_may_be_sent_twice() -> None:
    messages = [a_message(number, mode=1 + number % 2) for number in range(6)]
    await settled(FakeBroker(set(), {"3"}), messages)
    assert [message.status for message in messages] == [
        ConfirmStatus.LOST if number % 2 == 0 else ConfirmStatus.INVALID if number == 3 else ConfirmStatus.CONFIRMED
        for number in range(6)
    ]


@pytest.mark.gen_test
async def test_a_message_that_the_error_names_is_found_without_copies() -> None:
    text = "ACCESS_REFUSED - write access to topic 'b' in exchange 'crew.PUBSUB' in vhost '/' refused for user 'u'"
    fault = link_error(ChannelClosedByBroker(403, text))
    broker = FakeBroker({"1"})
    broker.fault = fault
    messages = [a_message(number, mode=1, exchange="crew.PUBSUB", key=key) for number, key in enumerate("abab")]
    assert await settled(broker, messages, fault) == [messages[2]]
    assert [message.status for message in messages] == [
        ConfirmStatus.CONFIRMED,
        ConfirmStatus.INVALID,
        None,
        ConfirmStatus.CONFIRMED,
    ], "the second message on the topic was accepted when it was sent again"
    assert "user 'u' may not use topic 'b'" in messages[1].reason


@pytest.mark.gen_test
async def test_all_messages_that_are_too_large_are_found_without_a_channel() -> None:
    text = "PRECONDITION_FAILED - message size 11 is larger than configured max size 10"
    fault = link_error(ChannelClosedByBroker(406, text))
    broker = FakeBroker(set())
    messages = [a_message(number, mode=2, size=size) for number, size in enumerate((10, 11, 9, 50))]
    assert await settled(broker, messages, fault) == [messages[0], messages[2]]
    assert [messages[1].status, messages[3].status] == [ConfirmStatus.TOO_LARGE] * 2
    assert broker.opened == 0


@pytest.mark.gen_test
async def test_unsettled_messages_are_lost_if_the_connection_is_lost_meanwhile() -> None:
    broker, failed = FakeBroker({"1"}), list[LinkError]()
    broker.fault = link_error(StreamLostError("gone"))
    messages = [a_message(number, mode=2) for number in range(3)]
    again: list[Confirm] = []
    refusals = RefusedMessages(broker.open_channel, again.extend)
    refusals.add(ClosedChannel(FAULT, messages, failed.append))
    assert refusals._task is not None
    await refusals._task
    assert len(failed) == 1, "a new connection is requested"
    refusals.lose()
    assert {message.status for message in messages} == {ConfirmStatus.LOST}
    assert again == []


def test_a_reason_is_one_line_of_limited_length() -> None:
    reason = brief_reason(link_error(ChannelClosedByBroker(406, "x\n" * 1_000)))
    assert len(reason) <= 303
    assert "\n" not in reason
