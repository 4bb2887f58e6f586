"""The messages of a channel that the broker has not confirmed: each is settled once, and by the right confirm."""

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crew.amqp import Confirm, ConfirmStatus
from crew.amqp.confirms.unconfirmed import SWEEP_ABOVE, Unconfirmed
from crew.amqp.errors import LinkError
from crew.protocol.properties import Properties

CONFIRMED, REFUSED, RETURNED = ConfirmStatus.CONFIRMED, ConfirmStatus.REFUSED, ConfirmStatus.RETURNED
LOST, TOO_LARGE = ConfirmStatus.LOST, ConfirmStatus.TOO_LARGE


class Published:
    """Messages that were published on one channel, and their results in the order of settling."""

    def __init__(self, *ids: str) -> None:
        self.unconfirmed = Unconfirmed()
        self.messages: list[Confirm] = []
        self.settled: list[tuple[int, ConfirmStatus]] = []
        for id in ids:
            self.publish(id)

    def publish(self, id: str, body: bytes = b"") -> None:
        """Publish a message to the queue `q`."""
        message = Confirm("", "q", Properties(correlation_id=id), body, True)
        self.messages.append(message)
        number = len(self.messages)
        message.then(lambda status: self.settled.append((number, status)))
        self.unconfirmed.add(message)

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """The broker confirms a message, or all up to it."""
        self.unconfirmed.on_confirm(tag, multiple, True)

    def nack(self, tag: int, *, multiple: bool = False) -> None:
        """The broker refuses a message, or all up to it."""
        self.unconfirmed.on_confirm(tag, multiple, False)

    def give_back(self, id: str) -> None:
        """The broker returns a message that reaches no queue."""
        self.unconfirmed.on_return("", "q", id)


def test_messages_are_numbered_in_the_order_of_publishing() -> None:
    published = Published("a", "b", "c")
    assert (published.unconfirmed.published, len(published.unconfirmed)) == (3, 3)
    published.ack(2)
    assert (published.unconfirmed.published, len(published.unconfirmed)) == (3, 2)
    assert repr(published.unconfirmed) == "<Unconfirmed: 2 of 3>"


def test_a_confirm_settles_the_message_with_its_number() -> None:
    published = Published("a", "b", "c")
    published.ack(2)
    published.nack(3)
    assert published.settled == [(2, CONFIRMED), (3, REFUSED)]


@pytest.mark.parametrize(("confirm", "status"), [(Published.ack, CONFIRMED), (Published.nack, REFUSED)])
def test_a_multiple_confirm_settles_all_messages_up_to_its_number_in_order(confirm: Any, status: ConfirmStatus) -> None:
    published = Published("a", "b", "c", "d")
    published.ack(2)
    confirm(published, 3, multiple=True)
    assert published.settled == [(2, CONFIRMED), (1, status), (3, status)]


def test_a_second_confirm_and_one_of_an_unknown_message_are_ignored() -> None:
    published = Published("a")
    published.ack(1)
    published.nack(1)
    published.ack(9)
    assert published.settled == [(1, CONFIRMED)]


@pytest.mark.parametrize("confirm", [Published.ack, Published.nack])
def test_a_message_that_the_broker_has_returned_is_not_confirmed(confirm: Any) -> None:
    published = Published("a", "b")
    published.give_back("a")
    confirm(published, 2)
    confirm(published, 1)
    assert [status for _, status in published.settled] == [CONFIRMED if confirm is Published.ack else REFUSED, RETURNED]


def test_a_return_concerns_the_messages_of_its_id_that_were_published_before() -> None:
    published = Published("a", "a")
    published.give_back("a")
    published.publish("a")
    published.ack(3, multiple=True)
    assert published.settled == [(1, RETURNED), (2, RETURNED), (3, CONFIRMED)]


def test_a_return_from_another_queue_concerns_no_other_message() -> None:
    published = Published("a")
    published.unconfirmed.on_return("", "another", "a")
    published.unconfirmed.on_return("exchange", "q", "a")
    published.ack(1)
    assert published.settled == [(1, CONFIRMED)]


