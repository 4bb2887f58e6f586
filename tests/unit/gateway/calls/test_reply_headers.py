"""Reply headers of a task in an HTTP response: they cannot break it."""

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders

from crew.gateway.calls.reply_headers import MAX_SIZE, http_headers


def test_reply_headers_get_the_prefix_crew() -> None:
    given = {"served": 7, "cache-hit": True, "Set-Cookie": "a=b", "text": "a b"}
    assert http_headers(given) == {
        "Crew-served": "7",
        "Crew-cache-hit": "true",
        "Crew-Set-Cookie": "a=b",
        "Crew-text": "a b",
    }


@pytest.mark.parametrize(
    "value", ["a\r\nSet-Cookie: x", "a\nb", "a\rb", "a\0b", "a\tb", "a\x7fb", "a\x85b", "ü", "\u2028"]
)
def test_a_value_with_control_or_non_ascii_characters_is_left_out(value: str) -> None:
    assert http_headers({"a": value, "b": "sent"}) == {"Crew-b": "sent"}


@pytest.mark.parametrize("name", ["a b", "a:", "a\r\nb", "a\n", "ü", "a(b)"])
def test_a_name_that_is_invalid_in_http_is_left_out(name: str) -> None:
    assert http_headers({name: "x", "b": "sent"}) == {"Crew-b": "sent"}


def test_headers_above_the_size_limit_are_left_out() -> None:
    assert http_headers({"a": "x" * MAX_SIZE, "b": "sent"}) == {"Crew-b": "sent"}
    assert sum(map(len, http_headers({f"n{i}": "x" * 100 for i in range(100)}).values())) < MAX_SIZE


@given(st.dictionaries(st.text(min_size=1), st.text() | st.integers() | st.booleans()))
def test_each_header_is_always_one_line(headers: dict[str, Any]) -> None:
    for name, value in http_headers(headers).items():
        line = f"{name}: {value}\r\n"
        assert set(line[:-2]) <= set(string.printable) - set("\r\n\t\v\f")
        assert len(list(HTTPHeaders.parse(line).get_all())) == 1
