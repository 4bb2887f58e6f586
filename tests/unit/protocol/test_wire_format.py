"""The properties and headers of each kind of message, by the names and values that other versions and programs see."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from crew.protocol import properties
from crew.protocol.clock import ClockOffset
from crew.protocol.message import Body, Call, Control, Event, Headers, Outcome, Reply, Run
from crew.protocol.properties import DeadLetter, MalformedMessage, Properties

NOW = 1_800_000_000.7
BODY = Body(b"{}", "application/json", "gzip")
PLAIN = Body(b"", None)

CALL = Call(
    id="17",
    task="resize",
    body=BODY,
    priority=100,
    deadline=NOW + 60,
    timeout=3.5,
    persistent=True,
    client="web-1",
    reply_to="crew.reply.web-1",
    attempt=2,
    message_id="m1",
    is_job=True,
    start_by=NOW + 30,
    clock=1.5,
    headers={"tenant": "a"},
)
HEADERS_OF_CALL: Headers = {
    "crew-task": "resize",
    "tenant": "a",
    "crew-client": "web-1",
    "crew-timeout": 3_500,
    "crew-attempt": 2,
    "crew-job": True,
    "crew-start-by": 1_800_000_030_700,
    "crew-clock": 1_500,
    "crew-deadline": 1_800_000_060_700,
}


def read_call(given: Properties) -> Call:
    """Decode a call in the queue of the task resize."""
    return properties.to_call("resize", given, b"{}", make_id=lambda: "made-here")


def test_a_call_has_these_properties() -> None:
    given = properties.of_call(CALL, now=NOW)
    assert given == Properties(
        content_type="application/json",
        content_encoding="gzip",
        correlation_id="17",
        reply_to="crew.reply.web-1",
        type="call",
        message_id="m1",
        timestamp=1_800_000_000,
        priority=3,
        expiration="61000",
        delivery_mode=2,
        app_id="crew",
        headers=HEADERS_OF_CALL,
    )
    received = read_call(given)
    assert received == msgspec.structs.replace(CALL, priority=received.priority)


def test_a_bare_call_has_only_these_properties() -> None:
    bare = Call(id="17", task="resize", body=PLAIN, persistent=False)
    assert properties.of_call(bare, now=NOW) == Properties(
        correlation_id="17",
        type="call",
        timestamp=1_800_000_000,
        priority=properties.queue_priority(bare.priority),
        delivery_mode=1,
        app_id="crew",
        headers={"crew-task": "resize"},
    )


def test_the_offset_of_the_clock_is_sent_in_milliseconds() -> None:
    bare = Call(id="17", task="resize", body=PLAIN)
    for call, clock, sent in (
        (bare, ClockOffset(0.25, 0.75), 750),
        (msgspec.structs.replace(bare, clock=-1.25), ClockOffset(0.25, 0.75), -1_250),
    ):
        given = properties.of_call(call, now=NOW, clock=clock)
        assert (given.headers or {})["crew-clock"] == sent
        assert read_call(given).clock == sent / 1000


def test_a_retry_waits_in_the_queue_of_its_delay_without_an_expiration() -> None:
    expected = properties.of_call(CALL, now=NOW)
    expected.expiration = None
    expected.headers = {**HEADERS_OF_CALL, "crew-delay": 250}
    assert properties.of_retry(CALL, 250, now=NOW) == expected


def test_a_reply_has_these_properties() -> None:
    reply = Reply(
        id="17",
        outcome=Outcome.RAISED,
        body=BODY,
        persistent=True,
        worker="w1",
        message_id="m1",
        run=Run(host="h:1", started=NOW, ended=NOW + 1, attempt=2, is_only_one=True, progress_count=3),
        headers={"answer": "b"},
    )
    given = properties.of_reply(reply)
    assert given == Properties(
        content_type="application/json",
        content_encoding="gzip",
        correlation_id="17",
        type="reply",
        message_id="m1",
        delivery_mode=2,
        app_id="crew",
        headers={
            "answer": "b",
            "crew-host": "h:1",
            "crew-started": 1_800_000_000_700,
            "crew-ended": 1_800_000_001_700,
            "crew-attempt": 2,
            "crew-only-one": True,
            "crew-progress-count": 3,
            "crew-worker": "w1",
            "crew-outcome": "raised",
        },
    )


@pytest.mark.parametrize(("persistent", "mode"), [(True, 2), (False, 1)])
def test_an_event_has_these_properties(persistent: bool, mode: int) -> None:
    event = Event(topic="a.b", body=BODY, persistent=persistent, headers={"mine": "c"})
    assert properties.of_event(event, now=NOW) == Properties(
        content_type="application/json",
        content_encoding="gzip",
        type="event",
        timestamp=1_800_000_000,
        delivery_mode=mode,
        app_id="crew",
        headers={"mine": "c"},
    )
    assert properties.of_event(Event(topic="a", body=PLAIN), now=NOW).headers is None


def test_a_control_message_has_these_properties() -> None:
    control = Control(id="17", reason="canceled", deadline=NOW, message_id="m1", is_job=True)
    assert properties.of_control(control) == Properties(
        correlation_id="17",
        type="control",
        message_id="m1",
        delivery_mode=1,
        app_id="crew",
        headers={"crew-reason": "canceled", "crew-deadline": 1_800_000_000_700, "crew-job": True},
    )


def test_a_dead_letter_has_the_message_id_of_the_call() -> None:
    given = properties.of_call(CALL, now=NOW)
    given.headers = {**HEADERS_OF_CALL, "x-first-death-reason": "expired"}
    assert properties.to_reply(given, b"{}") == DeadLetter("17", "expired", "m1")


# --- parked messages --------------------------------------------------------------------------------------------------


def test_a_parked_message_keeps_what_its_replay_needs_and_says_why_it_is_there() -> None:
    parked = properties.of_parked(HEADERS_OF_CALL, reason="crashed", host="h", status="SIGKILL")
    kept = {"crew-client": "web-1", "crew-timeout": 3_500, "crew-deadline": 1_800_000_060_700}
    assert parked == {**kept, "crew-reason": "crashed", "crew-host": "h", "crew-exit-status": "SIGKILL"}


def test_a_parked_message_keeps_no_header_that_cannot_be_sent_again() -> None:
    given: Headers = {"crew-client": "\x00", "crew-timeout": 2**64, "crew-deadline": 5}
    parked = properties.of_parked(given, reason="refused", host="h", status="")
    assert parked == {"crew-deadline": 5, "crew-reason": "refused", "crew-host": "h"}


def test_the_bare_properties_of_a_parked_message_identify_it() -> None:
    given = properties.of_call(CALL, now=NOW)
    reasons = {"crew-reason": "crashed", "crew-host": "h", "crew-exit-status": "SIGKILL"}
    given.headers = {**HEADERS_OF_CALL, **reasons}
    assert properties.of_bare_parked(given) == Properties(
        content_type="application/json",
        content_encoding="gzip",
        correlation_id="17",
        timestamp=1_800_000_000,
        delivery_mode=2,
        headers={"crew-task": "resize", **reasons},
    )
    assert properties.of_bare_parked(Properties()) == Properties(delivery_mode=2, headers={})


# --- errors about messages of other senders ---------------------------------------------------------------------------

READERS: dict[str, Callable[[Properties], Any]] = {
    "call": read_call,
    "reply": lambda given: properties.to_reply(given, b""),
    "dead letter": lambda given: properties.to_reply(
        msgspec.structs.replace(given, headers={"x-first-death-reason": "expired"}), b""
    ),
    "event": lambda given: properties.to_event("t", given, b""),
    "control": properties.to_control,
}


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("call", ["correlation_id", "message_id", "reply_to", "content_type", "content_encoding"]),
        ("reply", ["correlation_id", "message_id", "content_type", "content_encoding"]),
        ("dead letter", ["correlation_id", "message_id"]),
        ("event", ["content_type", "content_encoding"]),
        ("control", ["correlation_id", "message_id"]),
    ],
)
def test_the_error_names_the_property_that_is_not_text(kind: str, names: list[str]) -> None:
    for name in names:
        given = msgspec.structs.replace(Properties(correlation_id="17"), **{name: b"\xff"})
        with pytest.raises(MalformedMessage, match=rf"^property {name} must be UTF-8 text, not b'\\xff'$"):
            READERS[kind](given)


def test_the_message_id_is_checked_where_it_is_the_id_of_the_call() -> None:
    wrong: Any = b"\xff"
    with pytest.raises(MalformedMessage, match=r"^property message_id must be"):
        read_call(Properties(message_id=wrong))


@pytest.mark.parametrize("kind", READERS)
def test_the_error_says_why_properties_cannot_be_decoded(kind: str) -> None:
    if kind != "dead letter":
        with pytest.raises(MalformedMessage, match=r"^its properties cannot be decoded: 'why'$"):
            READERS[kind](Properties(correlation_id="17", headers={"crew-unreadable": "why"}))


def test_the_error_for_a_priority_shows_it() -> None:
    with pytest.raises(ValueError, match=r"^priority must be an int from 0 to 255, not 256$"):
        properties.check_priority(256)
