"""Messages in the parked queue, from any sender."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crew.protocol import properties
from crew.protocol.message import Body
from crew.protocol.parked_message import of_replay, to_parked
from crew.protocol.properties import Properties

NOW = 1_800_000_000.0

anything = st.none() | st.text() | st.binary() | st.integers() | st.lists(st.integers())
names = st.sampled_from(["crew-task", "crew-reason", "crew-host", "crew-exit-status", "crew-timeout", "mine"])


@given(
    given=st.builds(
        Properties,
        content_type=anything,
        correlation_id=st.none() | st.text() | st.binary(),
        message_id=st.none() | st.text() | st.binary(),
        headers=st.none() | st.dictionaries(names | st.text() | st.binary(), anything),
    ),
    data=st.binary(),
)
def test_any_parked_message_can_be_shown_and_replayed(given: Properties, data: bytes) -> None:
    parked = to_parked(given, data)
    assert parked.id
    assert parked.id.isprintable()
    assert to_parked(given, data).id == parked.id
    assert isinstance(of_replay(parked, now=NOW).correlation_id, str)


def test_a_replay_keeps_the_call_but_not_its_caller_deadline_or_attempts() -> None:
    headers: dict[str, Any] = {
        "crew-task": "t",
        "crew-attempt": 3,
        "crew-client": "c",
        "crew-deadline": 5,
        "crew-reason": "died",
        "crew-timeout": 700,
        "x-death": [{"reason": "expired"}],
        "mine": "x",
    }
    given = Properties(correlation_id="id", message_id="m", reply_to="r", priority=7, headers=headers)

    replay = of_replay(to_parked(given, b""), now=NOW)
    call = properties.to_call("t", replay, b"", make_id=str)

    assert (call.id, call.attempt, call.deadline, call.reply_to, call.client) == ("id", 1, None, None, None)
    assert (call.persistent, call.timeout, call.headers) == (True, 0.7, {"mine": "x"})
    assert call.message_id not in (None, "m"), "a reply to the first call must not settle the replay"
    assert replay.expiration is None


def test_a_replay_may_have_a_deadline() -> None:
    replay = of_replay(to_parked(Properties(headers={"crew-task": "t"}), b""), now=NOW, expiration=5)
    assert (replay.headers or {})["crew-deadline"] == (NOW + 5) * 1000
    assert replay.expiration == "6000"


@pytest.mark.parametrize("other", [Properties(timestamp=2), Properties(timestamp=1, headers={"a": 1})])
def test_messages_without_an_id_get_different_ids(other: Properties) -> None:
    one = to_parked(Properties(timestamp=1), b"")
    assert one.id.startswith("digest-")
    assert len({one.id, to_parked(other, b"").id, to_parked(Properties(timestamp=1), b"x").id}) == 3


WHOLE = Properties(
    content_type="application/json",
    content_encoding="gzip",
    correlation_id="id",
    message_id="m",
    timestamp=1_700_000_000,
    priority=7,
    headers={
        "crew-task": "t",
        "crew-reason": "it has killed 3 processes",
        "crew-host": "h:1",
        "crew-exit-status": "signal 9",
        "crew-timeout": 700,
    },
)


def test_a_parked_message_shows_what_became_of_its_call() -> None:
    parked = to_parked(WHOLE, b"body")
    assert (parked.id, parked.task, parked.parked_at) == ("id", "t", 1_700_000_000)
    assert (parked.reason, parked.host, parked.exit_status) == ("it has killed 3 processes", "h:1", "signal 9")
    assert parked.properties is WHOLE
    assert parked.body == Body(b"body", "application/json", "gzip")


def test_a_message_without_headers_shows_that_nothing_is_known() -> None:
    parked = to_parked(Properties(message_id="m"), b"")
    assert (parked.id, parked.task, parked.reason, parked.host, parked.exit_status) == ("m", None, "", None, None)


@pytest.mark.parametrize(
    ("id", "shown"), [(b"\xff1", "\\xff1"), (b"1", "1"), (5, "5"), ("a\nb", "a\\nb"), ("\u2028", "\\u2028")]
)
def test_an_id_is_shown_with_escapes_whatever_it_is(id: Any, shown: str) -> None:
    assert to_parked(Properties(correlation_id=id), b"").id == shown


def test_a_replay_has_all_properties_of_a_new_call() -> None:
    replay = of_replay(to_parked(WHOLE, b"body"), now=NOW + 0.9, expiration=2.5)
    assert (replay.content_type, replay.content_encoding) == ("application/json", "gzip")
    assert (replay.correlation_id, replay.type, replay.priority) == ("id", "call", 7)
    assert (replay.timestamp, replay.expiration) == (int(NOW), "3500")
    assert (replay.delivery_mode, replay.app_id, replay.reply_to) == (2, "crew", None)
    assert replay.headers == {"crew-task": "t", "crew-timeout": 700, "crew-deadline": round((NOW + 3.4) * 1000)}
    assert replay.message_id not in (None, "m")


@pytest.mark.parametrize("timeout", ["700", True, 7.5, None])
def test_a_replay_drops_a_timeout_that_no_client_has_sent(timeout: Any) -> None:
    given = Properties(correlation_id="id", headers={"crew-task": "t", "crew-timeout": timeout})
    assert "crew-timeout" not in (of_replay(to_parked(given, b""), now=NOW).headers or {})


def test_a_replay_of_a_message_without_headers_has_only_its_task() -> None:
    replay = of_replay(to_parked(Properties(message_id="m"), b""), now=NOW)
    assert (replay.correlation_id, replay.headers) == ("m", {"crew-task": None})


def test_a_replay_gets_a_new_id_if_its_own_cannot_be_used() -> None:
    not_utf8: Any = b"1"
    parked = to_parked(Properties(correlation_id=not_utf8), b"")
    first, second = (of_replay(parked, now=NOW) for _ in range(2))
    assert first.correlation_id != second.correlation_id
    assert len(first.correlation_id or "") == 32


def test_the_digest_of_a_message_without_an_id_does_not_change() -> None:
    given = Properties(timestamp=1, type="call", headers={"a": "\ud800"})
    parked = to_parked(given, b"x")
    assert parked.id == to_parked(given, b"x").id
    assert len(parked.id) == len("digest-") + 16
    assert parked.id != to_parked(Properties(timestamp=1, type="other", headers={"a": "\ud800"}), b"x").id
