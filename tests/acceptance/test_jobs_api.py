"""The HTTP API of jobs: `crew gateway` and real workers."""

import http.client
import json
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import TASK_FOLDER
from tests.support.processes import Process, Processes, running
from tests.support.waiting import eventually
from tests.support.web import Web

JSON = {"Content-Type": "application/json"}
ENDS_WITHIN = 10.0  # seconds for an empty job, on a busy machine
UNKNOWN_ID = str(uuid.UUID(int=0))
SCRIPT = TASK_FOLDER / "jobs_worker.py"


@dataclass(frozen=True)
class Response:
    """A response of the gateway."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)

    @property
    def problem(self) -> tuple[int, str]:
        """Status and short name of the problem type."""
        assert self.headers["Content-Type"] == "application/problem+json", self
        assert self.json["status"] == self.status
        return self.status, self.json["type"].removeprefix("urn:crew:problem:")


class Program:
    """An HTTP client of one gateway."""

    def __init__(self, port: int) -> None:
        self.port = port

    def begin(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] = {}
    ) -> http.client.HTTPConnection:
        """Start a request on a new connection. Bytes are sent as they are, anything else as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, data, {**({} if body is None else JSON), **headers})
        return connection

    def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] = {}) -> Response:
        """Make a request, and wait for the response."""
        return read_response(self.begin(method, path, body, headers))

    def get(self, path: str, **headers: str) -> Response:
        """Make a GET request."""
        return self.request("GET", path, headers=headers)

    def submit(self, job: Any, **headers: str) -> str:
        """Submit a job; return its path."""
        response = self.request(
            "POST", "/jobs/", job, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        assert response.status == 303, response
        assert response.headers["Location"] == f"/jobs/{response.json['id']}/"
        return response.headers["Location"]

    def status(self, path: str) -> str:
        """The status of a job."""
        return str(self.get(f"{path}status/").json["status"])


def read_response(connection: http.client.HTTPConnection) -> Response:
    """Wait for the response."""
    with connection.getresponse() as response:
        complete = Response(response.status, response.headers, response.read())
    connection.close()
    return complete


@dataclass(frozen=True)
class Site:
    """A gateway, its worker, and a client."""

    gateway: Process
    worker: Process
    program: Program


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory, vhost_url: Callable[[], str]) -> Iterator[Processes]:
    with running(tmp_path_factory.mktemp("jobs"), {"CREW_AMQP_URL": vhost_url()}, preloaded=True) as processes:
        yield processes


@pytest.fixture(scope="module")
def site(processes: Processes) -> Site:
    """One site for all tests: their jobs do not affect each other."""
    worker = processes.python(SCRIPT, "--threads", "4")
    gateway = processes.crew("gateway", "--port", "0", "--tasks", SCRIPT)
    worker.says("serving")
    return Site(gateway, worker, Program(Web.of(gateway).port))


@pytest.fixture
def program(site: Site) -> Program:
    return site.program


def test_a_job_can_be_submitted_read_and_awaited(program: Program) -> None:
    path = program.submit({"task": "echo", "data": {"a": [1, "ü"]}})

    response = program.get(f"{path}response/")
    assert (response.status, response.json) == (200, {"a": [1, "ü"]})
    assert response.headers["Crew-Kind"] == "dict"
    job = program.get(path)
    parts = {"self": "", "status": "status/", "response": "response/", "events": "events"}
    assert job.headers["Link"] == ", ".join(f'<{path}{part}>; rel="{rel}"' for rel, part in parts.items())
    assert (job.json["status"], job.json["task"], job.json["origin"]) == ("success", "echo", "127.0.0.1")
    assert program.get(f"{path}status/").json == {"status": "success"}
    assert program.get(path.removesuffix("/")).json == job.json
    assert program.get(f"{path}response").json == {"a": [1, "ü"]}


