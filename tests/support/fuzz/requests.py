"""Hypothesis strategies for right and wrong requests to every route, and a client that sends their raw bytes."""

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.support.fuzz.mutation import HOSTILE, JSON_VALUES, TEXTS

RESPONDS_WITHIN = 20.0  # seconds until a response, for requests that wait for WAIT seconds or less
WAIT = 0.2  # seconds: the wait that requests demand of the gateway
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "get", "TRACE", "X" * 300]
CONTENT_TYPES = [
    "application/json",
    "application/msgpack",
    "text/plain",
    "application/octet-stream",
    "application/json; charset=x",
    "x/y",
    "",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
]
ODD_PATHS = [
    "/",
    "//",
    "/%00",
    "/%0d%0aX: y",
    "/..%2f..%2fetc/passwd",
    "/call/",
    "/jobs/%ff/",
    "/jobs/" + "a" * 5_000,
    "/call/%1b[2J",
    "*",
    "http://127.0.0.1/",
]
HEADERS: dict[str, list[str]] = {
    "Prefer": ["respond-async", "wait=0", "wait=999999999999", "wait=-1", "wait=x", "respond-async, wait=0, " * 40],
    "Accept": ["*/*", "text/event-stream", "application/msgpack", "a/b;q=9", "q" * 300],
    "Content-Encoding": ["gzip", "br", "identity", "gzip, gzip"],
    "Idempotency-Key": ["k", "\\x00", "x" * 300, "ü"],
    "Last-Event-ID": ["1", "-1", "x", "1.1", "9" * 50],
    "If-None-Match": ["*", '"x"', "x" * 300],
    "Authorization": ["Bearer x", "Basic " + "A" * 300, "Bearer"],
    "Origin": ["http://localhost:3000", "null", "x"],
    "traceparent": ["00-" + "0" * 32 + "-" + "0" * 16 + "-00", "x"],
    "Host": ["evil.example", "", "127.0.0.1:1"],
    "X-Forwarded-For": ["1.2.3.4", "x"],
    "Expect": ["100-continue", "x"],
    "Upgrade": ["websocket", "h2c"],
    "Connection": ["close", "keep-alive, Upgrade"],
    "Cookie": ["a=b; " * 50],
}
JOB_MEMBERS = [
    "task",
    "data",
    "expiration",
    "timeout",
    "priority",
    "ttl",
    "id",
    "url",
    "method",
    "headers",
    "wait_for_worker",
    "retries",
    "encoding",
    "serializer",
    "delay",
    "key",
    "result_ttl",
]
URLS = [
    "http://127.0.0.1:1/",
    "http://10.0.0.1/",
    "http://[::1]/",
    "http://nowhere.invalid/",
    "ftp://x",
    "http://" + "a" * 300 + "/",
    "http://user:secret@127.0.0.1/",
    "\x00",
]


class Request(NamedTuple):
    """A request as raw bytes.

    Attributes:
        is_whole: whether the request is complete: the gateway need not wait for more bytes.
    """

    method: str
    data: bytes
    is_whole: bool = True


@dataclass(frozen=True)
class Response:
    """A response; status 0: the gateway closed the connection without a response."""

    status: int
    body: bytes


