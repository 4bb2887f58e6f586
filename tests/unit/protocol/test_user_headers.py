"""The headers that a user may send."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crew.protocol import user_headers
from crew.protocol.encoding.foreign import brief
from crew.protocol.user_headers import MAX_HEADERS

whole_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
integers_64 = st.integers(-(2**63), 2**63 - 1)
header_names = whole_text.filter(
    lambda name: not name.lower().startswith(("crew-", "x-")) and name.lower() not in ("cc", "bcc")
)
headers_of_users = st.dictionaries(
    header_names,
    whole_text | st.booleans() | integers_64,
    max_size=4,
)


@given(headers_of_users)
@settings(deadline=None, max_examples=50)
def test_headers_may_be_strings_integers_and_booleans(headers: dict[str, Any]) -> None:
    assert user_headers.check(headers) == headers


def test_headers_may_be_left_out() -> None:
    assert user_headers.check(None) == {}


@pytest.mark.parametrize(
    "headers",
    [
        {"a": None},
        {"a": b"bytes"},
        {"a": [1]},
        {"a": 2**63},
        {"": 1},
        {"ü" * 65: 1},
        {1: 1},
        {"crew-client": "me"},
        {"X-Death": "x"},
        {"CREW-task": "t"},
        {"CC": "x"},
        {"bcc": "x"},
        {"Cc": 1},
        {"BcC": True},
    ],
    ids=repr,
)
def test_an_invalid_header_is_a_value_error_at_the_call(headers: dict[Any, Any]) -> None:
    with pytest.raises(ValueError, match="header"):
        user_headers.check(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"a": "\ud800"},
        {"\ud800": 1},
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": "x" * 200_000},
        [("a", 1)],
    ],
    ids=["value is not UTF-8", "name is not UTF-8", "nan", "inf", "larger than a frame", "no dict"],
)
def test_a_header_that_would_break_the_connection_is_a_value_error_at_the_call(headers: Any) -> None:
    """Not UTF-8: pika raises when it encodes. NaN: pika raises when it decodes a message of another client.

    Larger than a frame (128 KiB): the broker closes the connection, and the call is published again on the next.
    """
    with pytest.raises(ValueError, match="header"):
        user_headers.check(headers)


def test_headers_by_which_rabbitmq_routes_are_removed() -> None:
    given = {"CC": ["crew.tasks.other"], "bcc": "x", "Bcc": 1, "BCC": {"a": 1}, "mine": "x", "bcc2": "y"}
    assert user_headers.own(given) == user_headers.sendable(given) == {"mine": "x", "bcc2": "y"}


@pytest.mark.parametrize(
    "headers",
    [
        {"a": 1},
        {"ü" * 64: 1},
        {"a": 2**63 - 1, "b": -(2**63), "c": True},
        {"a": "x" * (MAX_HEADERS - 1)},
        {"ü": "ü" * (MAX_HEADERS // 2 - 1) + "x"},
        {f"{number:0119}": number for number in range(MAX_HEADERS // 128)},
    ],
    ids=["one letter", "128 bytes", "64 bits", "text of the maximum size", "counted in bytes", "integers"],
)
def test_headers_are_accepted_up_to_each_limit(headers: dict[str, Any]) -> None:
    assert user_headers.check(headers) == headers
    assert user_headers.sendable(headers) == headers


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ([("a", 1)], "headers must be a dict, not [('a', 1)]"),
        ({"a": "x" * MAX_HEADERS}, f"the headers have {MAX_HEADERS + 1} bytes, more than {MAX_HEADERS}"),
        (
            {f"{number:0119}": number for number in range(MAX_HEADERS // 128 + 1)},
            f"the headers have {MAX_HEADERS + 128} bytes, more than {MAX_HEADERS}",
        ),
        ({"ü" * 63 + "xyz": 1}, "the name of a header must be a string of 1 to 128 bytes, not "),
        ({"": 1}, "the name of a header must be a string of 1 to 128 bytes, not ''"),
        ({2: 1}, "the name of a header must be a string of 1 to 128 bytes, not 2"),
        ({"\ud800": 1}, f"the name of a header must be valid Unicode, not {brief(chr(0xD800))}"),
        ({"a": "\ud800"}, f"header 'a' must be valid Unicode, not {brief(chr(0xD800))}"),
        ({"a": 2**63}, "header 'a' must be a str, an int of 64 bits, or a bool, not 9223372036854775808"),
        ({"a": -(2**63) - 1}, "header 'a' must be a str, an int of 64 bits, or a bool, not -9223372036854775809"),
        ({"a": None}, "header 'a' must be a str, an int of 64 bits, or a bool, not None"),
        ({"X-a": 1}, "header 'X-a' is reserved: use a name that does not begin with crew- or x-"),
        ({"Cc": 1}, "header 'Cc' is reserved: RabbitMQ routes messages by CC and BCC"),
    ],
)
def test_the_error_names_the_header_and_what_is_allowed(headers: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        user_headers.check(headers)


def test_received_headers_of_crew_and_of_the_broker_are_not_the_callers() -> None:
    received: dict[Any, Any] = {"crew-task": "t", "x-death": 1, b"bytes": 1, 2: 1, "mine": None, "crewed": 1}
    assert user_headers.own(received) == {"mine": None, "crewed": 1}
    assert user_headers.sendable(received) == {"crewed": 1}


def test_received_headers_that_are_too_large_together_are_not_sent_again() -> None:
    assert user_headers.sendable({"a": "x" * MAX_HEADERS}) == {}
    assert user_headers.sendable({"a": "x" * (MAX_HEADERS - 20), "b": 1, "c": "1234567890"}) == {}
