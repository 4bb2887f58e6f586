"""Messages are values."""

from typing import Any

import pytest

from crew.protocol.message import Body, Call, Control, Event, Outcome, new_id


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
    assert len(new_id()) == 32, "hexadecimal digits of 16 random bytes"


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


def test_only_started_and_progress_are_not_final() -> None:
    assert {outcome for outcome in Outcome if not outcome.is_end} == {Outcome.STARTED, Outcome.PROGRESS}


def a_call(**attributes: Any) -> Call:
    """A call with the id 1."""
    return Call(id="1", task="t", body=Body(b"", None), **attributes)


def test_the_key_of_a_call_distinguishes_it_from_an_earlier_call_with_its_id() -> None:
    assert a_call().key == "1"
    assert a_call(message_id="m").key == "1 m"


def test_a_deadline_is_compared_with_the_clock_of_the_sender() -> None:
    assert a_call(skew=2.0).sender_time(100.0) == 98.0


@pytest.mark.parametrize(
    ("control", "call", "applies"),
    [
        (Control(id="1", reason="canceled"), a_call(deadline=5.0), True),
        (Control(id="2", reason="canceled"), a_call(), False),
        (Control(id="1", reason="canceled", deadline=5.0), a_call(deadline=5.0), True),
        (Control(id="1", reason="canceled", deadline=5.0), a_call(deadline=6.0), False),
        (Control(id="1", reason="canceled", deadline=5.0), a_call(), False),
        (Control(id="1", reason="canceled", message_id="m"), a_call(message_id="m"), True),
        (Control(id="1", reason="canceled", message_id="m"), a_call(message_id="n"), False),
        (Control(id="1", reason="canceled", message_id="1"), a_call(), True),
        (Control(id="1", reason="canceled", message_id="m", is_job=True), a_call(is_job=True), False),
        (Control(id="1", reason="canceled", is_job=True), a_call(is_job=True), True),
        (Control(id="1", reason="canceled", is_job=True), a_call(), False),
    ],
)
def test_a_cancel_applies_to_its_own_call_only(control: Control, call: Call, applies: bool) -> None:
    assert control.is_about(call) is applies
