"""`POST /call/<task>`, with the test as broker and worker."""

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
from tests.support.site import Site, said, site
from tests.support.waiting import until

JSON = {"Content-Type": "application/json"}
BYTES = {"Content-Type": "application/octet-stream"}


class Visitor:
    """Posts to the site."""

    def __init__(self, web: Site) -> None:
        self.web = web
        self._http = AsyncHTTPClient(force_instance=True)

    def post(
        self, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> "asyncio.Future[HTTPResponse]":
        """Begin a request."""
        return self.ask("POST", path, body=body, headers=headers)

    def ask(self, method: str, path: str, **given: Any) -> "asyncio.Future[HTTPResponse]":
        """Begin a request of another method."""
        url = f"http://127.0.0.1:{self.web.port}{path}"
        return self._http.fetch(url, method=method, raise_error=False, allow_nonstandard_methods=True, **given)

    async def answered(self, value: Any, path: str = "/call/t", *given: Any, **headers: Any) -> HTTPResponse:
        """Make a request, and let a worker answer its call with `value` and `headers`."""
        answer = self.post(path, *given)
        (call,) = await self.web.called(1)
        self.web.answer(call, value, headers)
        return await answer

    def close(self) -> None:
        """Its connections end."""
        self._http.close()


@asynccontextmanager
async def visitor(*, settings: dict[str, Any] | None = None, **limits: Any) -> AsyncIterator[Visitor]:
    """Somebody who visits crew's own routes, in an application with these settings."""
    async with site(mount=lambda crew: routes(crew, **limits), **settings or {}) as web:
        visitor = Visitor(web)
        try:
            yield visitor
        finally:
            visitor.close()


def problem(answer: HTTPResponse, status: int) -> Any:
    assert answer.headers["Content-Type"] == "application/problem+json"
    document = msgspec.json.decode(answer.body)
    assert answer.code == document["status"] == status
    return document


# --- what goes in ---------------------------------------------------------------------------------------------------


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
async def test_the_task_gets_the_body_as_its_content_type_says(content_type: str, body: bytes, payload: Any) -> None:
    async with visitor() as visit:
        answer = visit.post("/call/t", body, {"Content-Type": content_type})
        (call,) = await visit.web.called(1)
        assert codec.decode(call.message.body) == payload
        visit.web.answers(None)
        assert (await answer).code == 200


@pytest.mark.gen_test
@pytest.mark.parametrize("task", ["resize", "a.b", "a b ", "a/b", "ü", "100%", "a?b#c", "a+b", "%41", "a" * 244])
async def test_any_name_of_a_task_can_stand_in_the_path(task: str) -> None:
    async with visitor() as visit:
        answer = visit.post(f"/call/{quote(task, safe='')}")
        (call,) = await visit.web.called(1)
        assert call.task == task
        visit.web.answers(None)
        assert (await answer).code == 200


@pytest.mark.gen_test
async def test_the_query_says_what_call_has_as_arguments() -> None:
    async with visitor(prefix="/crew") as visit:
        answer = visit.post("/crew/call/t?priority=100&expiration=2.5&timeout=1e0&other=x")
        (call,) = await visit.web.called(1)
        assert (call.message.priority, call.message.timeout, call.message.persistent) == (100, 1.0, True)
        assert 2 < budget(visit.web) <= 2.5
        visit.web.answers(None)
        assert (await answer).code == 200


@pytest.mark.gen_test
@pytest.mark.parametrize(("most", "given"), [(5.0, 5.0), (3600.0, 60.0)])
async def test_a_call_that_names_no_expiration_gets_the_usual_one_within_the_bound(most: float, given: float) -> None:
    async with visitor(max_expiration=most) as visit:
        answer = visit.post("/call/t")
        await visit.web.called(1)
        assert given - 1 < budget(visit.web) <= given
        visit.web.answers(None)
        assert (await answer).code == 200


def budget(web: Site) -> float:
    """Seconds that the only call has left."""
    (call,) = web.calls
    assert call.message.deadline is not None
    return call.message.deadline - time.time()


# --- what comes out -------------------------------------------------------------------------------------------------


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
async def test_the_answer_is_the_value(value: Any, content_type: str, body: bytes) -> None:
    async with visitor() as visit:
        answer = await visit.answered(value)
        assert (answer.code, answer.headers["Content-Type"], answer.body) == (200, content_type, body)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Server" not in answer.headers


@pytest.mark.gen_test
async def test_a_client_that_speaks_msgpack_is_answered_in_it() -> None:
    async with visitor() as visit:
        answer = await visit.answered({"a": b"\x00"}, "/call/t", b"\xc0", {"Content-Type": "application/msgpack"})
        assert answer.headers["Content-Type"] == "application/msgpack"
        assert msgspec.msgpack.decode(answer.body) == {"a": b"\x00"}


@pytest.mark.gen_test
async def test_headers_of_the_reply_are_seen_and_break_nothing() -> None:
    async with visitor() as visit:
        answer = await visit.answered(1, served=7, bad="a\r\nSet-Cookie: x=y")
        assert answer.headers["Crew-Served"] == "7"
        assert "Set-Cookie" not in answer.headers
        assert "Crew-Bad" not in answer.headers


# --- what is refused ------------------------------------------------------------------------------------------------


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
    ("/call/t?timeout=soon", b"", {}, 422, "bad-timeout", "timeout must be a number of seconds, not 'soon'"),
    ("/call/t?timeout=-1", b"", {}, 422, "bad-timeout", "timeout must be greater than 0"),
    ("/call/t?expiration=nan", b"", {}, 422, "bad-expiration", "expiration must be greater than 0"),
    ("/call/t?expiration=61", b"", {}, 422, "bad-expiration", "expiration must be at most 60 seconds here, not 61"),
    ("/call/t?expiration=inf", b"", {}, 422, "bad-expiration", "expiration must be at most 60 seconds here, not inf"),
    ("/call/a%00b", b"", {}, 422, "bad-task", "task must have 1 to 244 bytes and no control characters"),
    ("/call/" + "a" * 245, b"", {}, 422, "bad-task", "task must have 1 to 244 bytes"),
    ("/call/%ff", b"", {}, 400, "bad-encoding", "the path must be UTF-8"),
    ("/call/t?priority=%ff", b"", {}, 400, "bad-encoding", "priority must be UTF-8"),
]


