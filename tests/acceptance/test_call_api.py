"""`POST /call/<task>` with a real gateway and real workers."""

import http.client
import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import pytest

from tests.support.paths import PROGRAM_FOLDER, TASK_FOLDER
from tests.support.processes import Process, Processes
from tests.support.waiting import eventually
from tests.support.web import Web
from tests.tasks.call_worker import ODD_NAMES

JSON = "application/json"
MSGPACK = "application/msgpack"
BYTES = "application/octet-stream"
TEXT = "text/plain"


class Program:
    """A client with one persistent connection."""

    def __init__(self, gateway: Process) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", Web.of(gateway).port, timeout=30)
        self._connection.connect()

    @property
    def local_port(self) -> int:
        """The local port of the connection: another one after a reconnect."""
        return int(self._connection.sock.getsockname()[1])

    def begin(self, task: str, body: bytes = b"", content_type: str | None = JSON, method: str = "POST") -> None:
        """Start a call; `task` is the quoted name, with an optional query."""
        headers = {} if content_type is None else {"Content-Type": content_type}
        self._connection.request(method, f"/crew/call/{task}", body, headers)

    def response(self) -> tuple[http.client.HTTPResponse, bytes]:
        """Wait for the response."""
        with self._connection.getresponse() as response:
            return response, response.read()

    def call(self, *given: Any, **more: Any) -> tuple[http.client.HTTPResponse, bytes]:
        """Call, and wait for the response."""
        self.begin(*given, **more)
        return self.response()

    def problem(self, *given: Any, **more: Any) -> Any:
        """Call, and read the problem document."""
        response, body = self.call(*given, **more)
        assert response.headers["Content-Type"] == "application/problem+json", body
        document = json.loads(body)
        assert document["status"] == response.status
        return {**document, "retry_after": response.headers["Retry-After"]}

    def disconnect(self) -> None:
        """Close the connection."""
        self._connection.close()


