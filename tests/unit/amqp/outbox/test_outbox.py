"""Messages of an outbox are published, and published again, until the broker has taken them."""

import pytest

from crew.amqp import ConfirmStatus
from crew.amqp.outbox.policy import CALLS, EVENTS, JOBS, REPLIES, RETRIES, OutboxPolicy, Repeatable
from tests.support.outboxes import KEPT, Message, Sender

CONFIRMED, RETURNED, REFUSED = ConfirmStatus.CONFIRMED, ConfirmStatus.RETURNED, ConfirmStatus.REFUSED
TOO_LARGE, INVALID, LOST = ConfirmStatus.TOO_LARGE, ConfirmStatus.INVALID, ConfirmStatus.LOST


# --- the ordinary case ------------------------------------------------------------------------------------------------


def test_a_message_is_published_at_once_and_settled_with_its_confirm() -> None:
    sender = Sender()
    message = sender.send()
    assert (sender.published, message.ends, len(sender.outbox)) == (["1"], [], 1)
    sender.link.confirm_all()
    assert (message.ends, message.retries, len(sender.outbox)) == ([CONFIRMED], [], 0)
    assert sender.timers.waits == []


def test_a_message_is_shown_without_its_body() -> None:
    assert repr(Sender().send("17")) == "<Message 17 number 1>"


@pytest.mark.parametrize("policy", [CALLS, REPLIES, RETRIES, JOBS, EVENTS], ids=lambda policy: policy.name)
@pytest.mark.parametrize("status", [TOO_LARGE, INVALID])
def test_a_message_that_the_broker_does_not_accept_is_never_published_again(
    policy: OutboxPolicy, status: ConfirmStatus
) -> None:
    sender = Sender(policy)
    message = sender.send()
    sender.answer(status)
    assert (message.ends, sender.published, len(sender.outbox)) == ([status], ["1"], 0)


def test_a_message_that_cannot_be_published_any_more_fails() -> None:
    sender = Sender()
    message = Message(link=sender.link, id="1")
    message.failure = ValueError("it is too late")
    sender.outbox.send(message)
    assert (message.ends, len(sender.outbox)) == ([message.failure], 0)


# --- the connection ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("away", ["is_ready", "breaks"])
def test_a_message_waits_while_the_broker_is_away(away: str) -> None:
    sender = Sender()
    sender.link.is_ready = away != "is_ready"
    sender.link.breaks = int(away == "breaks")
    message = sender.send()
    assert (sender.published, len(sender.outbox)) == ([], 1)
    sender.reconnect()
    sender.link.confirm_all()
    assert (sender.published, message.ends, len(sender.outbox)) == (["1"], [CONFIRMED], 0)


@pytest.mark.parametrize(
    ("lost", "persistent", "again"),
    [
        (Repeatable.NONE, True, False),
        (Repeatable.NONE, False, False),
        (Repeatable.PERSISTENT, True, True),
        (Repeatable.PERSISTENT, False, False),
        (Repeatable.ALL, True, True),
        (Repeatable.ALL, False, True),
    ],
)
def test_a_message_whose_confirm_was_lost_is_published_again_if_it_may_arrive_twice(
    lost: Repeatable, persistent: bool, again: bool
) -> None:
    sender = Sender(lost=lost)
    message = sender.send(persistent=persistent)
    sender.lose_connection()
    assert message.ends == ([] if again else [LOST])
    assert message.retries == ([LOST] if again else [])
    sender.reconnect()
    assert sender.published == (["1", "1"] if again else ["1"])


def test_messages_are_published_in_the_order_in_which_they_were_first_sent() -> None:
    sender = Sender()
    for id in ("1", "2"):
        sender.send(id)
    sender.link.is_ready = False
    sender.send("3")
    sender.lose_connection()
    sender.send("4")
    sender.reconnect()
    assert sender.published == ["1", "2", *"1234"]


def test_a_message_that_is_no_longer_wanted_is_forgotten() -> None:
    sender = Sender()
    message = sender.send()
    sender.lose_connection()
    message.wanted = False
    sender.reconnect()
    assert (sender.published, message.ends, len(sender.outbox)) == (["1"], [], 0)


