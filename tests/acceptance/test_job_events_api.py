"""The events of a job, streamed by another gateway on the same PostgreSQL, to a client and a real browser."""

import http.client
import json
import os
import signal
import sys
import time
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.acceptance.test_jobs_api import ENDS_WITHIN, Program
from tests.support.paths import TASK_FOLDER
from tests.support.processes import Process, Processes
from tests.support.web import Web

STOPS_WITHIN = 3.0  # seconds, on a busy machine: much less than the drain timeout

Event = tuple[str, str, Any]


@pytest.fixture
def gateways(processes: Processes, postgresql_url: str) -> list[Process]:
    """Two gateways and a worker."""
    worker = processes.python(TASK_FOLDER / "jobs_worker.py")
    command = (sys.executable, "-m", "crew", "gateway", "--port", "0")
    gateways = [processes.start(*command, environment={"CREW_DATABASE": postgresql_url}) for _ in range(2)]
    worker.says("serving")
    return gateways


class Browser:
    """A client of the events of a job. It can resume as an EventSource does."""

    def __init__(self, program: Program, path: str, last: str = "") -> None:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        self._connection = program.begin("GET", f"{path}events", headers=headers)
        self._response: http.client.HTTPResponse = self._connection.getresponse()
        self.status = self._response.status

    def event(self) -> Event | None:
        """The next event; None at the end of the stream."""
        fields: dict[str, str] = {}
        while line := self._response.readline().decode():
            if line == "\n" and "data" in fields:
                return fields["id"], fields["event"], json.loads(fields["data"])
            name, _, fields[name] = line.rstrip("\n").partition(": ")
        self.disconnect()
        return None

    def disconnect(self) -> None:
        """Close the connection."""
        self._response.close()
        self._connection.close()

    def until(self, status: str) -> list[Event]:
        """All events up to the first one with this status."""
        events: list[Event] = []
        while not events or events[-1][2]["status"] != status:
            event = self.event()
            assert event is not None, events
            events.append(event)
        return events


@pytest.mark.chaos
def test_changes_of_a_job_at_one_gateway_are_streamed_by_the_other(gateways: list[Process]) -> None:
    one, two = (Program(Web.of(gateway).port) for gateway in gateways)
    path = one.submit({"task": "count", "data": 3})
    browser = Browser(two, path)

    events = browser.until("success")
    assert browser.event() is None
    reported = [event["progress"]["at"] for _, _, event in events if "progress" in event]
    assert reported == sorted(reported)
    assert set(reported) == {1, 2, 3}
    versions = [int(id) for id, _, _ in events]
    assert versions == sorted(set(versions))
    assert events[-1][2]["response"] == f"{path}response/"
    assert two.get(f"{path}response/").json == 3
    again = Browser(two, path, events[-1][0])
    assert (again.status, again.event()) == (204, None)
    assert two.get(f"{path}events?after=0&wait=1").json == events[-1][2]


@pytest.mark.chaos
def test_a_stream_ends_with_its_gateway_and_resumes_at_another(gateways: list[Process]) -> None:
    one, two = (Program(Web.of(gateway).port) for gateway in gateways)
    path = one.submit({"task": "sleep", "data": 60})
    browser = Browser(two, path)
    last = browser.until("started")[-1][0]
    began = time.monotonic()
    os.kill(gateways[1].pid, signal.SIGTERM)
    assert browser.event() is None
    assert time.monotonic() - began < STOPS_WITHIN
    assert gateways[1].ends(ENDS_WITHIN) == 0
    assert "Traceback" not in gateways[1].output

    again = Browser(one, path, last)
    assert one.request("DELETE", path).status == 204
    ((_, _, end),) = again.until("canceled")
    assert end["error"]["type"] == "Canceled"
    assert again.event() is None


# Collects the events in `received`. A browser reconnects when the stream ends.
LISTEN = """
path => {
    window.received = [];
    const source = new EventSource(path);
    for (const kind of ["status", "progress"])
        source.addEventListener(kind, event => received.push([kind, JSON.parse(event.data)]));
    source.onerror = () => received.push(["closed", source.readyState]);
}
"""
CLOSED = 2  # readyState of an EventSource that does not reconnect


@pytest.mark.chaos
def test_a_browser_receives_all_events_of_a_job_and_does_not_reconnect(gateways: list[Process], page: Page) -> None:
    gateway = Web.of(gateways[0])
    program = Program(gateway.port)
    page.goto(f"http://127.0.0.1:{gateway.port}/healthz")
    path = program.submit({"task": "count", "data": 2})  # the page is open first, so that it receives all events
    page.evaluate(LISTEN, f"{path}events")
    page.wait_for_function(
        "received.length && received.at(-1)[0] == 'closed' && received.at(-1)[1] == 2", timeout=15_000
    )
    received = page.evaluate("received")
    states = [what for what in received if what[0] != "closed"]
    assert states[-1][0] == "status"
    assert states[-1][1]["status"] == "success"
    assert [event["progress"]["at"] for kind, event in states if kind == "progress"][-1] == 2
    versions = [event["version"] for _, event in states]
    assert versions == sorted(set(versions))
    assert received[-1] == ["closed", CLOSED]
