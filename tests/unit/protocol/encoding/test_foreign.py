"""Values from other programs are checked before they are used."""

from typing import Any

import msgspec
import pytest

from crew.errors import SerializationError
from crew.protocol.encoding import foreign
from crew.protocol.encoding.foreign import BRIEF_REASON, MAX_COUNT, MAX_FOREIGN, MAX_PLAIN, MAX_WORKER_ID

names = msgspec.json.Decoder(list[str]).decode


def test_a_property_must_be_text_or_missing() -> None:
    assert foreign.text("type", "call") == "call"
    assert foreign.text("type", None) is None
    with pytest.raises(foreign.MalformedMessage, match=r"^property type must be UTF-8 text, not b'\\xff'$"):
        foreign.text("type", b"\xff")


def test_a_header_must_have_exactly_its_type() -> None:
    assert foreign.header({"a": 1}, "a", int, None) == 1
    assert foreign.header({"b": 1}, "a", int, 7) == 7
    with pytest.raises(foreign.MalformedMessage, match=r"^header a must be of type int, not True$"):
        foreign.header({"a": True}, "a", int, None)


@pytest.mark.parametrize("id", [None, "w", "w" * MAX_WORKER_ID, "ü" * (MAX_WORKER_ID // 2), "\ud800" * MAX_WORKER_ID])
def test_the_id_of_a_worker_may_have_as_many_bytes_as_fit_into_a_routing_key(id: str | None) -> None:
    assert foreign.worker_id(id) == id


@pytest.mark.parametrize("id", ["w" * (MAX_WORKER_ID + 1), "ü" * (MAX_WORKER_ID // 2 + 1), "\N{FIRE}" * 51])
def test_a_longer_id_of_a_worker_is_malformed(id: str) -> None:
    expected = f"^the id of a worker must have at most {MAX_WORKER_ID} bytes, not '{id[:9]}"
    with pytest.raises(foreign.MalformedMessage, match=expected):
        foreign.worker_id(id)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RecursionError("maximum recursion depth"), "a value: it is nested too deeply"),
        (MemoryError(), "a value: there is not enough memory for it"),
        (ValueError("bad"), "a value: bad"),
    ],
)
def test_data_that_cannot_be_decoded_is_a_serialization_error_with_its_reason(error: Exception, reason: str) -> None:
    found = foreign.unreadable("a value", error)
    assert isinstance(found, SerializationError)
    assert str(found) == reason


def test_a_serialization_error_of_a_decoder_stays_as_it_is() -> None:
    error = SerializationError("why")
    assert foreign.unreadable("a value", error) is error


def test_the_reason_of_a_decoder_is_shortened() -> None:
    text = str(foreign.unreadable("", ValueError("x" * 10_000)))
    assert BRIEF_REASON <= len(text) < BRIEF_REASON + 50


def test_data_of_crew_is_decoded_up_to_its_limit() -> None:
    assert foreign.read(names, b'["a"]', "a list", most=5) == ["a"]
    with pytest.raises(SerializationError, match=r"^a list cannot be decoded: it has 5 bytes, more than 4$"):
        foreign.read(names, b'["a"]', "a list", most=4)
    with pytest.raises(SerializationError, match=r"^a list cannot be decoded: .*truncated"):
        foreign.read(names, b'["a"', "a list", most=5)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"x-last-death-reason": "expired", "x-first-death-reason": "rejected"}, "expired"),
        ({"x-death": [{"reason": "maxlen"}, {"reason": "rejected"}], "x-first-death-reason": "rejected"}, "maxlen"),
        ({"x-death": [], "x-first-death-reason": "rejected"}, "rejected"),
        ({"x-first-death-reason": 5}, "5"),
    ],
)
def test_the_last_reason_of_the_broker_is_the_one_that_counts(headers: dict[str, Any], reason: str) -> None:
    assert foreign.reason_of_death(headers) == reason


@pytest.mark.parametrize("headers", [{"x-last-death-reason": "r" * 1_000}, {"x-first-death-reason": "r" * 1_000}])
def test_a_long_reason_of_the_broker_is_shortened(headers: dict[str, Any]) -> None:
    assert len(foreign.reason_of_death(headers)) < foreign.BRIEF + 50


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ("ok", True),
        ("x" * MAX_PLAIN, True),
        ("x" * (MAX_PLAIN + 1), False),
        ("a\nb", False),
        (MAX_FOREIGN, True),
        (MAX_FOREIGN + 1, False),
        (-MAX_FOREIGN, True),
        (-MAX_FOREIGN - 1, False),
        (True, False),
        (1.5, False),
        (None, False),
    ],
)
def test_a_header_is_sent_again_only_if_it_can_be_encoded(value: object, plain: bool) -> None:
    assert foreign.is_plain(value) is plain


def test_attempts_count_from_one() -> None:
    assert foreign.attempt_number({}, "n") == 1
    assert foreign.attempt_number({"n": 1}, "n") == 1
    assert foreign.attempt_number({"n": 2**60}, "n") == MAX_FOREIGN
    with pytest.raises(foreign.MalformedMessage, match=r"^header n must be 1 or more, not 0$"):
        foreign.attempt_number({"n": 0}, "n")
    with pytest.raises(foreign.MalformedMessage, match="header n must be of type int"):
        foreign.attempt_number({"n": "2"}, "n")


def test_counts_are_limited_to_what_a_database_holds() -> None:
    found = [foreign.count({"n": number}, "n") for number in (-5, 0, 1, MAX_COUNT, MAX_COUNT + 1)]
    assert found == [0, 0, 1, MAX_COUNT, MAX_COUNT]
    assert foreign.count({}, "n") == 0
    with pytest.raises(foreign.MalformedMessage, match="header n must be of type int"):
        foreign.count({"n": "2"}, "n")


def test_milliseconds_of_a_header_become_seconds_within_what_can_be_sent_again() -> None:
    assert foreign.seconds({}, "n") is None
    assert foreign.seconds({"n": 1_500}, "n") == 1.5
    assert foreign.seconds({"n": 2**60}, "n") == MAX_FOREIGN / 1000
    assert foreign.seconds({"n": -(2**60)}, "n") == -MAX_FOREIGN / 1000
    with pytest.raises(foreign.MalformedMessage, match="header n must be of type int"):
        foreign.seconds({"n": 1.5}, "n")
