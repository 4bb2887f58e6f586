"""The reply backlog."""

import pytest

from crew.protocol.properties import Properties
from crew.worker.replies.backlog import Backlog, OutgoingMessage


def a_reply(dropped: list[str], name: str, size: int = 1) -> OutgoingMessage:
    """Make a reply of `size` bytes; its name is added to `dropped` when it is discarded."""
    return OutgoingMessage(name, Properties(), b"x" * size, lambda: None, None, lambda: dropped.append(name))


def test_waiting_replies_leave_in_the_order_in_which_they_were_first_sent() -> None:
    backlog, dropped = Backlog(), list[str]()
    for number in (3, 1, 2):
        backlog.add(number, a_reply(dropped, str(number)))
    assert (len(backlog), backlog.bytes) == (3, 3)
    assert list(backlog.take()) == [1, 2, 3]
    assert (len(backlog), backlog.bytes, backlog.take(), dropped) == (0, 0, {}, [])


def test_the_oldest_replies_are_discarded_when_there_are_too_many() -> None:
    backlog, dropped = Backlog(max_replies=2), list[str]()
    for number in range(4):
        backlog.add(number, a_reply(dropped, str(number)))
    assert (list(backlog.take()), dropped) == ([2, 3], ["0", "1"])


def test_the_oldest_replies_are_discarded_when_they_have_too_many_bytes() -> None:
    backlog, dropped = Backlog(max_bytes=10), list[str]()
    for number, size in enumerate([4, 4, 9, 1]):
        backlog.add(number, a_reply(dropped, str(number), size))
    assert backlog.bytes == 10
    assert (list(backlog.take()), dropped) == ([2, 3], ["0", "1"])


def test_a_reply_larger_than_the_whole_backlog_is_discarded_alone() -> None:
    backlog, dropped = Backlog(max_bytes=10), list[str]()
    backlog.add(1, a_reply(dropped, "large", 11))
    assert (len(backlog), backlog.bytes, dropped) == (0, 0, ["large"])


def test_a_full_backlog_is_logged_once_when_it_begins_and_once_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backlog, dropped = Backlog(max_replies=10), list[str]()
    for _ in range(2):
        caplog.clear()
        for number in range(1_000):
            backlog.add(number, a_reply(dropped, str(number)))
        backlog.take()
        first, last = (record.getMessage() for record in caplog.records)
        assert "discarding the oldest replies" in first
        assert "990 replies" in last
