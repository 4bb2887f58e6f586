"""`POST /call/<task>`; the test plays broker and worker."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.routing import URLSpec
from tornado.web import HTTPError

from crew import errors
from crew.gateway import CallHandler, routes
from crew.protocol.encoding import codec
from tests.support.site import Site, logged, site
from tests.support.waiting import until

JSON = {"Content-Type": "application/json"}
BYTES = {"Content-Type": "application/octet-stream"}


class HttpClient:
    """Makes requests to the site."""

    def __init__(self, web: Site) -> None:
        self.site = web
        self._http = AsyncHTTPClient(force_instance=True)

    def post(
        self, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> "asyncio.Future[HTTPResponse]":
        """Start a POST request."""
        return self.request("POST", path, body=body, headers=headers)

    def request(self, method: str, path: str, **given: Any) -> "asyncio.Future[HTTPResponse]":
        """Start a request."""
        url = f"http://127.0.0.1:{self.site.port}{path}"
        return self._http.fetch(url, method=method, raise_error=False, allow_nonstandard_methods=True, **given)

    async def call_with_reply(self, value: Any, path: str = "/call/t", *given: Any, **headers: Any) -> HTTPResponse:
        """Make a request, and reply to its call with `value` and `headers`, as a worker does."""
        response = self.post(path, *given)
        (call,) = await self.site.wait_for_calls(1)
        self.site.reply(call, value, headers)
        return await response

    def close(self) -> None:
        """Close its connections."""
        self._http.close()


@asynccontextmanager
async def http_client(*, settings: dict[str, Any] | None = None, **limits: Any) -> AsyncIterator[HttpClient]:
    """A client of crew's routes, mounted in an application with these settings."""
    async with site(mount=lambda crew: routes(crew, **limits), **settings or {}) as web:
        client = HttpClient(web)
        try:
            yield client
        finally:
            client.close()


def problem(response: HTTPResponse, status: int) -> Any:
    assert response.headers["Content-Type"] == "application/problem+json"
    document = msgspec.json.decode(response.body)
    assert response.code == document["status"] == status
    return document


# --- the request ----------------------------------------------------------------------------------------------------


BODIES = [
    ("application/json", b'{"width": 640}', {"width": 640}),
    ("application/json; charset=utf-8", b"[1]", [1]),
    ("Application/JSON", b"null", None),
    ("application/json", b'\xef\xbb\xbf{"marked": 1}', {"marked": 1}),
    ("application/json", b"", None),
    ("application/x-www-form-urlencoded", b"", None),
    ("application/octet-stream", b"\x00\xff", b"\x00\xff"),
    ("application/octet-stream", b"", b""),
    ("text/plain", "ü".encode(), "ü"),
    ("text/plain", b"", ""),
    ("application/msgpack", msgspec.msgpack.encode({"a": b"\x00"}), {"a": b"\x00"}),
]


@pytest.mark.gen_test
@pytest.mark.parametrize(("content_type", "body", "payload"), BODIES)
async def test_the_task_gets_the_body_decoded_by_its_content_type(content_type: str, body: bytes, payload: Any) -> None:
    async with http_client() as http:
        response = http.post("/call/t", body, {"Content-Type": content_type})
        (call,) = await http.site.wait_for_calls(1)
        assert codec.decode(call.message.body) == payload
        http.site.reply_to_all(None)
        assert (await response).code == 200


@pytest.mark.gen_test
@pytest.mark.parametrize("task", ["resize", "a.b", "a b ", "a/b", "ü", "100%", "a?b#c", "a+b", "%41", "a" * 244])
async def test_any_task_name_can_be_used_in_the_path(task: str) -> None:
    async with http_client() as http:
        response = http.post(f"/call/{quote(task, safe='')}")
        (call,) = await http.site.wait_for_calls(1)
        assert call.task == task
        http.site.reply_to_all(None)
        assert (await response).code == 200


