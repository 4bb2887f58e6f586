"""The messages of an outbox that wait for the broker."""

from typing import Any

import pytest

from crew.amqp.outbox.outgoing import Outgoing
from crew.amqp.outbox.policy import OutboxPolicy
from crew.amqp.outbox.waiting import WaitingMessages


class AReply(Outgoing, kw_only=True):
    """A reply of `size` bytes; its name is added to `dropped` when it is discarded."""

    dropped: list[str]

    def on_dropped(self) -> None:
        """Record it."""
        self.dropped.append(str(self.number))


def a_reply(dropped: list[str], number: int, size: int = 1) -> AReply:
    """A reply of `size` bytes."""
    return AReply(id=str(number), number=number, size=size, dropped=dropped)


def waiting_replies(**limits: Any) -> WaitingMessages:
    """An empty backlog of replies."""
    return WaitingMessages(OutboxPolicy(name="reply", plural="replies", **limits))


def numbers(messages: list[Outgoing]) -> list[int]:
    """The numbers of `messages`."""
    return [message.number for message in messages]


def test_waiting_replies_leave_in_the_order_in_which_they_were_first_sent() -> None:
    waiting, dropped = waiting_replies(), list[str]()
    for number in (3, 1, 2):
        waiting.add(a_reply(dropped, number))
    assert (len(waiting), waiting.bytes) == (3, 3)
    assert numbers(waiting.take()) == [1, 2, 3]
    assert (len(waiting), waiting.bytes, waiting.take(), dropped) == (0, 0, [], [])


def test_the_oldest_replies_are_discarded_when_there_are_too_many() -> None:
    waiting, dropped = waiting_replies(max_messages=2), list[str]()
    for number in range(4):
        waiting.add(a_reply(dropped, number))
    assert (numbers(waiting.take()), dropped) == ([2, 3], ["0", "1"])


def test_the_oldest_replies_are_discarded_when_they_have_too_many_bytes() -> None:
    waiting, dropped = waiting_replies(max_bytes=10), list[str]()
    for number, size in enumerate([4, 4, 9, 1]):
        waiting.add(a_reply(dropped, number, size))
    assert waiting.bytes == 10
    assert (numbers(waiting.take()), dropped) == ([2, 3], ["0", "1"])


def test_a_reply_larger_than_the_whole_backlog_is_discarded_alone() -> None:
    waiting, dropped = waiting_replies(max_bytes=10), list[str]()
    waiting.add(a_reply(dropped, 1, 11))
    assert (len(waiting), waiting.bytes, dropped) == (0, 0, ["1"])


def test_a_removed_message_frees_its_bytes() -> None:
    waiting = waiting_replies()
    one, other = a_reply([], 1, 5), a_reply([], 1, 5)
    waiting.add(one)
    assert not waiting.remove(other), "it does not wait"
    assert (len(waiting), waiting.bytes) == (1, 5)
    assert waiting.remove(one)
    assert (len(waiting), waiting.bytes, waiting.remove(one)) == (0, 0, False)


def test_a_full_backlog_is_logged_once_when_it_begins_and_once_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    waiting, dropped = waiting_replies(max_messages=10, max_bytes=5000), list[str]()
    for _ in range(2):
        caplog.clear()
        for number in range(1_000):
            waiting.add(a_reply(dropped, number))
        waiting.take()
        first, last = (record.getMessage() for record in caplog.records)
        assert first == (
            "reply backlog full: discarding the oldest replies until the broker is back (limits: 10 replies, 5000 "
            "bytes) call_id=0"
        )
        assert last == "reply backlog sent: 990 replies were discarded while the broker was away"
