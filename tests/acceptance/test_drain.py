"""Draining: a gateway that gets a signal reports not ready, refuses new requests, and answers the accepted ones."""

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import msgspec
import pytest

from tests.acceptance.test_jobs_api import Program, read_response
from tests.support.paths import PROGRAM_FOLDER, TASK_FOLDER
from tests.support.processes import Process, Processes
from tests.support.programs.drain_app import DRAIN, LINGER
from tests.support.waiting import eventually
from tests.support.web import Web

pytestmark = pytest.mark.chaos

LOOPS = 6  # threads that make HTTP calls, one after the other
NAP = 0.1  # seconds that each call takes


class Attempt(msgspec.Struct, frozen=True):
    """One request. The status is None if the connection was refused or lost."""

    path: str
    began: float  # time.monotonic()
    ended: float
    status: int | None
    body: bytes


class Load:
    """Makes requests in threads, until it is stopped."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stops = threading.Event()
        self.attempts: list[Attempt] = []
        targets = [("GET", "/readyz", b""), *[("POST", "/call/nap", str(NAP).encode())] * LOOPS]
        self._threads = [threading.Thread(target=self._loop, args=target) for target in targets]
        for thread in self._threads:
            thread.start()

    def of(self, path: str, status: int | None) -> list[Attempt]:
        """The requests of this path with this status."""
        return [one for one in list(self.attempts) if (one.path, one.status) == (path, status)]

    def stop(self) -> None:
        """Make no more requests."""
        self._stops.set()
        for thread in self._threads:
            thread.join()

    def _loop(self, method: str, path: str, body: bytes) -> None:
        """Make requests: every second one on a new connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        while not self._stops.wait(0.005):
            if len(self.attempts) % 2:
                connection.close()
            began = time.monotonic()
            status, response = _request(connection, method, path, body)
            self.attempts.append(Attempt(path, began, time.monotonic(), status, response))
        connection.close()


def _request(connection: http.client.HTTPConnection, method: str, path: str, body: bytes) -> tuple[int | None, bytes]:
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        with connection.getresponse() as response:
            return response.status, response.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return None, b""


@pytest.fixture
def gateway(processes: Processes) -> Iterator[Process]:
    """A ready gateway with a worker."""
    worker = processes.python(TASK_FOLDER / "drain_worker.py")
    gateway = processes.python(PROGRAM_FOLDER / "drain_app.py")
    worker.says("serving")
    eventually(lambda: Web.of(gateway).get("/readyz").status == 200)
    yield gateway
    assert "Traceback" not in gateway.output


def test_draining_answers_every_accepted_request_and_first_reports_not_ready(gateway: Process) -> None:
    web = Web.of(gateway)
    load = Load(web.port)
    try:
        eventually(lambda: len(load.of("/call/nap", 200)) > 3 * LOOPS)
        with _posted(web.port, b"1.0") as long:
            eventually(lambda: len(load.of("/call/nap", 200)) > 6 * LOOPS)
            signaled = time.monotonic()
            os.kill(gateway.pid, signal.SIGTERM)
            assert _read_response(long) == (200, 1.0)
        assert gateway.ends(DRAIN) == 0
        assert time.monotonic() - signaled < DRAIN
    finally:
        load.stop()
    unready, refused = load.of("/readyz", 503), load.of("/call/nap", 503)
    assert unready
    assert refused
    accepted, broken = load.of("/call/nap", 200), load.of("/call/nap", None)
    first_refusal = min(one.ended for one in refused)
    assert first_refusal - signaled >= LINGER
    assert min(one.ended for one in unready) < max(one.began for one in accepted) < first_refusal
    assert all(json.loads(one.body)["type"] == "urn:crew:problem:not-ready" for one in refused)
    assert all(json.loads(one.body) == NAP for one in accepted)
    assert {one.status for one in load.attempts} == {200, 503, None}
    assert min(one.ended for one in broken) > first_refusal  # by then the gateway has stopped


def test_a_second_signal_stops_the_gateway_at_once_and_waiting_calls_get_503(gateway: Process) -> None:
    with _posted(Web.of(gateway).port, b"20") as waiting:
        eventually(lambda: Web.of(gateway).get("/healthz").status == 200)
        os.kill(gateway.pid, signal.SIGTERM)
        eventually(lambda: Web.of(gateway).get("/readyz").status == 503)
        began = time.monotonic()
        os.kill(gateway.pid, signal.SIGINT)
        status, problem = _read_response(waiting)
        assert (status, problem["detail"]) == (503, "the client was closed")
    assert gateway.ends(5) == 0
    assert time.monotonic() - began < DRAIN / 2


def test_a_draining_gateway_is_healthy_until_its_drain_timeout(gateway: Process) -> None:
    with _posted(Web.of(gateway).port, b"20") as waiting:
        signaled = time.monotonic()
        os.kill(gateway.pid, signal.SIGTERM)
        eventually(lambda: Web.of(gateway).get("/call/nap").status == 503)
        assert Web.of(gateway).get("/healthz").status == 200
        assert _read_response(waiting)[0] == 503
    assert gateway.ends(5) == 0
    assert DRAIN <= time.monotonic() - signaled < DRAIN + LINGER + 2


def test_a_draining_gateway_answers_requests_that_wait_for_a_job_at_once(processes: Processes) -> None:
    worker = processes.python(TASK_FOLDER / "drain_worker.py", "--drain", "0", "--grace", "0.1")
    gateway = processes.crew("gateway", "--port", "0")
    worker.says("serving")
    program = Program(Web.of(gateway).port)
    path = program.submit({"task": "nap", "data": 60})
    eventually(lambda: program.status(path) == "started")
    waiting = program.begin("GET", f"{path}response/")
    bounded = program.begin("GET", f"{path}response/", headers={"Prefer": "wait=60"})
    call = program.begin("POST", "/call/nap", 60, {"Prefer": "wait=60"})
    eventually(lambda: len(program.get("/jobs/?status=started").json["jobs"]) == 2)

    signaled = time.monotonic()
    os.kill(gateway.pid, signal.SIGTERM)
    responses = [read_response(one) for one in (waiting, bounded, call)]
    assert gateway.ends(5) == 0
    assert time.monotonic() - signaled < 2
    assert responses[0].problem == (503, "not-ready")
    assert responses[0].headers["Retry-After"] == "2"
    assert (responses[1].status, responses[1].json) == (202, {})
    assert responses[2].status == 202
    assert responses[2].headers["Location"].startswith("/jobs/")
    assert "Traceback" not in gateway.output


def test_a_port_in_use_is_reported_in_one_sentence(processes: Processes, gateway: Process) -> None:
    code = (
        "import asyncio\nfrom tornado.web import Application\nfrom crew import Client\nfrom crew.gateway import serve\n"
        f"asyncio.run(serve(Application([]), Client(), port={Web.of(gateway).port}))"
    )
    second = processes.python("-c", code)
    assert second.ends(15) == 1
    assert second.output.splitlines()[-1] == (
        f"crew.errors.SettingsError: cannot listen on 127.0.0.1 port {Web.of(gateway).port}: Address already in use; "
        "choose another port or address"
    )


@contextmanager
def _posted(port: int, body: bytes) -> Iterator[http.client.HTTPConnection]:
    """A pending call."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("POST", "/call/nap", body, {"Content-Type": "application/json"})
        yield connection


def _read_response(connection: http.client.HTTPConnection) -> tuple[int, Any]:
    with connection.getresponse() as response:
        return response.status, json.loads(response.read())
