"""Messages as AMQP properties, and properties of messages from other senders."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crew.protocol import properties, run_headers
from crew.protocol.message import Body, Call, Control, Event, Outcome, Reply, Run
from crew.protocol.properties import DeadLetter, MalformedMessage, Properties
from tests.unit.protocol.test_user_headers import headers_of_users

NOW = 1_800_000_000.0

whole_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
maybe_text = st.none() | whole_text
integers_64 = st.integers(-(2**63), 2**63 - 1)
bodies = st.builds(Body, st.binary(), maybe_text, st.none() | st.just("gzip"))

calls = st.builds(
    Call,
    id=whole_text,
    task=whole_text,
    body=bodies,
    priority=st.integers(0, 255),
    deadline=st.none() | st.floats(NOW - 100, NOW + 1e6),
    timeout=st.none() | st.floats(0.001, 1e6),
    persistent=st.booleans(),
    client=maybe_text,
    reply_to=maybe_text,
    attempt=st.integers(1, 1000),
    message_id=maybe_text,
    is_job=st.booleans(),
    start_by=st.none() | st.floats(NOW - 100, NOW + 1e6).map(lambda seconds: round(seconds, 3)),
    headers=headers_of_users,
)
moments = st.none() | st.integers(0, 2**42).map(lambda milliseconds: milliseconds / 1000)
runs = st.builds(Run, host=st.text(max_size=20), started=moments, ended=moments, attempt=st.integers(1, 1000))
replies = st.builds(
    Reply,
    id=whole_text,
    outcome=st.sampled_from(Outcome),
    body=bodies,
    persistent=st.booleans(),
    worker=maybe_text,
    message_id=maybe_text,
    run=st.none() | runs,
    headers=headers_of_users,
)

# Values that an AMQP field table can hold, as pika decodes them.
amqp_values = st.recursive(
    st.none() | st.booleans() | integers_64 | st.floats() | st.text() | st.binary() | st.datetimes() | st.decimals(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
OURS = [
    properties.DEADLINE,
    properties.TIMEOUT,
    properties.ATTEMPT,
    properties.TASK,
    properties.WORKER,
    properties.JOB,
    properties.START_BY,
    run_headers.HOST,
    run_headers.STARTED,
    run_headers.ONLY_ONE,
    properties.OUTCOME,
    properties.REASON,
    "crew-client",
    "x-death",
    "x-first-death-reason",
    "x-last-death-reason",
    "x-anything",
]
short_strings = st.none() | st.text() | st.binary()  # bytes: not valid UTF-8
foreign = st.builds(
    Properties,
    content_type=short_strings,
    content_encoding=short_strings,
    correlation_id=short_strings,
    reply_to=short_strings,
    type=short_strings,
    message_id=short_strings,
    timestamp=st.none() | st.integers(0, 2**64 - 1),
    priority=st.none() | st.integers(0, 255),
    expiration=short_strings,
    delivery_mode=st.none() | st.integers(0, 255),
    app_id=short_strings,
    headers=st.none() | st.dictionaries(st.sampled_from(OURS) | st.text(), amqp_values, max_size=6),
)

READERS: list[Callable[[Properties], Any]] = [
    lambda given: properties.to_call("t", given, b"", make_id=lambda: "fallback"),
    lambda given: properties.to_reply(given, b""),
    lambda given: properties.to_event("t", given, b""),
    properties.to_control,
]
READ_AS = ["call", "reply", "event", "control"]


def close(one: float | None, other: float | None) -> bool:
    """Whether two instants differ by at most a millisecond."""
    return one == other if one is None or other is None else abs(one - other) <= 0.001


# --- encoded and decoded --------------------------------------------------------------------------------------------


@given(calls)
@settings(deadline=None, max_examples=50)
def test_a_call_is_decoded_as_it_was_encoded(call: Call) -> None:
    of_call = properties.of_call(call, now=NOW)
    received = properties.to_call(call.task, of_call, call.body.data, make_id=lambda: "fallback")
    assert close(received.deadline, call.deadline)
    assert close(received.timeout, call.timeout)
    assert properties.queue_priority(received.priority) == properties.queue_priority(call.priority)
    exact = {"deadline": None, "timeout": None, "priority": 0}
    assert msgspec.structs.replace(received, **exact) == msgspec.structs.replace(call, **exact)


@given(calls, st.integers(1, 86_400_000))
@settings(deadline=None, max_examples=50)
def test_a_delayed_call_is_decoded_as_it_was_encoded(call: Call, delay_ms: int) -> None:
    of_retry = properties.of_retry(call, delay_ms, now=NOW)
    assert (of_retry.headers or {})["crew-delay"] == delay_ms
    assert of_retry.expiration is None
    usual = properties.of_call(call, now=NOW)
    read = [properties.to_call(call.task, given, call.body.data, make_id=lambda: "x") for given in (of_retry, usual)]
    assert read[0] == read[1]


@pytest.mark.parametrize("level", range(10))
def test_a_level_of_the_queue_is_decoded_as_its_smallest_priority(level: int) -> None:
    priority = properties.priority_of_level(level)
    assert properties.queue_priority(priority) == level
    assert level == 0 or properties.queue_priority(priority - 1) == level - 1


@pytest.mark.parametrize(("level", "priority"), [(None, 0), (9, 231), (10, 231), (255, 231)])
def test_the_level_of_another_sender_is_limited_to_our_highest(level: int | None, priority: int) -> None:
    assert properties.to_call("t", Properties(priority=level), b"", make_id=lambda: "x").priority == priority


@given(replies)
@settings(deadline=None, max_examples=50)
def test_a_reply_is_decoded_as_it_was_encoded(reply: Reply) -> None:
    received = properties.to_reply(properties.of_reply(reply), reply.body.data)
    assert isinstance(received, Reply)
    assert msgspec.structs.replace(received, persistent=True) == msgspec.structs.replace(reply, persistent=True)


@given(st.builds(Event, topic=whole_text, body=bodies, persistent=st.just(False), headers=headers_of_users))
@settings(deadline=None, max_examples=50)
def test_an_event_is_decoded_as_it_was_encoded(event: Event) -> None:
    assert properties.to_event(event.topic, properties.of_event(event, now=NOW), event.body.data) == event


@given(
    st.builds(
        Control,
        id=whole_text,
        reason=whole_text,
        deadline=st.none() | st.floats(NOW - 100, NOW + 1e6),
        message_id=st.none() | whole_text,
        is_job=st.booleans(),
    )
)
@settings(deadline=None, max_examples=50)
def test_a_control_message_is_decoded_as_it_was_encoded(control: Control) -> None:
    received = properties.to_control(properties.of_control(control))
    assert close(received.deadline, control.deadline)
    assert msgspec.structs.replace(received, deadline=None) == msgspec.structs.replace(control, deadline=None)


@given(calls)
@settings(deadline=None, max_examples=50)
def test_a_call_sets_delivery_mode_priority_and_expiration_for_the_broker(call: Call) -> None:
    given = properties.of_call(call, now=NOW)
    assert given.delivery_mode == (2 if call.persistent else 1)
    assert given.priority in range(10)
    assert (given.expiration is None) == (call.deadline is None)
    if given.expiration is not None and call.deadline is not None:
        assert int(given.expiration) >= (call.deadline - NOW) * 1000


def test_a_reply_is_as_persistent_as_its_call() -> None:
    for persistent, mode in ((True, 2), (False, 1)):
        reply = Reply(id="1", outcome=Outcome.RETURNED, body=Body(b"", None), persistent=persistent)
        assert properties.of_reply(reply).delivery_mode == mode


def test_a_call_and_a_reply_send_only_the_headers_that_they_need() -> None:
    call = Call(id="1", task="t", body=Body(b"", None), deadline=NOW + 1, client="me")
    assert set(properties.of_call(call, now=NOW).headers or {}) == {"crew-task", "crew-client", "crew-deadline"}
    assert properties.of_reply(Reply(id="1", outcome=Outcome.RETURNED, body=Body(b"", None))).headers is None


# --- messages of other senders --------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", READERS, ids=READ_AS)
@given(given=foreign)
@settings(deadline=None, max_examples=100)
def test_any_message_is_decoded_or_malformed(read: Callable[[Properties], Any], given: Properties) -> None:
    try:
        read(given)
    except MalformedMessage as error:
        assert str(error)


@pytest.mark.parametrize("read", READERS, ids=READ_AS)
def test_a_header_name_that_is_not_utf_8_is_decoded_or_malformed(read: Callable[[Properties], Any]) -> None:
    """pika leaves such a name as bytes."""
    headers: Any = {b"\xff": 1}
    try:
        read(Properties(correlation_id="1", headers=headers))
    except MalformedMessage as error:
        assert str(error)


def test_a_bare_message_of_another_sender_is_a_call() -> None:
    call = properties.to_call("t", Properties(), b"hi", make_id=lambda: "made-here")
    assert (call.id, call.deadline, call.timeout, call.reply_to, call.headers) == ("made-here", None, None, None, {})


def test_without_a_correlation_id_the_message_id_is_the_id_of_the_call() -> None:
    assert properties.to_call("t", Properties(message_id="theirs"), b"", make_id=lambda: "x").id == "theirs"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crew-deadline", "soon"),
        ("crew-deadline", True),
        ("crew-deadline", 1.5),
        ("crew-timeout", "3"),
        ("crew-timeout", [1]),
        ("crew-attempt", "2"),
        ("crew-attempt", 0),
        ("crew-attempt", -(2**63)),
        ("crew-client", 7),
        ("crew-client", b"\xff"),
    ],
)
def test_a_header_of_the_wrong_type_is_named(name: str, value: object) -> None:
    with pytest.raises(MalformedMessage, match=name):
        properties.to_call("t", Properties(headers={name: value}), b"", make_id=lambda: "x")


def test_a_property_of_the_wrong_type_is_named() -> None:
    wrong: Any = b"\xff"
    with pytest.raises(MalformedMessage, match="correlation_id"):
        properties.to_call("t", Properties(correlation_id=wrong), b"", make_id=lambda: "x")


@pytest.mark.parametrize("id", [None, ""])
def test_a_reply_without_a_call_id_is_malformed(id: str | None) -> None:
    with pytest.raises(MalformedMessage, match="correlation_id"):
        properties.to_reply(Properties(correlation_id=id), b"")


@pytest.mark.parametrize("id", [None, ""])
def test_a_control_message_without_a_call_id_is_malformed(id: str | None) -> None:
    with pytest.raises(MalformedMessage, match="correlation_id"):
        properties.to_control(Properties(correlation_id=id))


@pytest.mark.parametrize(
    "headers", [{"crew-reason": 7}, {"crew-reason": None}, {"crew-deadline": "soon"}, {"crew-deadline": 1.5}], ids=repr
)
def test_a_control_message_with_a_header_of_the_wrong_type_is_malformed(headers: dict[str, Any]) -> None:
    (name,) = headers
    with pytest.raises(MalformedMessage, match=name):
        properties.to_control(Properties(correlation_id="17", headers=headers))


def test_a_control_message_without_a_reason_is_a_cancel() -> None:
    assert properties.to_control(Properties(correlation_id="17")) == Control(id="17", reason="canceled")


def test_a_control_message_is_not_persistent() -> None:
    """A persistent one would cost as much as the call."""
    given = properties.of_control(Control(id="17", reason="canceled"))
    assert (given.delivery_mode, given.type) == (1, "control")


@pytest.mark.parametrize("worker", ["w" * 255, "ü" * 101])
def test_a_reply_with_a_worker_id_too_long_for_a_routing_key_is_malformed(worker: str) -> None:
    headers = {"crew-outcome": "returned", "crew-worker": worker}
    with pytest.raises(MalformedMessage, match="the id of a worker must have at most 200 bytes"):
        properties.to_reply(Properties(correlation_id="1", headers=headers), b"1")


def test_an_unknown_outcome_is_malformed() -> None:
    with pytest.raises(MalformedMessage, match="exploded"):
        properties.to_reply(Properties(correlation_id="1", headers={"crew-outcome": "exploded"}), b"")


@pytest.mark.parametrize("reason", ["expired", "rejected", "maxlen", "delivery_limit"])
def test_a_call_that_the_broker_sent_back_is_a_dead_letter(reason: str) -> None:
    returned = properties.of_call(Call(id="17", task="t", body=Body(b"", None)), now=NOW)
    returned.headers = {**(returned.headers or {}), "x-first-death-reason": reason}
    assert properties.to_reply(returned, b"") == DeadLetter("17", reason)


@pytest.mark.parametrize(
    "deaths",
    [
        {"x-last-death-reason": "rejected", "x-death": [{"reason": "expired"}]},
        {"x-death": [{"reason": "rejected", "queue": "crew.tasks.t"}, {"reason": "expired", "queue": "crew.retry.1"}]},
    ],
    ids=["since RabbitMQ 3.13", "before"],
)
def test_the_dead_letter_of_a_delayed_call_has_the_last_reason(deaths: dict[str, Any]) -> None:
    headers = {"x-first-death-reason": "expired", "x-first-death-queue": "crew.retry.1", **deaths}
    assert properties.to_reply(Properties(correlation_id="17", headers=headers), b"") == DeadLetter("17", "rejected")


def test_a_task_gets_the_headers_of_the_caller_and_none_of_crew() -> None:
    headers = {"tenant": "a", "crew-task": "t", "x-death": [], "traceparent": "00-1"}
    assert properties.to_call("t", Properties(headers=headers), b"", make_id=lambda: "x").headers == {
        "tenant": "a",
        "traceparent": "00-1",
    }


# --- priorities and numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("priority", [0, 1, 100, 255])
def test_a_priority_is_an_int_from_0_to_255(priority: int) -> None:
    assert properties.check_priority(priority) == priority


@pytest.mark.parametrize("priority", [-1, 256, 1.0, "1", None, True, 10**30])
def test_any_other_priority_is_a_value_error(priority: object) -> None:
    with pytest.raises(ValueError, match="priority"):
        properties.check_priority(priority)


def test_a_larger_priority_never_has_a_lower_level_than_a_smaller_one() -> None:
    levels = [properties.queue_priority(priority) for priority in range(256)]
    assert levels == sorted(levels)
    assert set(levels) == set(range(10))


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63)])
def test_a_call_of_another_sender_can_be_retried_whatever_numbers_it_has(number: int) -> None:
    """A number out of AMQP's range would break the retry, and the call would be lost."""
    headers = {properties.DEADLINE: number, properties.TIMEOUT: number, properties.ATTEMPT: abs(number) - 1}
    call = properties.to_call("t", Properties(headers=headers), b"", make_id=lambda: "17")
    again = msgspec.structs.replace(call, attempt=call.attempt + 1)
    sent = properties.of_retry(again, 100, now=0.0).headers or {}
    numbers = [value for value in sent.values() if isinstance(value, int)]
    assert len(numbers) == 4
    assert all(-(2**63) <= value < 2**63 for value in numbers), sent
