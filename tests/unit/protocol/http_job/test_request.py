"""Requests of URL jobs, checked before they are sent."""

import re
from typing import Any

import msgspec
import pytest

from crew.protocol.http_job.request import MAX_HEADERS, METHODS, HttpRequest, check_request, request_of
from crew.protocol.http_job.url import parse_url

URL = "http://example.org/"


def test_a_request_needs_only_a_url() -> None:
    assert check_request(url=URL) == HttpRequest(
        url=URL, target=parse_url(URL), method="GET", headers={}, data=None, timeout=60.0
    )


def test_a_request_with_data_is_a_post_unless_it_has_a_method() -> None:
    assert check_request(url=URL, data="x").method == "POST"
    assert check_request(url=URL, data={}).method == "POST"
    assert check_request(url=URL, data="x", method="put").method == "PUT"


@pytest.mark.parametrize("method", METHODS)
def test_the_methods_of_http_are_accepted(method: str) -> None:
    assert check_request(url=URL, method=method).method == method


@pytest.mark.parametrize("method", ["", "CONNECT", "TRACE", "GET /x HTTP/1.1\r\nA: b", "FETCH", 1, ["GET"], "G" * 999])
def test_any_other_method_is_an_error_of_one_line(method: object) -> None:
    expected = f"method must be one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, not {repr(method)[:9]}"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}") as refused:
        check_request(url=URL, method=method)
    assert len(str(refused.value)) < 200
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("data", "headers", "body", "content_type"),
    [
        (None, {}, None, None),
        ("", {}, b"", "text/plain; charset=utf-8"),
        ("grün", {}, "grün".encode(), "text/plain; charset=utf-8"),
        ("<a/>", {"content-type": "text/xml"}, b"<a/>", "text/xml"),
        ({"a": [1, None]}, {}, b'{"a":[1,null]}', "application/json"),
        ([], {}, b"[]", "application/json"),
        (0, {}, b"0", "application/json"),
        (False, {}, b"false", "application/json"),
        ({"a": 1}, {"Content-Type": "application/vnd.api+json"}, b'{"a":1}', "application/vnd.api+json"),
        ({"a": "x y", "b": [1, 2]}, {"Content-Type": "application/x-www-form-urlencoded"}, b"a=x+y&b=1&b=2", None),
        ("a=1", {"Content-Type": "application/x-www-form-urlencoded"}, b"a=1", None),
    ],
)
def test_data_is_sent_as_text_json_or_a_form(
    data: object, headers: dict[str, str], body: bytes | None, content_type: str | None
) -> None:
    request = check_request(url=URL, headers=headers, data=data)
    assert request.body == body
    assert request.content_type == (content_type or headers.get("Content-Type"))


@pytest.mark.parametrize(
    ("data", "headers", "sentence"),
    [
        (b"x", {}, "data must be a string or JSON, not bytes"),
        ("\ud800", {}, "data must be valid Unicode"),
        ([1], {"content-type": "application/x-www-form-urlencoded; x"}, "strings and numbers"),
        ({"a": {"b": 1}}, {"content-type": "application/x-www-form-urlencoded"}, "strings and numbers"),
    ],
)
def test_data_that_cannot_be_sent_is_a_value_error(data: object, headers: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_request(url=URL, headers=headers, data=data)


def test_headers_may_have_any_text() -> None:
    headers = {"Accept": "text/html", "X-A": "grün\tund", "Authorization": "Bearer x", "a": ""}
    assert check_request(url=URL, headers=headers).headers == headers


@pytest.mark.parametrize("value", ["a\r\nHost: evil", "a\nb", "a\rb", "a\0b", "\x1b[2J", 1, None, ["a"], "\ud800"])
def test_a_header_value_with_a_line_break_is_a_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match=r"header 'X-A' must be (a string without line breaks|valid Unicode)"):
        check_request(url=URL, headers={"X-A": value})


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "ä", "a\0", "(a)", 1])
def test_the_name_of_a_header_is_a_token(name: Any) -> None:
    expected = f"the name of a header must consist of letters, digits and -, not {name!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        check_request(url=URL, headers={name: "x"})


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "content-length", "Transfer-Encoding", "CONNECTION", "Keep-Alive", "TE", "Trailer", "Upgrade"),
        *("Expect", "Proxy-Authorization", "Proxy-Connection"),
    ],
)
def test_headers_of_the_connection_are_not_allowed(name: str) -> None:
    with pytest.raises(ValueError, match=f"header '{name}' is not allowed"):
        check_request(url=URL, headers={name: "x"})


@pytest.mark.parametrize("headers", ["a: b", [["a", "b"]], 1])
def test_headers_are_an_object(headers: object) -> None:
    with pytest.raises(ValueError, match=f"^headers must be an object of strings, not {type(headers).__name__}$"):
        check_request(url=URL, headers=headers)


def test_the_size_of_headers_is_limited() -> None:
    assert check_request(url=URL, headers={"a": "x" * (MAX_HEADERS - 1)})
    with pytest.raises(ValueError, match="the headers have 32769 bytes, more than 32768"):
        check_request(url=URL, headers={"a": "x" * MAX_HEADERS})


def test_a_header_name_may_be_used_only_once() -> None:
    with pytest.raises(ValueError, match="a name twice"):
        check_request(url=URL, headers={"A": "x", "a": "y"})


def test_a_user_in_the_url_excludes_an_authorization_header() -> None:
    with pytest.raises(ValueError, match="the url contains a user and the headers contain Authorization") as refused:
        check_request(url="http://me:s3cret@example.org/", headers={"authorization": "Bearer t0ken"})
    assert "s3cret" not in str(refused.value)
    assert "t0ken" not in str(refused.value)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e9, "soon", True])
def test_an_invalid_timeout_is_a_value_error(timeout: object) -> None:
    with pytest.raises(ValueError, match="timeout must be"):
        check_request(url=URL, timeout=timeout)


def test_a_request_is_decoded_from_the_payload_of_a_call() -> None:
    request = check_request(url=URL, data={"a": 1}, headers={"b": "c"}, timeout=5)
    assert request_of(msgspec.to_builtins(request.payload)) == request


@pytest.mark.parametrize("payload", [None, [], "http://example.org/", {"url": URL, "proxy": "x"}, {1: 2}])
def test_the_error_for_an_invalid_payload_says_what_is_expected(payload: object) -> None:
    with pytest.raises(ValueError, match=r"data of task 'crew\.http' must be an object with url, method, headers"):
        request_of(payload)


def test_a_request_needs_a_url() -> None:
    with pytest.raises(ValueError, match=r"data of task 'crew\.http' must have a url"):
        request_of({"method": "GET"})


def test_the_repr_of_a_request_hides_its_secrets() -> None:
    request = check_request(
        url="http://me:s3cret@example.org/?s3cret", headers={"cookie": "s3cret"}, data={"password": "s3cret"}
    )
    assert repr(request) == "<HttpRequest POST http://***@example.org/?***>"