def test_a_discarded_message_is_forgotten_at_once() -> None:
    sender = Sender(max_bytes=1, returned_delays=(0.3,))
    sender.link.is_ready = False
    one = sender.send("1")
    sender.outbox.discard(one)
    assert len(sender.outbox) == 0
    other = sender.send("2")
    assert (one.ends, other.ends) == ([], [])
    sender.reconnect()
    sender.link.confirm_all(RETURNED)
    sender.outbox.discard(other)
    sender.outbox.discard(other)
    assert (sender.published, sender.outbox.returned, sender.timers.waits) == (["2"], 0, [])


def test_the_oldest_messages_are_dropped_when_too_many_wait() -> None:
    sender = Sender(max_messages=2)
    sender.link.is_ready = False
    messages = [sender.send(id) for id in "1234"]
    assert [message.ends for message in messages] == [["dropped"], ["dropped"], [], []]
    sender.reconnect()
    assert sender.published == ["3", "4"]


def test_the_oldest_messages_are_dropped_when_they_have_too_many_bytes() -> None:
    sender = Sender(max_bytes=2)
    messages = [sender.send(id) for id in "123"]
    sender.lose_connection()
    assert [message.ends for message in messages] == [["dropped"], [], []]
    sender.reconnect()
    assert sender.published == ["1", "2", "3", "2", "3"]


class Broken(Message, kw_only=True):
    """A message with an error in its code."""

    def is_wanted(self) -> bool:
        """Raise an error."""
        raise ValueError("an error in the code")


def test_an_error_in_one_message_does_not_keep_the_others() -> None:
    sender = Sender()
    sender.link.is_ready = False
    sender.outbox.send(Broken(link=sender.link, id="1"))
    other = sender.send("2")
    sender.reconnect()
    assert (sender.published, other.ends) == (["2"], [])


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_refused_message_is_published_again_over_another_channel() -> None:
    sender = Sender(again_after=0.1)
    message = sender.send()
    for count in (1, 2, 3):
        sender.link.confirm_all(REFUSED)
        assert (sender.link.changes, sender.timers.waits, len(sender.outbox)) == (count, [0.1], 1)
        sender.timers.advance(0.1)
        assert len(sender.published) == count + 1
    sender.link.confirm_all()
    assert (message.ends, message.retries, len(sender.outbox)) == ([CONFIRMED], [REFUSED] * 3, 0)


def test_many_refused_messages_share_one_timer_and_one_channel_and_keep_their_order() -> None:
    sender = Sender()
    for id in "123":
        sender.send(id)
    sender.link.confirm_all(REFUSED)
    assert (sender.link.changes, len(sender.timers.waits)) == (1, 1)
    sender.timers.advance(KEPT.again_after)
    assert sender.published == [*"123", *"123"]


def test_a_new_message_does_not_publish_the_refused_ones_early() -> None:
    sender = Sender(resumes=True)
    sender.send("1")
    sender.link.confirm_all(REFUSED)
    sender.send("2")
    assert sender.published == ["1", "2"]


def test_a_message_that_is_refused_for_too_long_is_given_up() -> None:
    sender = Sender(refused_for=1.0, again_after=0.5)
    message = sender.send()
    sender.timers.advance(3.0)  # the time counts from the first refusal
    for _ in range(2):
        sender.link.confirm_all(REFUSED)
        assert not message.ends
        sender.timers.advance(0.5)
    sender.link.confirm_all(REFUSED)
    assert message.ends == [REFUSED]


def test_a_message_that_must_arrive_is_refused_without_a_limit() -> None:
    sender = Sender(refused_for=1.0)
    message = sender.send()
    message.is_needed = True
    sender.answer(*[REFUSED] * 5)
    assert (message.ends, len(sender.published)) == ([], 6)


@pytest.mark.parametrize(("is_replicated", "count"), [(True, 2), (False, 1)])
def test_a_queue_that_cannot_lack_a_leader_is_full(is_replicated: bool, count: int) -> None:
    sender = Sender(refused_if_replicated=True)
    sender.link.is_replicated = is_replicated
    sender.send()
    sender.answer(REFUSED)
    assert len(sender.published) == count