class Site:
    """A gateway application, its worker, and clients."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.worker = processes.python(TASK_FOLDER / "call_worker.py")
        self.gateway = processes.python(PROGRAM_FOLDER / "call_app.py")
        self.worker.says("serving")
        self._programs: list[Program] = []

    def program(self, gateway: Process | None = None) -> Program:
        """A new client."""
        self._programs.append(Program(gateway or self.gateway))
        return self._programs[-1]

    def close(self) -> None:
        """Close all connections."""
        for program in self._programs:
            program.disconnect()


@pytest.fixture
def site(processes: Processes) -> Iterator[Site]:
    site = Site(processes)
    yield site
    site.close()


def test_the_members_of_an_object_are_arguments_and_those_that_do_not_fit_are_422(site: Site) -> None:
    program = site.program()
    for body, value in [(b'{"path":"cat"}', b'"cat-640"'), (b'{"width":3,"path":"cat"}', b'"cat-3"')]:
        assert program.call("resize", body)[1] == value
    packed = msgspec.msgpack.encode({"path": "cat"})
    assert program.call("resize", packed, MSGPACK)[1] == msgspec.msgpack.encode("cat-640")
    for body, detail in [
        (b'{"path":"cat","width":"wide"}', "argument `width`: expected `int`, got `str`"),
        (b'{"path":"cat","widht":3}', "argument `widht`: there is no such parameter (did you mean `width`?)"),
        (b"{}", "argument `path`: it is missing"),
        (b"[1]", "it has several parameters, so that its payload must be an object with the members `path`, `width`, "),
    ]:
        problem = program.problem("resize", body)
        assert (problem["status"], problem["type"]) == (422, "urn:crew:problem:invalid-arguments")
        assert problem["detail"].startswith(f"task 'resize': {detail}")
        assert problem["task"] == "resize"
        assert problem["id"]
        assert "exception" not in problem


def test_values_of_each_content_type_are_returned_unchanged(site: Site) -> None:
    program = site.program()
    packed = msgspec.msgpack.encode({"a": b"\x00\xff"})
    for content_type, body, response_type, kind in [
        (JSON, '{"a":[1,2.5,null,true,"ü"]}'.encode(), JSON, "dict"),
        (JSON, b"", JSON, "NoneType"),
        (None, b"", JSON, "NoneType"),
        (BYTES, bytes(range(256)), BYTES, "bytes"),
        (BYTES, b"x" * 100_000, BYTES, "bytes"),
        (MSGPACK, packed, MSGPACK, "dict"),
        (TEXT, "größe".encode(), JSON, "str"),
    ]:
        response, value = program.call("echo", body, content_type)
        assert (response.status, response.headers["Content-Type"]) == (200, response_type), value
        expected = json.dumps(body.decode(), ensure_ascii=False).encode() if content_type == TEXT else body or b"null"
        assert value == expected
        assert (response.headers["Crew-Kind"], response.headers["Crew-Answered"]) == (kind, "true")
        assert not {"Set-Cookie", "Crew-Evil"} & set(response.headers)


def test_a_task_of_any_valid_name_can_be_called(site: Site) -> None:
    program = site.program()
    for name in ODD_NAMES:
        response, body = program.call(quote(name, safe=""))
        assert (response.status, json.loads(body)) == (200, name)
    assert json.loads(program.call("a/b")[1]) == "a/b"


def test_each_failed_call_is_a_problem_document_and_the_connection_stays_open(site: Site) -> None:
    program = site.program()
    port = program.local_port

    unknown = program.problem("not/served")
    assert (unknown["status"], unknown["type"]) == (404, "urn:crew:problem:unknown-task")
    assert unknown["task"] == "not/served"

    failed = program.problem("fail", b'"on purpose"')
    assert (failed["status"], failed["type"]) == (500, "urn:crew:problem:task-failed")
    assert failed["detail"] == "ValueError: on purpose"
    assert failed["exception"] == {"type": "ValueError", "message": "on purpose", "retryable": False, "attempts": 1}
    assert "traceback" not in failed

    timed_out = program.problem("sleep?timeout=0.3", b"30")
    assert (timed_out["status"], timed_out["type"]) == (504, "urn:crew:problem:timeout")

    for status, call in [
        (400, ("echo", b"{")),
        (405, ("echo", b"", JSON, "GET")),
        (413, ("echo", b"x" * 1_000_000, BYTES)),
        (415, ("echo", b"x", None)),
        (415, ("echo", b"x", "image/png")),
        (422, ("echo?priority=high",)),
        (422, ("echo?expiration=61",)),
    ]:
        assert program.problem(*call)["status"] == status

    assert json.loads(program.call("echo", b"[1]")[1]) == [1]
    assert program.local_port == port
    assert Web.of(site.gateway).get("/").text == "0 calls in flight"
    assert "Traceback" not in site.gateway.output


def test_a_task_that_kills_its_worker_processes_is_502(site: Site) -> None:
    lost = site.program().problem("die")
    assert (lost["status"], lost["type"], lost["retry_after"]) == (502, "urn:crew:problem:worker-lost", None)


def test_a_call_that_waits_too_long_expires_and_overload_is_refused(site: Site) -> None:
    programs = [site.program() for _ in range(4)]
    programs[0].begin("sleep", b"30")
    site.worker.says("STARTED")

    expired = programs[1].problem("echo?expiration=0.5", b"1")
    assert (expired["status"], expired["type"]) == (503, "urn:crew:problem:expired")

    for program in programs[1:]:
        program.begin("echo", b"1")
    eventually(lambda: Web.of(site.gateway).get("/").text == "4 calls in flight")
    overloaded = site.program().problem("echo", b"1")
    assert (overloaded["status"], overloaded["type"]) == (503, "urn:crew:problem:overloaded")
    assert overloaded["retry_after"] == "2"

    programs[0].disconnect()
    assert [program.response()[1] for program in programs[1:]] == [b"1", b"1", b"1"]


def test_a_broker_that_refuses_the_login_is_503(site: Site, broker_url: str) -> None:
    login = urlsplit(broker_url)
    wrong = login._replace(netloc=f"{login.username}:wrong@{login.hostname}:{login.port}").geturl()
    away = site.program(site.processes.python(PROGRAM_FOLDER / "call_app.py", wrong)).problem("echo", b"1")
    assert (away["status"], away["type"], away["retry_after"]) == (503, "urn:crew:problem:broker-away", "2")


def test_a_disconnecting_client_stops_its_task_within_a_second(site: Site) -> None:
    program = site.program()
    begun = time.monotonic()
    program.begin("sleep", b"30")
    site.worker.says("STARTED")
    eventually(lambda: time.monotonic() - begun >= 0.5)

    left = time.time()
    program.disconnect()

    site.worker.says("INTERRUPTED", timeout=5)
    interrupted = eventually(lambda: re.search(r"INTERRUPTED True canceled ([\d.]+)\n", site.worker.output))
    assert interrupted
    assert 0 <= float(interrupted[1]) - left < 1
    site.gateway.says("499 POST /crew/call/sleep", timeout=5)
    assert site.program().call("echo", b"1")[1] == b"1"