@pytest.mark.gen_test
@pytest.mark.parametrize(("path", "body", "headers", "status", "name", "sentence"), REFUSED)
async def test_a_mistake_is_named_and_nothing_is_called(
    path: str, body: bytes, headers: dict[str, str], status: int, name: str, sentence: str
) -> None:
    async with visitor() as visit:
        document = problem(await visit.post(path, body, headers), status)
        assert document["type"] == f"urn:crew:problem:{name}"
        assert document["title"]
        assert re.search(sentence, document["detail"])
        assert visit.web.calls == []


@pytest.mark.gen_test
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_beyond_the_bound_is_refused_and_not_kept(chunked: bool) -> None:
    async def chunks(write: Any) -> None:
        for _ in range(100):
            await write(b"x" * 1000)

    async with visitor(max_body=1000) as visit:
        given: dict[str, Any] = {"body_producer": chunks} if chunked else {"body": b"x" * 100_000}
        document = problem(await visit.ask("POST", "/call/t", headers=BYTES, **given), 413)
        assert document["detail"] == "the body is too large: at most 1000 bytes are accepted here"
        assert visit.web.calls == []
        assert (await visit.answered(1, "/call/t", b"x" * 1000, BYTES)).code == 200


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_only_post_calls(method: str) -> None:
    async with visitor() as visit:
        answer = await visit.ask(method, "/call/t")
        assert (answer.code, answer.headers["Allow"]) == (405, "POST")
        if method != "HEAD":
            told = {"detail": f"{method} is not supported at this path; use POST"}
            assert problem(answer, 405) == {"type": "about:blank", "title": "Method Not Allowed", "status": 405, **told}