def test_the_tasks_of_the_script_are_described(program: Program) -> None:
    tasks = {task["task"]: task for task in program.get("/tasks/").json["tasks"]}
    assert {"echo", "bytes", "fail", "sleep"} <= tasks.keys()
    assert program.get("/tasks/sleep/").json == tasks["sleep"]
    assert (tasks["sleep"]["payload"], tasks["sleep"]["result"]) == ("seconds", {"type": "string"})
    operation = program.get("/openapi.json").json["paths"]["/call/sleep"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {"type": "number"}


def test_an_unknown_path_is_a_problem_document(program: Program) -> None:
    assert program.get("/nowhere").problem == (404, "unknown-path")
    assert program.request("POST", "/nowhere", {"a": 1}).problem == (404, "unknown-path")


def test_a_value_of_bytes_is_returned_as_bytes(program: Program) -> None:
    response = program.get(program.submit({"task": "bytes"}) + "response/")

    assert (response.headers["Content-Type"], response.body) == ("application/octet-stream", bytes(range(256)))


def test_a_response_can_be_deleted_once_and_the_record_stays(program: Program) -> None:
    path = program.submit({"task": "echo", "data": 1})
    assert program.get(f"{path}response/").json == 1

    assert program.request("DELETE", f"{path}response/").status == 204
    assert program.request("DELETE", f"{path}response/").problem == (404, "no-response")
    assert program.get(f"{path}response/").json == {}
    assert program.status(path) == "success"


def test_the_response_of_a_failed_job_is_a_problem_and_its_record_has_the_reason(program: Program) -> None:
    path = program.submit({"task": "fail", "data": "on purpose"})

    response = program.get(f"{path}response/")
    assert response.problem == (500, "task-failed")
    assert response.json["exception"]["message"] == "on purpose"
    assert response.headers["Crew-Job-Status"] == "error"
    record = program.get(path).json
    assert (record["status"], record["error"]["type"], record["error"]["message"]) == (
        "error",
        "ValueError",
        "on purpose",
    )


def test_prefer_wait_limits_the_wait_for_a_response_and_the_job_goes_on(program: Program) -> None:
    path = program.submit({"task": "sleep", "data": 1.2})
    began = time.monotonic()

    early = program.get(f"{path}response/", Prefer="wait=1")
    assert (early.status, early.json, early.headers["Preference-Applied"]) == (202, {}, "wait=1")
    assert time.monotonic() - began < 1.2 + ENDS_WITHIN
    assert program.get(f"{path}response/", Prefer="wait=0").status in (200, 202)
    assert program.get(f"{path}response/").json == "slept"


def test_a_canceled_job_is_interrupted_and_its_waiters_are_answered_at_once(site: Site) -> None:
    log = site.worker.from_now()
    path = site.program.submit({"task": "sleep", "data": 60})
    waiting = site.program.begin("GET", f"{path}response/")
    eventually(lambda: "STARTED" in log.output, timeout=ENDS_WITHIN)

    assert site.program.request("DELETE", path).status == 204
    assert read_response(waiting).json == {}
    assert site.program.status(path) == "canceled"
    eventually(lambda: "INTERRUPTED canceled" in log.output, timeout=ENDS_WITHIN)
    assert site.program.request("DELETE", path).status == 204  # canceling an ended job is no error


def test_respond_async_is_answered_with_202(program: Program) -> None:
    response = program.request("POST", "/jobs/", {"task": "echo"}, {"Prefer": "respond-async"})

    assert (response.status, response.headers["Preference-Applied"]) == (202, "respond-async")
    assert program.get(response.headers["Location"]).json["id"] == response.json["id"]


def test_the_body_of_a_job_may_begin_with_a_byte_order_mark(program: Program) -> None:
    body = b"\xef\xbb\xbf" + json.dumps({"task": "echo", "data": "marked"}).encode()
    response = program.request("POST", "/jobs/", body, JSON)

    assert program.get(response.headers["Location"] + "response/").json == "marked"


def test_the_same_idempotency_key_returns_the_same_job_and_is_refused_for_another_request(program: Program) -> None:
    key = uuid.uuid4().hex
    path = program.submit({"task": "echo", "data": 1}, Idempotency_Key=key)

    assert program.submit({"task": "echo", "data": 1}, Idempotency_Key=f'"{key}"') == path
    other = program.request("POST", "/jobs/", {"task": "echo", "data": 2}, {"Idempotency-Key": key})
    assert other.problem == (422, "key-reused")


def test_jobs_are_listed_page_by_page(program: Program) -> None:
    task = f"unserved.{uuid.uuid4().hex}"
    paths = [program.submit({"task": task, "wait_for_worker": True}) for _ in range(3)]

    first = program.get(f"/jobs/?task={task}&limit=2&status=queued,started")
    assert [f"/jobs/{job['id']}/" for job in first.json["jobs"]] == [paths[2], paths[1]]
    assert first.headers["Link"].endswith(f', <{first.json["next"]}>; rel="next"')
    last = program.get(first.json["next"])
    assert [f"/jobs/{job['id']}/" for job in last.json["jobs"]] == [paths[0]]
    assert last.json["next"] is None
    assert 'rel="next"' not in last.headers["Link"]
    assert program.get(f"/jobs/?task={task}&status=success").json["jobs"] == []
    assert len(program.get(f"/jobs?task={task}&status=any").json["jobs"]) == 3


def test_a_call_that_ends_within_prefer_wait_returns_its_value(program: Program) -> None:
    response = program.request("POST", "/call/echo", [1], {"Prefer": "wait=10"})

    assert (response.status, response.json, response.headers["Preference-Applied"]) == (200, [1], "wait=10")
    assert response.headers["Crew-Kind"] == "list"
    assert program.request("POST", "/call/fail", "no", {"Prefer": "wait=10"}).problem == (500, "task-failed")
    assert program.request("POST", "/call/unserved", None, {"Prefer": "wait=10"}).problem == (404, "unknown-task")


def test_a_call_longer_than_prefer_wait_goes_on_as_a_job_and_runs_once(site: Site) -> None:
    log = site.worker.from_now()

    response = site.program.request("POST", "/call/sleep", 1.5, {"Prefer": "wait=1"})
    assert (response.status, response.headers["Preference-Applied"]) == (202, "wait=1")
    assert site.program.get(response.headers["Location"] + "response/").json == "slept"
    assert log.output.count("STARTED") == 1


def test_a_call_with_respond_async_is_a_job(program: Program) -> None:
    response = program.request("POST", "/call/echo", 7, {"Prefer": "respond-async"})

    assert (response.status, response.headers["Preference-Applied"]) == (202, "respond-async")
    assert program.get(response.headers["Location"] + "response/").json == 7


def test_disconnecting_while_a_call_with_prefer_wait_is_pending_cancels_it(site: Site) -> None:
    log = site.worker.from_now()
    waiting = site.program.begin("POST", "/call/sleep", 60, {"Prefer": "wait=60"})
    eventually(lambda: "STARTED" in log.output, timeout=ENDS_WITHIN)

    waiting.close()
    eventually(lambda: "INTERRUPTED canceled" in log.output, timeout=ENDS_WITHIN)


def test_disconnecting_while_waiting_for_a_response_does_not_affect_the_job(site: Site) -> None:
    log = site.worker.from_now()
    path = site.program.submit({"task": "sleep", "data": 0.7})
    waiting = site.program.begin("GET", f"{path}response/")
    eventually(lambda: "STARTED" in log.output, timeout=ENDS_WITHIN)

    waiting.close()
    assert site.program.get(f"{path}response/").json == "slept"
    assert "Traceback" not in site.gateway.output


TASK = {"task": "echo"}
URL = {"url": "http://example.org/"}
DEEP = b'{"task": "echo", "data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"

REFUSED: list[tuple[str, str, Any, dict[str, str], int, str]] = [
    ("POST", "/jobs/", None, {}, 400, "no-body"),
    ("POST", "/jobs/", b" ", JSON, 400, "no-body"),
    ("POST", "/jobs/", b'{"task":', {}, 400, "bad-json"),
    ("POST", "/jobs/", b'{"task": "\xff"}', {}, 400, "bad-json"),
    ("POST", "/jobs/", DEEP, {}, 400, "bad-json"),
    ("POST", "/jobs/", [1], {}, 422, "not-an-object"),
    ("POST", "/jobs/", {}, {}, 422, "no-task"),
    ("POST", "/jobs/", {**TASK, **URL}, {}, 422, "task-and-url"),
    ("POST", "/jobs/", {**TASK, "tiemout": 1}, {}, 422, "unknown-member"),
    ("POST", "/jobs/", {**TASK, "method": "GET"}, {}, 422, "unknown-member"),
    ("POST", "/jobs/", {"task": "unserved"}, {}, 404, "unknown-task"),
    ("POST", "/jobs/", {"task": ""}, {}, 422, "bad-task"),
    ("POST", "/jobs/", {"task": None}, {}, 422, "bad-task"),
    ("POST", "/jobs/", {**TASK, "headers": {"crew-job": 1}}, {}, 422, "bad-headers"),
    ("POST", "/jobs/", {**TASK, "timeout": -1}, {}, 422, "bad-timeout"),
    ("POST", "/jobs/", {**TASK, "timeout": "10 parsecs"}, {}, 422, "bad-timeout"),
    ("POST", "/jobs/", {**TASK, "timeout": 1e300}, {}, 422, "bad-timeout"),
    ("POST", "/jobs/", {**TASK, "timeout": True}, {}, 422, "bad-timeout"),
    ("POST", "/jobs/", {**TASK, "expiration": 0}, {}, 422, "bad-expiration"),
    ("POST", "/jobs/", {**TASK, "result_ttl": -1}, {}, 422, "bad-result_ttl"),
    ("POST", "/jobs/", {**TASK, "failure_ttl": "x"}, {}, 422, "bad-failure_ttl"),
    ("POST", "/jobs/", {**TASK, "priority": 256}, {}, 422, "bad-priority"),
    ("POST", "/jobs/", {**TASK, "id": "7"}, {}, 422, "bad-id"),
    ("POST", "/jobs/", {**TASK, "unique": ["skip"]}, {}, 422, "bad-unique"),
    ("POST", "/jobs/", {**TASK, "key": "k"}, {}, 422, "bad-unique"),
    ("POST", "/jobs/", {**TASK, "unique": "skip", "key": 7}, {}, 422, "bad-key"),
    ("POST", "/jobs/", {**TASK, "wait_for_worker": "yes"}, {}, 422, "bad-wait_for_worker"),
    ("POST", "/jobs/", {**URL, "method": "BREW"}, {}, 422, "bad-method"),
    ("POST", "/jobs/", {**URL, "headers": {"a": "b\r\nc: d"}}, {}, 422, "bad-headers"),
    ("POST", "/jobs/", {**URL, "timeout": -1}, {}, 422, "bad-timeout"),
    ("POST", "/jobs/", {**URL, "wait_for_worker": True}, {}, 422, "unknown-member"),
    ("POST", "/jobs/", {"url": "ftp://example.org/"}, {}, 422, "bad-url"),
    ("POST", "/jobs/", {"url": 7}, {}, 422, "bad-url"),
    ("POST", "/jobs/", {"url": "http://169.254.169.254/latest"}, {}, 422, "forbidden-address"),
    ("POST", "/jobs/", {"url": "http://localhost:8888/"}, {}, 422, "forbidden-address"),
    ("POST", "/jobs/", {"url": f"http://{socket.gethostname()}/"}, {}, 422, "forbidden-address"),
    ("POST", "/jobs/", {"task": "crew.http", "data": {"url": "http://10.0.0.1/"}}, {}, 422, "forbidden-address"),
    ("POST", "/jobs/", {"task": "crew.http", "data": {"url": 7}}, {}, 422, "bad-data"),
    ("POST", "/call/crew.http", {"url": "http://10.0.0.1/"}, {}, 422, "forbidden-address"),
    ("POST", "/call/crew.http", {"url": "http://10.0.0.1/"}, {"Prefer": "wait=1"}, 422, "forbidden-address"),
    ("POST", "/jobs/", b"task=echo", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported-type"),
    ("POST", "/jobs/", b"{}", {**JSON, "Content-Encoding": "gzip"}, 415, "unsupported-encoding"),
    ("POST", "/jobs/", b"1" * (16 * 1024 * 1024 + 1), {}, 413, "body-too-large"),
    ("POST", "/jobs/", TASK, {"Prefer": "wait=soon"}, 400, "bad-prefer"),
    ("POST", "/jobs/", TASK, {"Prefer": "=;"}, 400, "bad-prefer"),
    ("POST", "/jobs/", TASK, {"Idempotency-Key": ""}, 400, "bad-idempotency-key"),
    ("POST", "/call/echo", 1, {"Prefer": "wait=-1"}, 400, "bad-prefer"),
    ("GET", "/jobs/?cursor=x", None, {}, 400, "bad-cursor"),
    ("GET", "/jobs/?limit=0", None, {}, 400, "bad-limit"),
    ("GET", "/jobs/?limit=501", None, {}, 400, "bad-limit"),
    ("GET", "/jobs/?limit=many", None, {}, 400, "bad-limit"),
    ("GET", "/jobs/?status=done", None, {}, 400, "bad-status"),
    ("GET", f"/jobs/{UNKNOWN_ID}/", None, {}, 404, "unknown-job"),
    ("GET", f"/jobs/{UNKNOWN_ID}/status/", None, {}, 404, "unknown-job"),
    ("GET", f"/jobs/{UNKNOWN_ID}/response/", None, {}, 404, "unknown-job"),
    ("GET", f"/jobs/{UNKNOWN_ID}/response/", None, {"Prefer": "wait="}, 400, "bad-prefer"),
    ("DELETE", f"/jobs/{UNKNOWN_ID}/", None, {}, 404, "unknown-job"),
    ("DELETE", f"/jobs/{UNKNOWN_ID}/response/", None, {}, 404, "unknown-job"),
    ("GET", "/jobs/none/", None, {}, 400, "bad-id"),
    ("GET", "/jobs/none/status/", None, {}, 400, "bad-id"),
    ("GET", "/jobs/none/response/", None, {}, 400, "bad-id"),
    ("DELETE", "/jobs/none/", None, {}, 400, "bad-id"),
    ("PUT", f"/jobs/{UNKNOWN_ID}/", b"", {}, 405, "about:blank"),
    ("GET", "/nowhere", None, {}, 404, "unknown-path"),
    ("POST", "/call/echo", b"{", JSON, 400, "bad-body"),
    ("POST", "/call/echo?priority=x", 1, {"Prefer": "wait=1"}, 422, "bad-priority"),
    ("POST", "/call/echo?timeout=-1", 1, {"Prefer": "wait=1"}, 422, "bad-timeout"),
]


@pytest.mark.parametrize(("method", "path", "body", "headers", "status", "name"), REFUSED)
def test_each_invalid_request_is_refused_with_its_own_problem_type(
    program: Program, method: str, path: str, body: Any, headers: dict[str, str], status: int, name: str
) -> None:
    response = program.request(method, path, body, headers)

    assert response.problem == (status, name), response
    assert response.json["detail"]
    assert len(response.body) < 1000


def test_type_and_detail_of_a_problem_name_the_same_member(program: Program) -> None:
    response = program.request("POST", "/jobs/", {**URL, "priority": 256, "timeout": -1})

    assert (response.json["type"], response.json["detail"][:13]) == ("urn:crew:problem:bad-priority", "priority must")


def test_requests_from_pages_of_other_web_sites_are_refused(program: Program) -> None:
    cross = {"Sec-Fetch-Site": "cross-site"}

    assert program.request("POST", "/jobs/", TASK, cross).problem == (403, "cross-site")
    assert program.request("POST", "/call/echo", 1, cross).problem == (403, "cross-site")
    assert program.request("POST", "/call/echo", 1, {"Sec-Fetch-Site": "same-origin"}).status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1.evil.example:8888", "http://["])
def test_a_page_of_another_web_site_is_recognized_by_its_origin_header(program: Program, origin: str) -> None:
    assert program.request("POST", "/jobs/", TASK, {"Origin": origin}).problem == (403, "cross-site")
    assert program.request("POST", "/call/echo", 1, {"Origin": f"http://127.0.0.1:{program.port}"}).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8888", "127.0.0.1.evil.example", "localhost.evil.example"]
)
def test_a_foreign_host_name_that_resolves_to_this_machine_is_refused(program: Program, host: str) -> None:
    for method, path, body in (("POST", "/jobs/", TASK), ("POST", "/call/echo", 1), ("GET", "/jobs/", None)):
        response = program.request(method, path, body, {"Host": host})
        assert response.problem == (421, "unknown-host")
    assert response.json["detail"] == (
        f"Host {host!r} is not allowed without a token: use 127.0.0.1, [::1] or localhost, or set CREW_GATEWAY_TOKEN "
        "for this gateway"
    )
    assert program.request("GET", "/healthz", headers={"Host": host}).status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:80", "localhost", "LOCALHOST:8888", "[::1]", "[::1]:8888"])
def test_each_loopback_name_is_accepted(program: Program, host: str) -> None:
    assert program.request("POST", "/call/echo", 1, {"Host": host}).status == 200


def test_a_url_job_waits_for_a_worker_of_url_jobs(program: Program) -> None:
    path = program.submit(URL)

    record = program.get(path).json
    assert (record["kind"], record["status"]) == ("http", "queued")
    assert program.request("DELETE", path).status == 204
    assert program.get(f"{path}response/").json == {}


def test_a_gateway_with_a_token_refuses_requests_without_it(site: Site, start_gateway: Callable[..., Process]) -> None:
    token = "correct-horse-battery"
    program = Program(Web.of(start_gateway(CREW_GATEWAY_TOKEN=token)).port)

    for given in ({}, {"Authorization": f"Bearer {token}x"}, {"Authorization": f"Basic {token}"}):
        for path in ("/jobs/", "/nowhere", f"/jobs/{UNKNOWN_ID}/", "/openapi.json"):
            response = program.request("GET", path, headers=given)
            assert response.problem == (401, "no-token")
            assert response.headers["WWW-Authenticate"] == 'Bearer realm="crew"'
    assert program.request("POST", "/call/echo", 1).problem == (401, "no-token")
    assert program.request("POST", "/call/echo", 1, {"Authorization": f"bearer {token}"}).json == 1
    named = {"Host": "gateway.example", "Origin": "https://gateway.example", "Authorization": f"Bearer {token}"}
    assert program.request("POST", "/call/echo", 1, named).json == 1
    assert program.get("/healthz").status == 200


@pytest.fixture
def start_gateway(processes: Processes, tmp_path: Path) -> Callable[..., Process]:
    def start(*flags: str, **environment: str) -> Process:
        return processes.start(
            sys.executable, "-m", "crew", "gateway", "--port", "0", *flags, folder=tmp_path, environment=environment
        )

    return start


@pytest.mark.parametrize(
    ("flags", "environment", "sentence"),
    [
        (["--address", "0.0.0.0"], {}, "--address 0.0.0.0 lets other machines call every task"),
        (["--host", "0.0.0.0"], {}, "--host is now named --address: --host is the broker's host in the other commands"),
        ([], {"CREW_GATEWAY_TOKEN": "short"}, "CREW_GATEWAY_TOKEN must have 16 or more ASCII characters"),
        (["--allow-host", "a b"], {}, "'a b' is not a valid host"),
        (
            ["--database", "sqlite:////dev/null/x.db"],
            {},
            "the job store sqlite:////dev/null/x.db cannot be used: it must be a file",
        ),
        (["--database", "mysql://x/y"], {}, "the job store is a sqlite:// or a postgresql:// database, not mysql://"),
    ],
)
def test_a_gateway_with_invalid_options_exits_with_one_sentence(
    start_gateway: Callable[..., Process], flags: list[str], environment: dict[str, str], sentence: str
) -> None:
    gateway = start_gateway(*flags, **environment)

    assert gateway.ends(15) == 2
    assert f"crew: {sentence}" in gateway.output
    assert "Traceback" not in gateway.output


@pytest.mark.parametrize(
    ("flags", "has_token", "is_shown"), [((), False, False), ((), True, True), (("--debug",), False, True)]
)
def test_the_traceback_of_a_task_is_in_the_record_only_with_a_token_or_in_debug_mode(
    site: Site, start_gateway: Callable[..., Process], flags: tuple[str, ...], has_token: bool, is_shown: bool
) -> None:
    token = "correct-horse-battery"
    gateway = start_gateway(*flags, CREW_GATEWAY_TOKEN=token if has_token else "")
    program, headers = Program(Web.of(gateway).port), {"Authorization": f"Bearer {token}"} if has_token else {}
    job = {"task": "fail", "data": "on purpose"}
    path = program.request("POST", "/jobs/", job, headers).headers["Location"]
    assert ("WARNING crew.settings: CREW_GATEWAY_TOKEN is empty" in gateway.output) is not has_token
    response = program.request("GET", f"{path}response/", headers=headers)
    error = program.request("GET", path, headers=headers).json["error"]

    assert (error["type"], error["message"]) == ("ValueError", "on purpose")
    assert ("in fail\n    raise ValueError(text)\nValueError: on purpose" in error.get("traceback", "")) is is_shown
    assert "raise ValueError" not in program.request("GET", "/jobs/?status=any", headers=headers).body.decode()
    assert ("raise ValueError" in response.body.decode()) is ("--debug" in flags)