@pytest.mark.gen_test
async def test_the_query_has_the_options_of_the_call() -> None:
    async with http_client(prefix="/crew") as http:
        response = http.post("/crew/call/t?priority=100&expiration=2.5&timeout=1e0")
        (call,) = await http.site.wait_for_calls(1)
        assert (call.message.priority, call.message.timeout, call.message.persistent) == (100, 1.0, True)
        assert 2 < budget(http.site) <= 2.5
        http.site.reply_to_all(None)
        assert (await response).code == 200


@pytest.mark.gen_test
async def test_durations_in_the_query_may_have_units() -> None:
    async with http_client() as http:
        response = http.post("/call/t?expiration=0.5m&timeout=500ms")
        (call,) = await http.site.wait_for_calls(1)
        assert call.message.timeout == 0.5
        assert 29 < budget(http.site) <= 30
        http.site.reply_to_all(None)
        assert (await response).code == 200


@pytest.mark.gen_test
@pytest.mark.parametrize(("most", "given"), [(5.0, 5.0), (3600.0, 60.0)])
async def test_a_call_without_expiration_gets_the_default_up_to_the_limit(most: float, given: float) -> None:
    async with http_client(max_expiration=most) as http:
        response = http.post("/call/t")
        await http.site.wait_for_calls(1)
        assert given - 1 < budget(http.site) <= given
        http.site.reply_to_all(None)
        assert (await response).code == 200


def budget(web: Site) -> float:
    """Seconds until the deadline of the only pending call."""
    (call,) = web.calls
    assert call.message.deadline is not None
    return call.message.deadline - time.time()


# --- the response ---------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("value", "content_type", "body"),
    [
        ({"width": 320}, "application/json", b'{"width":320}'),
        ("text", "application/json", b'"text"'),
        (None, "application/json", b"null"),
        (b"<html>\xff", "application/octet-stream", b"<html>\xff"),
    ],
)
async def test_the_response_is_the_value_of_the_task(value: Any, content_type: str, body: bytes) -> None:
    async with http_client() as http:
        response = await http.call_with_reply(value)
        assert (response.code, response.headers["Content-Type"], response.body) == (200, content_type, body)
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        assert "Server" not in response.headers


@pytest.mark.gen_test
async def test_a_messagepack_request_gets_a_messagepack_response() -> None:
    async with http_client() as http:
        response = await http.call_with_reply(
            {"a": b"\x00"}, "/call/t", b"\xc0", {"Content-Type": "application/msgpack"}
        )
        assert response.headers["Content-Type"] == "application/msgpack"
        assert msgspec.msgpack.decode(response.body) == {"a": b"\x00"}


@pytest.mark.gen_test
async def test_reply_headers_are_sent_and_unsafe_ones_left_out() -> None:
    async with http_client() as http:
        response = await http.call_with_reply(1, served=7, bad="a\r\nSet-Cookie: x=y")
        assert response.headers["Crew-Served"] == "7"
        assert "Set-Cookie" not in response.headers
        assert "Crew-Bad" not in response.headers


# --- refusals -------------------------------------------------------------------------------------------------------


