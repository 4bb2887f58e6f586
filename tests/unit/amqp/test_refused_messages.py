"""Which of several messages the broker refuses: with a broker that the test plays."""

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


class PlayedChannel:
    """Takes messages in their order until one is refused: then it is closed, and what follows is thrown away."""

    def __init__(self, broker: "PlayedBroker", on_closed: Callable[[LinkError], None]) -> None:
        self.is_open = True
        self._broker = broker
        self._on_closed = on_closed
        self._sent: list[Confirm] = []

    def send(self, message: Confirm) -> None:
        """As Channel.send."""
        self._sent.append(message)
        if len(self._sent) == 1:
            asyncio.get_running_loop().call_soon(self._answer)

    async def close(self) -> None:
        """As Channel.close."""
        self.is_open = False

    def _answer(self) -> None:
        sent, self._sent = self._sent, []
        for message in sent:
            if self.is_open and (fault := self._broker.why_refused(message)):
                self.is_open = False
                self._on_closed(fault)
            if self.is_open:
                self._broker.taken.append(message)
            message.settle(ConfirmStatus.CONFIRMED if self.is_open else ConfirmStatus.LOST)


class PlayedBroker:
    """A broker that refuses messages whose id is in `refused`, whatever their queue, or in `refused_there`.

    Attributes:
        taken: messages that it has taken.
        opened: channels.
    """

    def __init__(self, refused: set[str], refused_there: set[str] = set()) -> None:  # noqa: B006  # never changed
        self.refused, self.refused_there = refused, refused_there
        self.fault = FAULT
        self.taken: list[Confirm] = []
        self.opened = 0

    async def open_channel(self, *, on_closed: Callable[[LinkError], None]) -> Channel:
        """As Link.open_channel."""
        self.opened += 1
        channel: Any = PlayedChannel(self, on_closed)
        return channel  # type: ignore[no-any-return]

    def why_refused(self, message: Confirm) -> LinkError | None:
        """Why it refuses `message`."""
        is_refused = message.key in self.refused or (message.key in self.refused_there and message.routing_key == "q")
        return self.fault if is_refused else None


def a_message(number: int, *, mode: int, exchange: str = "", key: str = "q", size: int = 1) -> Confirm:
    """One that was published."""
    return Confirm(exchange, key, Properties(correlation_id=str(number), delivery_mode=mode), b"x" * size)


async def settled(
    broker: PlayedBroker, messages: list[Confirm], fault: LinkError = FAULT, on_failed: Callable[..., None] = never
) -> list[Confirm]:
    """Have `messages` looked into; returns those that were sent again."""
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
def test_each_message_that_is_refused_is_found_and_no_other_suffers(modes: list[int], bad: set[int]) -> None:
    bad = {number for number in bad if number < len(modes)} or {0}
    broker = PlayedBroker({str(number) for number in bad})
    messages = [a_message(number, mode=mode) for number, mode in enumerate(modes)]
    again = asyncio.run(settled(broker, messages))
    for number, message in enumerate(messages):
        if number in bad:
            assert (message.status, message in again) == (ConfirmStatus.INVALID, False)
            assert message.reason == "PRECONDITION_FAILED - invalid message: because of this (406)"
        elif number < min(bad) and modes[number] == 1:
            assert (message.status, message in again) == (ConfirmStatus.CONFIRMED, False), "it has arrived"
        else:
            assert (message.status, message in again) == (None, True)
    assert all(message.routing_key.startswith("crew.refused.") for message in broker.taken), "nothing arrives twice"


@pytest.mark.gen_test
async def test_what_is_accepted_the_second_time_is_no_refusal() -> None:
    messages = [a_message(number, mode=2) for number in range(3)]
    assert await settled(PlayedBroker(set()), messages) == []
    assert {message.status for message in messages} == {ConfirmStatus.CONFIRMED}


@pytest.mark.gen_test
async def test_what_is_refused_for_its_queue_alone_is_found_among_those_that_may_arrive_twice() -> None:
    messages = [a_message(number, mode=1 + number % 2) for number in range(6)]
    await settled(PlayedBroker(set(), {"3"}), messages)
    assert [message.status for message in messages] == [
        ConfirmStatus.LOST if number % 2 == 0 else ConfirmStatus.INVALID if number == 3 else ConfirmStatus.CONFIRMED
        for number in range(6)
    ]


@pytest.mark.gen_test
async def test_what_the_text_names_is_found_without_copies() -> None:
    text = "ACCESS_REFUSED - write access to topic 'b' in exchange 'crew.PUBSUB' in vhost '/' refused for user 'u'"
    fault = link_error(ChannelClosedByBroker(403, text))
    broker = PlayedBroker({"1"})
    broker.fault = fault
    messages = [a_message(number, mode=1, exchange="crew.PUBSUB", key=key) for number, key in enumerate("abab")]
    assert await settled(broker, messages, fault) == [messages[2]]
    assert [message.status for message in messages] == [
        ConfirmStatus.CONFIRMED,
        ConfirmStatus.INVALID,
        None,
        ConfirmStatus.CONFIRMED,
    ], "the second one on the topic was accepted when it was tried again"
    assert "user 'u' may not use topic 'b'" in messages[1].reason


@pytest.mark.gen_test
async def test_all_that_are_too_large_are_known_at_once() -> None:
    text = "PRECONDITION_FAILED - message size 11 is larger than configured max size 10"
    fault = link_error(ChannelClosedByBroker(406, text))
    broker = PlayedBroker(set())
    messages = [a_message(number, mode=2, size=size) for number, size in enumerate((10, 11, 9, 50))]
    assert await settled(broker, messages, fault) == [messages[0], messages[2]]
    assert [messages[1].status, messages[3].status] == [ConfirmStatus.TOO_LARGE] * 2
    assert broker.opened == 0


@pytest.mark.gen_test
async def test_a_connection_that_is_lost_meanwhile_loses_what_is_in_question() -> None:
    broker, failed = PlayedBroker({"1"}), list[LinkError]()
    broker.fault = link_error(StreamLostError("gone"))
    messages = [a_message(number, mode=2) for number in range(3)]
    again: list[Confirm] = []
    refusals = RefusedMessages(broker.open_channel, again.extend)
    refusals.add(ClosedChannel(FAULT, messages, failed.append))
    assert refusals._task is not None
    await refusals._task
    assert len(failed) == 1, "a new connection is asked for"
    refusals.lose()
    assert {message.status for message in messages} == {ConfirmStatus.LOST}
    assert again == []


def test_a_reason_is_one_line_of_bounded_length() -> None:
    told = brief_reason(link_error(ChannelClosedByBroker(406, "x\n" * 1_000)))
    assert len(told) <= 303
    assert "\n" not in told
