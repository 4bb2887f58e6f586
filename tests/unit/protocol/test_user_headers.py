"""The headers that a user may send."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crew.protocol import user_headers

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
