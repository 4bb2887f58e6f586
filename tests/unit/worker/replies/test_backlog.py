"""Replies that wait for the broker."""

import pytest

from crew.protocol.properties import Properties
from crew.worker.replies.backlog import Kept, Outgoing


def a_reply(dropped: list[str], name: str, size: int = 1) -> Outgoing:
    """Of `size` bytes; its name goes to `dropped` where it does."""
    return Outgoing(name, Properties(), b"x" * size, lambda: None, None, lambda: dropped.append(name))


def test_what_waits_leaves_in_the_order_in_which_it_was_sent_first() -> None:
    kept, dropped = Kept(), list[str]()
    for number in (3, 1, 2):
        kept.keep(number, a_reply(dropped, str(number)))
    assert (len(kept), kept.bytes) == (3, 3)
    assert list(kept.take()) == [1, 2, 3]
    assert (len(kept), kept.bytes, kept.take(), dropped) == (0, 0, {}, [])


def test_the_oldest_goes_where_there_are_too_many() -> None:
    kept, dropped = Kept(max_replies=2), list[str]()
    for number in range(4):
        kept.keep(number, a_reply(dropped, str(number)))
    assert (list(kept.take()), dropped) == ([2, 3], ["0", "1"])


def test_the_oldest_go_where_they_have_too_many_bytes() -> None:
    kept, dropped = Kept(max_bytes=10), list[str]()
    for number, size in enumerate([4, 4, 9, 1]):
        kept.keep(number, a_reply(dropped, str(number), size))
    assert kept.bytes == 10
    assert (list(kept.take()), dropped) == ([2, 3], ["0", "1"])


def test_a_reply_that_is_larger_than_all_room_is_dropped_alone() -> None:
    kept, dropped = Kept(max_bytes=10), list[str]()
    kept.keep(1, a_reply(dropped, "large", 11))
    assert (len(kept), kept.bytes, dropped) == (0, 0, ["large"])


def test_however_many_are_dropped_the_log_has_a_line_when_it_begins_and_one_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept, dropped = Kept(max_replies=10), list[str]()
    for _ in range(2):
        caplog.clear()
        for number in range(1_000):
            kept.keep(number, a_reply(dropped, str(number)))
        kept.take()
        first, last = (record.getMessage() for record in caplog.records)
        assert "the oldest go" in first
        assert "990 replies" in last
