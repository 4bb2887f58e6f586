"""Messages in the parked queue, from any sender."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crew.protocol import properties
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