REFUSED = [
    ("/call/t", b"{", JSON, 400, "bad-body", "not valid application/json"),
    ("/call/t", b"NaN", JSON, 400, "bad-body", "not valid application/json"),
    ("/call/t", b"\xff", {"Content-Type": "text/plain"}, 400, "bad-body", "not valid text/plain"),
    ("/call/t", b"\xc1", {"Content-Type": "application/msgpack"}, 400, "bad-body", "not valid application/msgpack"),
    (
        "/call/t",
        b"a=b",
        {"Content-Type": "application/x-www-form-urlencoded"},
        415,
        "unsupported-type",
        "not 'application/x-www-form",
    ),
    (
        "/call/t",
        b"--",
        {"Content-Type": "multipart/form-data"},
        415,
        "unsupported-type",
        "Content-Type must be one of application/json",
    ),
    ("/call/t", b"x", {**BYTES, "Content-Encoding": "gzip"}, 415, "unsupported-encoding", "Content-Encoding 'gzip'"),
    ("/call/t?priority=high", b"", {}, 422, "bad-priority", "priority must be an int from 0 to 255, not 'high'"),
    ("/call/t?priority=256", b"", {}, 422, "bad-priority", "priority must be an int from 0 to 255, not 256"),
    ("/call/t?priority=", b"", {}, 422, "bad-priority", "priority must be an int from 0 to 255, not ''"),
    (
        "/call/t?timeout=soon",
        b"",
        {},
        422,
        "bad-timeout",
        "timeout must be a number of .* not 'soon'",
    ),
    ("/call/t?timeout=-1", b"", {}, 422, "bad-timeout", "timeout must be greater than 0"),
    ("/call/t?expiration=nan", b"", {}, 422, "bad-expiration", "expiration must be greater than 0"),
    ("/call/t?expiration=2m", b"", {}, 422, "bad-expiration", "expiration must be at most 60 seconds here, not 120"),
    ("/call/t?expiration=61", b"", {}, 422, "bad-expiration", "expiration must be at most 60 seconds here, not 61"),
    ("/call/t?expiration=inf", b"", {}, 422, "bad-expiration", "expiration must be at most 60 seconds here, not inf"),
    ("/call/a%00b", b"", {}, 422, "bad-task", "task must have 1 to 244 bytes and no control characters"),
    ("/call/" + "a" * 245, b"", {}, 422, "bad-task", "task must have 1 to 244 bytes"),
    ("/call/%ff", b"", {}, 400, "bad-encoding", "the path must be UTF-8"),
    ("/call/t?priority=%ff", b"", {}, 400, "bad-encoding", "priority must be UTF-8"),
]


@pytest.mark.gen_test
@pytest.mark.parametrize(("path", "body", "headers", "status", "name", "sentence"), REFUSED)
async def test_an_invalid_request_is_refused_and_nothing_is_called(
    path: str, body: bytes, headers: dict[str, str], status: int, name: str, sentence: str
) -> None:
    async with http_client() as http:
        document = problem(await http.post(path, body, headers), status)
        assert document["type"] == f"urn:crew:problem:{name}"
        assert document["title"]
        assert re.search(sentence, document["detail"])
        assert http.site.calls == []


@pytest.mark.gen_test
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_above_the_limit_is_refused_and_discarded(chunked: bool) -> None:
    async def chunks(write: Any) -> None:
        for _ in range(100):
            await write(b"x" * 1000)

    async with http_client(max_body=1000) as http:
        given: dict[str, Any] = {"body_producer": chunks} if chunked else {"body": b"x" * 100_000}
        document = problem(await http.request("POST", "/call/t", headers=BYTES, **given), 413)
        assert document["detail"] == "the body is too large: at most 1000 bytes are accepted here"
        assert http.site.calls == []
        assert (await http.call_with_reply(1, "/call/t", b"x" * 1000, BYTES)).code == 200


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_only_post_is_allowed(method: str) -> None:
    async with http_client() as http:
        response = await http.request(method, "/call/t")
        assert (response.code, response.headers["Allow"]) == (405, "POST")
        if method != "HEAD":
            detail = f"{method} is not supported at this path; use POST"
            expected = {"type": "about:blank", "title": "Method Not Allowed", "status": 405, "detail": detail}
            assert problem(response, 405) == expected


# --- failed calls ---------------------------------------------------------------------------------------------------


FAILED = errors.TaskFailed("ValueError", "no", traceback="line 7", task="t", id="7")
ENDS: list[tuple[Exception, int, str, str | None]] = [
    (errors.UnknownTask(task="t", id="7"), 404, "unknown-task", None),
    (FAILED, 500, "task-failed", None),
    (errors.WorkerLost(task="t", id="7"), 502, "worker-lost", None),
    (errors.SerializationError("the value of call 7 cannot be read"), 502, "unreadable-value", None),
    (errors.Overloaded(task="t", id="7"), 503, "overloaded", "2"),
    (errors.ConnectionError("the client was closed"), 503, "broker-away", "2"),
    (errors.ExpirationError(task="t", id="7"), 503, "expired", None),
    (errors.Canceled(task="t", id="7"), 503, "canceled", None),
    (errors.TimeoutError(task="t", id="7"), 504, "timeout", None),
]


