"""A signed message cannot be changed, redirected or replayed; changes that the broker makes are allowed."""

import hashlib
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crew.protocol import properties, revocation_request, topology
from crew.protocol.encoding import codec
from crew.protocol.message import Body, Call, Control, Event, Outcome, Reply, RevocationRequest, Run
from crew.protocol.properties import Properties
from crew.protocol.signing import DIGESTED_ABOVE, FRESH_FOR, SIGNED, Signing

KEY: Final = "first key " * 4
OTHER_KEY: Final = "other key " * 4
NOW: Final = 1_800_000_000.5  # epoch seconds
TASK_QUEUE: Final = "crew.tasks.resize"
REPLY_QUEUE: Final = "crew.reply.web-1"
JOBS_QUEUE: Final = "crew.jobs.a_store"

CALL: Final = Call(
    id="7",
    task="resize",
    body=Body(b'{"width":640}', codec.JSON),
    priority=100,
    deadline=NOW + 60,
    timeout=3.0,
    client="web-1",
    reply_to=REPLY_QUEUE,
    message_id="m1",
    attempt=2,
    start_by=NOW + 30,
    clock=1.5,
    headers={"tenant": "a", "count": 3, "flag": True},
)


class Clock:
    """The broker's clock, as the test sets it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def signing(*keys: str, clock: Clock | None = None) -> Signing:
    return Signing(keys or (KEY,), clock or Clock())


def signed(key: str, given: Properties, body: bytes, *, by: Signing | None = None) -> Properties:
    """`given`, signed for the routing key `key`."""
    (by or signing()).sign(key, given, body)
    return given


def refusal(queue: str, key: str, given: Properties, body: bytes, *, by: Signing | None = None) -> str | None:
    return (by or signing()).check(queue)(key, given, body)


def a_call() -> Properties:
    """The signed properties of `CALL`."""
    return signed(TASK_QUEUE, properties.of_call(CALL, now=NOW), CALL.body.data)


def of_call(given: Properties, *, queue: str = TASK_QUEUE, key: str = TASK_QUEUE) -> str | None:
    return refusal(queue, key, given, CALL.body.data)


def with_headers(given: Properties, **headers: Any) -> Properties:
    changed = {**(given.headers or {}), **{name.replace("_", "-"): value for name, value in headers.items()}}
    return msgspec.structs.replace(given, headers=changed)


# --- every kind of message -------------------------------------------------------------------------------------------


REPLY: Final = Reply(
    id="7",
    outcome=Outcome.RAISED,
    body=Body(b"{}", codec.JSON),
    worker="w1",
    message_id="m1",
    run=Run(host="h:1", started=NOW, ended=NOW + 1, attempt=2, is_only_one=True, progress_count=3),
    headers={"answer": "b"},
)
EVENT: Final = Event(topic="a.b", body=Body(b"1", codec.JSON), headers={"mine": "c"})
CONTROL: Final = Control(id="7", reason="canceled", deadline=NOW + 60, is_job=True)
REVOCATION_REQUEST: Final = revocation_request.of_request(RevocationRequest(id="q", worker="w1", tasks=("resize",)))

MESSAGES: Final = {  # routing key, queue, properties, body
    "call": (TASK_QUEUE, TASK_QUEUE, properties.of_call(CALL, now=NOW), CALL.body.data),
    "retry": (TASK_QUEUE, TASK_QUEUE, properties.of_retry(CALL, 100, now=NOW), CALL.body.data),
    "call that comes back": ("crew.again.resize", "crew.again.resize", properties.of_call(CALL, now=NOW), b"1"),
    "reply": (REPLY_QUEUE, REPLY_QUEUE, properties.of_reply(REPLY), b"{}"),
    "report of a job": (JOBS_QUEUE, JOBS_QUEUE, properties.of_reply(REPLY), b"{}"),
    "event": ("a.b", "crew.subscribe.web-1", properties.of_event(EVENT, now=NOW), b"1"),
    "control": ("task.resize", "crew.control.w1", properties.of_control(CONTROL), b""),
    "briefing": (topology.REVOCATION_REQUEST, JOBS_QUEUE, *REVOCATION_REQUEST),
    "parked": ("crew.parked", "crew.parked", properties.of_call(CALL, now=NOW), CALL.body.data),
}
KINDS: Final = pytest.mark.parametrize("kind", MESSAGES)


def of_kind(kind: str) -> tuple[str, str, Properties, bytes]:
    """A signed message: routing key, queue, properties, body."""
    key, queue, given, body = MESSAGES[kind]
    return key, queue, signed(key, msgspec.structs.replace(given), body), body


@KINDS
def test_a_signed_message_is_accepted(kind: str) -> None:
    key, queue, given, body = of_kind(kind)

    assert refusal(queue, key, given, body) is None


@KINDS
def test_a_message_without_a_signature_is_refused(kind: str) -> None:
    key, queue, given, body = MESSAGES[kind]

    assert refusal(queue, key, given, body) == "it has no signature"


@KINDS
def test_a_message_signed_with_another_key_is_refused(kind: str) -> None:
    key, queue, given, body = of_kind(kind)

    assert refusal(queue, key, given, body, by=signing(OTHER_KEY)) == "its signature is wrong"


@KINDS
def test_a_changed_body_is_refused(kind: str) -> None:
    key, queue, given, body = of_kind(kind)

    assert refusal(queue, key, given, body + b" ") == "its signature is wrong"


FIELDS: Final = (
    *("type", "correlation_id", "message_id", "reply_to", "priority", "delivery_mode"),
    *("content_type", "content_encoding"),
)


@KINDS
@pytest.mark.parametrize("field", FIELDS)
def test_a_changed_property_that_a_receiver_uses_is_refused(kind: str, field: str) -> None:
    key, queue, given, body = of_kind(kind)
    value = 7 if field in ("priority", "delivery_mode") else "other"

    assert refusal(queue, key, msgspec.structs.replace(given, **{field: value}), body) is not None


@KINDS
def test_a_changed_missing_or_added_header_is_refused(kind: str) -> None:
    key, queue, given, body = of_kind(kind)
    headers = given.headers or {}

    for name, value in headers.items():
        others = {other: of for other, of in headers.items() if other != name}
        changed = value + 1 if type(value) is int else not value if isinstance(value, bool) else f"{value}x"
        assert refusal(queue, key, msgspec.structs.replace(given, headers=others), body) is not None, name
        assert refusal(queue, key, with_headers(given, **{name: changed}), body) is not None, name
    for name in ("crew-deadline-2", "mine-too", "crew-worker-2"):
        assert refusal(queue, key, with_headers(given, **{name: 1}), body) == "its signature is wrong"


@KINDS
def test_a_message_is_refused_in_a_queue_of_another_kind(kind: str) -> None:
    key, queue, given, body = of_kind(kind)

    for other in ("crew.tasks.other", "crew.reply.other", "crew.jobs.other", "crew.subscribe.other", "crew.control.o"):
        if not other.startswith(queue.rpartition(".")[0]):
            assert refusal(other, key, given, body) is not None, other


# --- property: any signed field --------------------------------------------------------------------------------------

TEXT: Final = st.none() | st.text(max_size=20)
HEADERS: Final = st.dictionaries(
    st.text(min_size=1, max_size=10),
    st.text(max_size=10) | st.integers(-(2**63), 2**63 - 1) | st.booleans(),
    max_size=4,
)
ANY: Final = st.builds(
    Properties,
    content_type=TEXT,
    content_encoding=TEXT,
    correlation_id=TEXT,
    reply_to=TEXT,
    message_id=TEXT,
    type=st.just("call"),
    priority=st.integers(0, 9),
    delivery_mode=st.sampled_from([1, 2]),
    headers=HEADERS,
)
BODIES: Final = st.binary(max_size=20) | st.binary(min_size=DIGESTED_ABOVE, max_size=DIGESTED_ABOVE + 9)


def meaning(given: Properties, body: bytes) -> object:
    """All values that a receiver uses; 1 and True are different."""
    headers = {name: (type(value), value) for name, value in (given.headers or {}).items()}
    return [getattr(given, field) for field in FIELDS], headers, body


@given(first=ANY, second=ANY, body=BODIES, other_body=BODIES)
def test_a_signature_is_valid_for_its_own_message_only(
    first: Properties, second: Properties, body: bytes, other_body: bytes
) -> None:
    signed(TASK_QUEUE, first, body)
    second.app_id = first.app_id

    assert refusal(TASK_QUEUE, TASK_QUEUE, first, body) is None
    assert (refusal(TASK_QUEUE, TASK_QUEUE, second, other_body) is None) == (
        meaning(first, body) == meaning(second, other_body)
    )


@given(
    signature=st.sampled_from([None, "crew", b"crew 1.x", f"{SIGNED}{'0' * 64}.{'9' * 200}", f"{SIGNED}ä"])
    | st.text(max_size=90).map(SIGNED.__add__),
    headers=st.dictionaries(
        st.sampled_from(["crew-task", "crew-client", "x-first-death-reason", "mine", b"raw"]),
        st.sampled_from([0.5, b"x", None, [1], {"a": 1}, 2**63, "x"]),
    ),
    type=st.sampled_from([None, "call", "reply", "event", "control", "briefing", "other", b"call"]),
    queue=st.sampled_from([TASK_QUEUE, REPLY_QUEUE, JOBS_QUEUE, "crew.subscribe.a", "crew.control.a", "crew.parked"]),
)
def test_any_other_message_is_refused_without_an_exception(
    signature: Any, headers: dict[Any, Any], type: Any, queue: str
) -> None:
    given = Properties(type=type, headers=headers or None, app_id=signature)

    assert refusal(queue, "any.key", given, b"") is not None


def keyed_blake2b(key: str, form: bytes) -> str:
    """The signature as the documentation defines it for other programs: BLAKE2b (RFC 7693) with a key."""
    return hashlib.blake2b(form, key=hashlib.blake2b(key.encode()).digest(), digest_size=32).hexdigest()


def test_a_signature_is_a_keyed_blake2b_of_all_that_a_receiver_uses() -> None:
    for key in ("k" * 32, "k" * 64, "ü" * 100):
        given = signed("k", Properties(type="other"), b"1", by=signing(key))
        form = msgspec.msgpack.encode(("k", "", "other", *[None] * 8, b"1"))

        assert given.app_id == f"crew 1.{keyed_blake2b(key, form)}"


def test_the_signature_of_a_message_that_expires_includes_the_time() -> None:
    given = signed("k", Properties(type="event"), b"1")
    form = msgspec.msgpack.encode(("k", f".{int(NOW)}", "event", *[None] * 8, b"1"))

    assert given.app_id == f"crew 1.{keyed_blake2b(KEY, form)}.{int(NOW)}"


@pytest.mark.parametrize("kind", ["event", "control", "briefing"])
def test_a_changed_or_missing_time_of_signing_is_refused(kind: str) -> None:
    key, queue, given, body = of_kind(kind)
    signature = given.app_id or ""

    for changed in (signature.removesuffix(f".{int(NOW)}"), signature[:-1], f"{signature[:-1]}9", f"{signature}0"):
        assert refusal(queue, key, msgspec.structs.replace(given, app_id=changed), body) == "its signature is wrong"


def test_a_large_body_is_signed_by_its_length_and_digest() -> None:
    body = b"x" * (DIGESTED_ABOVE + 1)
    given = signed("k", Properties(), body)
    form = msgspec.msgpack.encode(("k", "", *[None] * 9, (len(body), hashlib.sha256(body).digest())))

    assert given.app_id == f"crew 1.{keyed_blake2b(KEY, form)}"


def test_a_message_that_is_published_again_is_signed_again() -> None:
    clock = Clock()
    given = signed("a.b", Properties(type="event"), b"", by=signing(clock=clock))
    clock.now += 2 * FRESH_FOR
    signed("a.b", given, b"", by=signing(clock=clock))

    assert refusal("crew.subscribe.x", "a.b", given, b"", by=signing(clock=clock)) is None


# --- queues and routing keys -----------------------------------------------------------------------------------------


def test_a_call_is_accepted_only_in_the_queues_of_its_task() -> None:
    given = a_call()

    assert of_call(given) is None
    assert of_call(given, queue="crew.again.resize") is None
    assert of_call(given, queue="crew.tasks.delete", key="crew.tasks.delete") == "its signature is wrong"
    assert of_call(given, queue="crew.tasks.delete") == "its signature is wrong"  # over a binding that an attacker made


def test_a_reply_is_accepted_only_by_its_own_client() -> None:
    _, _, given, body = of_kind("reply")

    assert refusal("crew.reply.web-2", "crew.reply.web-2", given, body) == "its signature is wrong"


def test_a_cancel_of_a_job_is_refused_in_the_queue_for_reports() -> None:
    key, _, given, body = of_kind("control")

    assert refusal(JOBS_QUEUE, key, given, body) == "messages of type 'control' are not allowed in this queue"


def test_a_topic_may_look_like_the_queue_of_a_task() -> None:
    given = signed("crew.again.resize", Properties(type="event"), b"1")

    assert refusal("crew.subscribe.x", "crew.again.resize", given, b"1") is None


@pytest.mark.parametrize("type", [None, "call", "reply", "other"])
def test_a_parked_message_may_have_any_type(type: str | None) -> None:
    given = signed("crew.parked", Properties(type=type), b"1")

    assert refusal("crew.parked", "crew.parked", given, b"1") is None


@pytest.mark.parametrize("queue", [TASK_QUEUE, "crew.control.w1", "crew.subscribe.web-1"])
def test_the_reason_names_a_type_that_is_not_allowed_in_the_queue(queue: str) -> None:
    given = signed(queue, Properties(type="other"), b"1")

    assert refusal(queue, queue, given, b"1") == "messages of type 'other' are not allowed in this queue"


def test_an_event_is_accepted_only_on_its_own_topic() -> None:
    _, queue, given, body = of_kind("event")

    assert refusal(queue, "a.c", given, body) == "its signature is wrong"


# --- changes that the broker makes -----------------------------------------------------------------------------------

DEATH: Final = {
    "x-first-death-reason": "expired",
    "x-death": [{"reason": "expired", "count": 1}],
    "x-delivery-count": 2,
}


def by_broker(given: Properties, **headers: Any) -> Properties:
    """`given` as the broker delivers it after it was dead-lettered."""
    return msgspec.structs.replace(given, headers={**(given.headers or {}), **headers}, expiration=None)


@pytest.mark.parametrize("headers", [None, {}])
def test_a_message_without_headers_is_accepted_when_the_broker_has_added_some(headers: dict[str, Any] | None) -> None:
    given = signed("a.b", Properties(type="event", headers=headers), b"1")

    assert refusal("crew.subscribe.x", "a.b", by_broker(given, **DEATH), b"1") is None


def test_a_delayed_or_redelivered_call_is_accepted() -> None:
    key, queue, given, body = of_kind("retry")

    assert refusal(queue, key, by_broker(given, **DEATH), body) is None
    assert of_call(by_broker(a_call(), **{"x-acquired-count": 1, "timestamp_in_ms": 1, "CC": ["a"]})) is None


def test_a_dead_lettered_call_is_accepted_only_in_the_reply_queue_of_its_client() -> None:
    given = by_broker(a_call(), **DEATH)

    assert of_call(given, queue=REPLY_QUEUE) is None
    assert of_call(given, queue=REPLY_QUEUE, key="crew.moved.resize") is None  # it expired in the holding queue
    assert of_call(given, queue="crew.reply.web-2") is not None
    assert of_call(a_call(), queue=REPLY_QUEUE) is not None  # it is not a dead letter


def test_a_dead_lettered_job_is_accepted_only_in_the_queue_of_its_store() -> None:
    job = msgspec.structs.replace(CALL, client=JOBS_QUEUE, reply_to=JOBS_QUEUE, is_job=True)
    given = by_broker(signed(TASK_QUEUE, properties.of_call(job, now=NOW), b""), **DEATH)

    assert refusal(JOBS_QUEUE, TASK_QUEUE, given, b"") is None
    assert refusal("crew.jobs.other", TASK_QUEUE, given, b"") is not None


def test_a_call_is_accepted_during_and_after_a_migration_of_its_queue() -> None:
    assert of_call(a_call(), queue="crew.moved.resize", key="crew.moved.resize") is None
    assert of_call(a_call()) is None


# --- time and keys ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["event", "control", "briefing"])
def test_an_event_control_or_request_outside_the_time_window_is_refused(kind: str) -> None:
    key, queue, given, body = of_kind(kind)
    clock = Clock()

    for seconds, reason in (
        (FRESH_FOR, None),
        (-FRESH_FOR, None),
        (FRESH_FOR + 2, "its signature has expired: 302 s old"),
        (-FRESH_FOR - 2, "its signature has expired: 302 s in the future"),
    ):
        clock.now = int(NOW) + seconds
        assert refusal(queue, key, given, body, by=signing(clock=clock)) == reason


def test_calls_and_replies_do_not_expire_by_their_signature() -> None:
    clock = Clock()
    clock.now += 30 * 86_400

    for kind in ("call", "retry", "reply", "report of a job", "parked"):
        key, queue, given, body = of_kind(kind)
        assert refusal(queue, key, given, body, by=signing(clock=clock)) is None


def test_keys_can_be_rotated_without_refusing_a_message() -> None:
    old, both, new = signing(KEY), signing(OTHER_KEY, KEY), signing(OTHER_KEY)
    by_old = signed("q", Properties(type="call"), b"", by=old)
    by_both = signed("q", Properties(type="call"), b"", by=both)

    assert refusal("q", "q", by_old, b"", by=both) is None
    assert refusal("q", "q", by_both, b"", by=both) is None
    assert refusal("q", "q", by_both, b"", by=new) is None
    assert refusal("q", "q", by_old, b"", by=new) == "its signature is wrong"


def test_the_repr_shows_no_key() -> None:
    assert repr(signing(KEY, OTHER_KEY)) == "<Signing with 2 keys>"