def test_any_number_of_returns_of_unknown_messages_is_bounded_and_hides_no_other() -> None:
    published = Published("a")
    published.give_back("a")
    for number in range(3 * SWEEP_ABOVE):
        published.give_back(f"unknown {number}")
    assert len(published.unconfirmed._returned) <= SWEEP_ABOVE + 1
    published.ack(1)
    assert published.settled == [(1, RETURNED)]


def test_messages_that_time_out_are_lost_and_younger_ones_are_not() -> None:
    published = Published("a", "b", "c")
    published.ack(1)
    assert published.unconfirmed.lose_up_to(2) == 1
    assert published.settled == [(1, CONFIRMED), (2, LOST)]
    assert len(published.unconfirmed) == 1


@pytest.mark.parametrize(
    ("settled", "tag", "expected"), [([], 1, True), ([1], 1, False), ([1], 2, True), ([2], 2, True)]
)
def test_an_old_message_is_found_while_it_is_unconfirmed(settled: list[int], tag: int, expected: bool) -> None:
    published = Published("a", "b", "c")
    for one in settled:
        published.ack(one)
    assert published.unconfirmed.has_up_to(tag) is expected


def test_without_messages_none_is_unconfirmed() -> None:
    assert not Unconfirmed().has_up_to(0)
    assert not Unconfirmed()


def test_a_channel_that_closes_loses_its_messages_and_those_above_the_limit_are_too_large() -> None:
    published = Published("a")
    published.publish("b", bytes(11))
    published.publish("c", bytes(10))
    published.unconfirmed.lose(LinkError("the message is too large", largest=10))
    assert published.settled == [(1, LOST), (2, TOO_LARGE), (3, LOST)]
    assert len(published.unconfirmed) == 0


def test_messages_that_are_taken_over_are_returned_in_order_and_left_to_the_caller() -> None:
    published = Published("a", "b", "c")
    published.give_back("b")
    taken = published.unconfirmed.take()
    assert taken == [published.messages[0], published.messages[2]]
    published.ack(3, multiple=True)
    assert published.settled == [(2, RETURNED)]


@pytest.mark.parametrize("closes", [False, True], ids=["a confirm", "a closed channel"])
def test_a_callback_that_fails_does_not_keep_other_messages_unsettled(
    caplog: pytest.LogCaptureFixture, closes: bool
) -> None:
    published = Published("a", "b")
    published.messages[0].then(fails)
    with caplog.at_level(logging.ERROR):
        if closes:
            published.unconfirmed.lose(LinkError("the connection broke"))
        else:
            published.ack(2, multiple=True)
    assert published.settled == [(2, LOST if closes else CONFIRMED)]
    assert "ZeroDivisionError" in caplog.text


def fails(status: ConfirmStatus) -> None:
    raise ZeroDivisionError


STEPS = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from("abc")),
    st.tuples(st.just("return"), st.sampled_from("abc")),
    st.tuples(st.sampled_from(["ack", "ack all", "nack", "nack all", "time out"]), st.integers(0, 12)),
)


@given(st.lists(STEPS, max_size=40), st.booleans())
def test_whatever_happens_each_message_is_settled_once_and_a_returned_one_never_counts_as_confirmed(
    steps: list[tuple[str, Any]], is_taken: bool
) -> None:
    published = Published()
    returned: set[int] = set()
    for step, value in steps:
        if step == "publish":
            published.publish(value)
        elif step == "return":
            open_ones = set(range(1, len(published.messages) + 1)) - dict(published.settled).keys()
            returned |= {number for number in open_ones if published.messages[number - 1].key == value}
            published.give_back(value)
        elif step == "time out":
            published.unconfirmed.lose_up_to(value)
        else:
            confirm = published.ack if step.startswith("ack") else published.nack
            confirm(value, multiple=step.endswith("all"))
    before = len(published.settled)
    left = published.unconfirmed.take() if is_taken else []
    assert all(status is RETURNED for _, status in published.settled[before:])
    for message in left:
        message.settle(LOST)
    published.unconfirmed.lose(LinkError("the connection broke"))
    numbers = [number for number, _ in published.settled]
    assert sorted(numbers) == list(range(1, len(published.messages) + 1))
    assert not [number for number, status in published.settled if number in returned and status is CONFIRMED]