@pytest.mark.gen_test
@pytest.mark.parametrize(("error", "status", "name", "retry_after"), ENDS)
async def test_a_failed_call_is_a_problem_document_and_one_log_line_without_a_traceback(
    error: Exception, status: int, name: str, retry_after: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with http_client() as http:
        response = await http.call_with_reply(error)
    document = problem(response, status)
    assert (document["type"], document["detail"]) == (f"urn:crew:problem:{name}", str(error))
    assert response.headers.get("Retry-After") == retry_after
    lines = [line for _, line in logged(caplog) if str(error) in line]
    assert len(lines) == 1
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.gen_test
@pytest.mark.parametrize("debug", [False, True])
async def test_the_traceback_of_a_task_is_sent_in_debug_mode_only(debug: bool) -> None:
    async with http_client(settings={"serve_traceback": debug}) as http:
        document = problem(await http.call_with_reply(FAILED), 500)
    assert document["exception"] == {"type": "ValueError", "message": "no", "retryable": False, "attempts": 1}
    assert document.get("traceback") == ("line 7" if debug else None)


@pytest.mark.gen_test
async def test_a_closed_client_is_503() -> None:
    async with http_client() as http:
        await http.site.crew.close()
        assert problem(await http.post("/call/t"), 503)["detail"] == "the client was closed"


@pytest.mark.gen_test
async def test_a_bug_is_500_without_detail_and_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async with http_client() as http:
        response = await http.call_with_reply(object())  # no codec returns such a value
    assert problem(response, 500) == {"type": "about:blank", "title": "Internal Server Error", "status": 500}
    assert [record for record in caplog.records if record.exc_info]


# --- disconnects and access -----------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_disconnecting_client_cancels_its_call(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with http_client() as http:
        _, writer = await asyncio.open_connection("127.0.0.1", http.site.port)
        writer.write(b"POST /call/t HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n")
        (call,) = await http.site.wait_for_calls(1)
        writer.close()
        await writer.wait_closed()
        await until(lambda: call.done() and logged(caplog))
        assert http.site.calls == []
    ((level, line),) = logged(caplog)
    assert (level, line[:17]) == ("INFO", "499 POST /call/t ")


@pytest.mark.gen_test
async def test_disconnecting_before_the_body_is_complete_calls_nothing() -> None:
    async with http_client() as http:
        _, writer = await asyncio.open_connection("127.0.0.1", http.site.port)
        writer.write(b"POST /call/t HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n{")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert (await http.call_with_reply(1)).code == 200
        assert http.site.calls == []


@pytest.mark.gen_test
async def test_an_application_can_authorize_calls() -> None:
    class Guarded(CallHandler):
        def prepare(self) -> Any:
            if self.path_args[0] != "public":
                raise HTTPError(403, "for the log")
            return super().prepare()

    mount = lambda crew: [URLSpec("/call/(.+)", Guarded, {"client": crew})]  # noqa: E731
    async with site(mount=mount) as web:
        http = HttpClient(web)
        document = problem(await http.post("/call/private"), 403)
        assert document == {"type": "about:blank", "title": "Forbidden", "status": 403}
        assert (await http.call_with_reply(1, "/call/public")).body == b"1"
        http.close()


@pytest.mark.gen_test
async def test_xsrf_cookies_protect_calls_from_foreign_pages() -> None:
    async with http_client(settings={"xsrf_cookies": True}) as http:
        problem(await http.post("/call/t", b"", {"Content-Type": "text/plain"}), 403)
        assert http.site.calls == []
        response = await http.call_with_reply(1, "/call/t", b"", {"X-XSRFToken": "a", "Cookie": "_xsrf=a"})
        assert response.code == 200
