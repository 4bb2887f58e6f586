"""Messages are values."""

import pytest

from crew.protocol.message import Body, Call, Event, Outcome, new_id


def test_a_message_cannot_be_changed() -> None:
    call = Call(id="1", task="t", body=Body(b"", None))
    with pytest.raises(AttributeError):
        call.task = "other"  # type: ignore[misc]


def test_two_calls_do_not_share_their_headers() -> None:
    first, second = (Event(topic="t", body=Body(b"", None)) for _ in range(2))
    first.headers["a"] = 1
    assert second.headers == {}


def test_each_new_id_is_unique() -> None:
    assert len({new_id() for _ in range(10_000)}) == 10_000


def test_outcomes_are_strings_on_the_wire() -> None:
    assert {outcome.value for outcome in Outcome} == {
        "started",
        "progress",
        "returned",
        "raised",
        "timed_out",
        "expired",
        "canceled",
        "unknown_task",
        "worker_lost",
    }