def requests(paths: dict[str, list[str]], jobs: list[str]) -> st.SearchStrategy[Request]:
    """Requests to any route.

    Args:
        paths: of /openapi.json, with their methods; parameters like `{uuid}` are filled in.
        jobs: ids of existing jobs.
    """
    templates = [(path, method.upper()) for path, methods in paths.items() for method in methods]
    segments = st.one_of(
        st.sampled_from([*jobs, "echo", "fail", "steps", "idle"]),
        st.sampled_from(TEXTS).map(_quoted),
        st.text(max_size=9).map(_quoted),
    )

    @st.composite
    def request(draw: st.DrawFn) -> Request:
        path, method = draw(st.sampled_from(templates))
        while "{" in path:
            path = path[: path.index("{")] + draw(segments) + path[path.index("}") + 1 :]
        query = {}  # no parameter that the route does not have: it would refuse the request for that alone
        if path.startswith("/call/"):
            query = {"expiration": str(WAIT)}
        elif path.endswith("/events"):
            query = {"wait": str(WAIT)}
        headers = {"Host": "127.0.0.1", "Content-Type": "application/json", "Connection": "close"}
        if path.endswith(("/response/", "/events")):
            headers["Prefer"] = f"wait={WAIT}"
        body = draw(st.one_of(JSON_VALUES.map(_json), _jobs()))
        for _ in range(draw(st.integers(0, 3))):
            match draw(st.sampled_from(["method", "path", "query", "header", "header", "type", "body", "body"])):
                case "method":
                    method = draw(st.sampled_from(METHODS))
                case "path":
                    path = draw(st.sampled_from(ODD_PATHS))
                case "query":
                    name = draw(
                        st.sampled_from(
                            ["expiration", "timeout", "priority", "limit", "after", "status", "task", "ttl", "x"]
                        )
                    )
                    query[name] = draw(st.sampled_from(["-1", "nan", "1e999", "x", "%00", "9" * 40, "0"]))
                case "header":
                    name = draw(st.sampled_from(sorted(HEADERS)))
                    headers[name] = draw(st.sampled_from(HEADERS[name]))
                case "type":
                    headers["Content-Type"] = draw(st.sampled_from(CONTENT_TYPES))
                case "body":
                    body = draw(st.one_of(st.sampled_from(HOSTILE), st.binary(max_size=99)))
        return draw(
            _framed(method, f"{path}?{'&'.join(f'{name}={value}' for name, value in query.items())}", headers, body)
        )

    return request()


def exchange(port: int, request: Request) -> Response:
    """Send the request on a new connection, and read the response; only the headers of an event stream."""
    with socket.create_connection(("127.0.0.1", port), timeout=RESPONDS_WITHIN) as connection:
        try:
            connection.sendall(request.data)
            if not request.is_whole:
                connection.shutdown(socket.SHUT_WR)
            with http.client.HTTPResponse(connection, method=request.method) as response:
                response.begin()
                is_stream = response.getheader("Content-Type", "").startswith("text/event-stream")
                return Response(response.status, b"" if is_stream else response.read())
        except TimeoutError:
            raise AssertionError(f"no response within {RESPONDS_WITHIN} s to {request.data[:2_000]!r}") from None
        except (OSError, http.client.HTTPException):  # the gateway does not read the rest of a refused request
            return Response(0, b"")


def _jobs() -> st.SearchStrategy[bytes]:
    value = st.one_of(JSON_VALUES, st.sampled_from([*URLS, "echo", "idle", 0, -1, 1e308, "GET", {}, "a" * 300]))
    members: st.SearchStrategy[dict[str, Any]] = st.just({}) | st.dictionaries(
        st.sampled_from(JOB_MEMBERS), value, max_size=5
    )
    return st.tuples(
        st.sampled_from([{"task": "echo", "data": 1}, {"task": "idle", "wait_for_worker": True}, {"url": URLS[0]}, {}]),
        members,
    ).map(lambda parts: _json({**parts[0], **parts[1]}))


def _framed(method: str, target: str, headers: dict[str, str], body: bytes) -> st.SearchStrategy[Request]:
    """Mostly the correct request; sometimes cut off, or with a wrong length."""
    right = _bytes(method, target, {**headers, "Content-Length": str(len(body))}, body)
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    chunked = {**headers, "Transfer-Encoding": "chunked"}
    odd = [
        _bytes(method, target, {**headers, "Content-Length": "x"}, body),
        _bytes(method, target, {**headers, "Content-Length": "-1"}, body),
        _bytes(method, target, {**headers, "Content-Length": str(2**63)}, body),
        _bytes(method, target, {**chunked, "Content-Length": "1"}, body),
        _bytes(method, target, chunked, b"zz\r\n" + body),
        _bytes(method, target, {**headers, "\x00": "x"}, b""),
        right.replace(b"HTTP/1.1", b"HTTP/9.9", 1),
        right.replace(b"\r\n", b"\n", 3),
        right[: len(right) // 2],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"\r\n\r\n" + right,
        b"A" * 70_000 + b"\r\n\r\n",
    ]
    whole = [right] * 8 + [_bytes(method, target, chunked, chunks)]
    return st.one_of(
        st.sampled_from(whole).map(lambda data: Request(method, data)),
        st.sampled_from(whole).map(lambda data: Request(method, data)),
        st.sampled_from([*whole, *odd]).map(lambda data: Request(method, data, is_whole=False)),
    )


def _bytes(method: str, target: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n" + body


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