@pytest.mark.parametrize(("persistent", "count"), [(True, 2), (False, 1)])
def test_a_message_of_several_queues_is_published_again_only_if_it_is_persistent(persistent: bool, count: int) -> None:
    sender = Sender(refused=Repeatable.PERSISTENT)
    sender.send(persistent=persistent)
    sender.answer(REFUSED)
    assert len(sender.published) == count


def test_a_queue_that_has_taken_a_message_is_full_sooner() -> None:
    sender = Sender(refused_for=5.0, refused_for_after_confirm=2.0)
    sender.send("1", queue="took")
    sender.link.confirm_all()
    for queue in ("took", "new"):
        sender.send(queue, queue=queue)
    sender.link.confirm_all(REFUSED)
    sender.timers.advance(2.0)
    sender.link.confirm_all(REFUSED)
    sender.timers.advance(2.0)
    assert sender.published == ["1", "took", "new", "took", "new", "new"]


def test_all_messages_of_one_refusing_queue_share_its_time() -> None:
    sender = Sender(refused_for=5.0, refused_for_after_confirm=2.0)
    sender.send("1")
    sender.answer(REFUSED)
    late = sender.send("2")
    sender.link.confirm_all(REFUSED)
    assert late.ends == [REFUSED]
    sender.outbox.send_waiting()  # a new connection
    late = sender.send("3")
    sender.link.confirm_all(REFUSED)
    assert late.ends == []


def test_a_queue_that_has_left_a_message_unconfirmed_is_not_full() -> None:
    """The channel was lost, not the connection: a full queue would have refused it."""
    sender = Sender(refused_for=0.0, refused_for_after_confirm=0.0)
    message = sender.send()
    sender.link.confirm_all(LOST)
    sender.outbox.send_waiting()
    sender.answer(REFUSED, REFUSED, CONFIRMED)
    assert message.ends == [CONFIRMED]
    message = sender.send()
    sender.answer(REFUSED)
    assert message.ends == [REFUSED]


def test_a_queue_whose_confirm_was_lost_with_the_connection_may_be_full() -> None:
    sender = Sender(refused_for=0.0, refused_for_after_confirm=0.0)
    message = sender.send()
    sender.lose_connection()
    sender.reconnect()
    sender.answer(REFUSED)
    assert message.ends == [REFUSED]


def test_a_message_is_given_up_after_its_last_attempt() -> None:
    sender = Sender(max_attempts=3)
    message = sender.send()
    sender.answer(REFUSED, REFUSED)
    assert not message.ends
    sender.link.confirm_all(REFUSED)
    assert (message.ends, len(sender.published)) == ([REFUSED], 3)


# --- returns ----------------------------------------------------------------------------------------------------------


def test_a_returned_message_is_given_up_by_default() -> None:
    sender = Sender()
    message = sender.send()
    sender.answer(RETURNED)
    assert (message.ends, sender.published) == ([RETURNED], ["1"])


def test_a_returned_message_is_published_again_after_each_delay() -> None:
    sender = Sender(returned_delays=(0.3, 0.7))
    message = sender.send()
    for delay in (0.3, 0.7):
        sender.link.confirm_all(RETURNED)
        assert (len(sender.outbox), sender.outbox.returned, sender.timers.waits) == (0, 1, [delay])
        sender.timers.advance(delay)
        assert (len(sender.outbox), sender.outbox.returned) == (1, 0)
    sender.link.confirm_all(RETURNED)
    assert (message.ends, message.retries, len(sender.published)) == ([RETURNED], [RETURNED] * 2, 3)
    assert sender.link.changes == 0


def test_a_message_that_must_arrive_is_returned_without_a_limit_with_the_last_delay() -> None:
    sender = Sender(returned_delays=(0.3, 0.7))
    message = sender.send()
    message.is_needed = True
    for delay in (0.3, 0.7, 0.7, 0.7):
        sender.link.confirm_all(RETURNED)
        assert sender.timers.waits == [delay]
        sender.timers.advance(delay)
    assert (message.ends, len(sender.published)) == ([], 5)