# --- calls without a value ------------------------------------------------------------------------------------------


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
async def test_a_call_without_a_value_is_a_problem_and_no_bug_of_the_gateway(
    error: Exception, status: int, name: str, retry_after: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with visitor() as visit:
        answer = await visit.answered(error)
    document = problem(answer, status)
    assert (document["type"], document["detail"]) == (f"urn:crew:problem:{name}", str(error))
    assert answer.headers.get("Retry-After") == retry_after
    told = [line for _, line in said(caplog) if str(error) in line]
    assert len(told) == 1
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.gen_test
@pytest.mark.parametrize("debug", [False, True])
async def test_the_traceback_of_a_task_is_told_in_debug_mode_only(debug: bool) -> None:
    async with visitor(settings={"serve_traceback": debug}) as visit:
        document = problem(await visit.answered(FAILED), 500)
    assert document["exception"] == {"type": "ValueError", "message": "no", "retryable": False, "attempts": 1}
    assert document.get("traceback") == ("line 7" if debug else None)


@pytest.mark.gen_test
async def test_a_client_that_is_closed_is_a_broker_away() -> None:
    async with visitor() as visit:
        await visit.web.crew.close()
        assert problem(await visit.post("/call/t"), 503)["detail"] == "the client was closed"


@pytest.mark.gen_test
async def test_a_bug_is_told_by_its_status_alone_and_logged_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    async with visitor() as visit:
        answer = await visit.answered(object())  # no codec gives such a value
    assert problem(answer, 500) == {"type": "about:blank", "title": "Internal Server Error", "status": 500}
    assert [record for record in caplog.records if record.exc_info]


# --- who calls ------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_client_that_leaves_takes_its_call_along(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with visitor() as visit:
        _, writer = await asyncio.open_connection("127.0.0.1", visit.web.port)
        writer.write(b"POST /call/t HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n")
        (call,) = await visit.web.called(1)
        writer.close()
        await writer.wait_closed()
        await until(lambda: call.done() and said(caplog))
        assert visit.web.calls == []
    ((level, line),) = said(caplog)
    assert (level, line[:17]) == ("INFO", "499 POST /call/t ")


@pytest.mark.gen_test
async def test_a_client_that_leaves_before_its_body_is_complete_calls_nothing() -> None:
    async with visitor() as visit:
        _, writer = await asyncio.open_connection("127.0.0.1", visit.web.port)
        writer.write(b"POST /call/t HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n{")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert (await visit.answered(1)).code == 200
        assert visit.web.calls == []


@pytest.mark.gen_test
async def test_an_application_decides_who_may_call_what() -> None:
    class Guarded(CallHandler):
        def prepare(self) -> Any:
            if self.path_args[0] != "public":
                raise HTTPError(403, "for the log")
            return super().prepare()

    mount = lambda crew: [URLSpec("/call/(.+)", Guarded, {"client": crew})]  # noqa: E731
    async with site(mount=mount) as web:
        visit = Visitor(web)
        document = problem(await visit.post("/call/private"), 403)
        assert document == {"type": "about:blank", "title": "Forbidden", "status": 403}
        assert (await visit.answered(1, "/call/public")).body == b"1"
        visit.close()


@pytest.mark.gen_test
async def test_an_application_with_cookies_is_protected_from_foreign_pages() -> None:
    async with visitor(settings={"xsrf_cookies": True}) as visit:
        problem(await visit.post("/call/t", b"", {"Content-Type": "text/plain"}), 403)
        assert visit.web.calls == []
        answer = await visit.answered(1, "/call/t", b"", {"X-XSRFToken": "a", "Cookie": "_xsrf=a"})
        assert answer.code == 200
