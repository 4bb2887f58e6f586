"""The events of a job at one gateway, heard at another, as a browser does; both on one PostgreSQL."""

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

STOPS_WITHIN = 3.0  # seconds, on a busy machine: many fewer than those that requests have to finish

Event = tuple[str, str, Any]


@pytest.fixture
def gateways(processes: Processes, postgresql_url: str) -> list[Process]:
    """Two of them, and a worker."""
    worker = processes.python(TASK_FOLDER / "jobs_worker.py")
    command = (sys.executable, "-m", "crew", "gateway", "--port", "0")
    gateways = [processes.start(*command, environment={"CREW_DATABASE": postgresql_url}) for _ in range(2)]
    worker.says("serving")
    return gateways


class Browser:
    """Listens to the events of a job, and comes back as an EventSource does."""

    def __init__(self, program: Program, path: str, last: str = "") -> None:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        self._connection = program.begin("GET", f"{path}events", headers=headers)
        self._response: http.client.HTTPResponse = self._connection.getresponse()
        self.status = self._response.status

    def event(self) -> Event | None:
        """The next one; None at the end of the stream."""
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
        """All events until one with this status."""
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
    told = [event["progress"]["at"] for _, _, event in events if "progress" in event]
    assert told == sorted(told)
    assert set(told) == {1, 2, 3}
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
    assert one.ask("DELETE", path).status == 204
    ((_, _, end),) = again.until("canceled")
    assert end["error"]["type"] == "Canceled"
    assert again.event() is None


# Collects what it hears in `heard`, and goes on where the stream ends, as browsers do.
LISTEN = """
path => {
    window.heard = [];
    const source = new EventSource(path);
    for (const kind of ["status", "progress"])
        source.addEventListener(kind, event => heard.push([kind, JSON.parse(event.data)]));
    source.onerror = () => heard.push(["closed", source.readyState]);
}
"""
CLOSED = 2  # readyState of an EventSource that does not come back


@pytest.mark.chaos
def test_a_browser_receives_all_events_of_a_job_and_does_not_reconnect(gateways: list[Process], page: Page) -> None:
    gateway = Web.of(gateways[0])
    program = Program(gateway.port)
    page.goto(f"http://127.0.0.1:{gateway.port}/healthz")
    path = program.submit({"task": "count", "data": 2})  # the page is there, so that it hears of all
    page.evaluate(LISTEN, f"{path}events")
    page.wait_for_function("heard.length && heard.at(-1)[0] == 'closed' && heard.at(-1)[1] == 2", timeout=15_000)
    heard = page.evaluate("heard")
    states = [what for what in heard if what[0] != "closed"]
    assert states[-1][0] == "status"
    assert states[-1][1]["status"] == "success"
    assert [told["progress"]["at"] for kind, told in states if kind == "progress"][-1] == 2
    versions = [told["version"] for _, told in states]
    assert versions == sorted(set(versions))
    assert heard[-1] == ["closed", CLOSED]
