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

from tests.acceptance.test_jobs_api import ENDS_WITHIN, HERE, Program
from tests.acceptance.web import Web
from tests.processes import Process, Processes

STOPS_WITHIN = 3.0  # seconds, on a busy machine: many fewer than those that requests have to finish

Event = tuple[str, str, Any]

LISTEN = """path => new Promise(resolve => {
    const told = [], source = new EventSource(path);
    for (const kind of ["status", "progress"])
        source.addEventListener(kind, event => told.push({kind, status: JSON.parse(event.data).status}));
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) resolve(told); };
})"""


@pytest.fixture
def gateways(processes: Processes, postgresql_url: str) -> list[Process]:
    """Two of them, and a worker."""
    worker = processes.python(HERE / "jobs_worker.py")
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
        self.leave()
        return None

    def leave(self) -> None:
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
def test_what_becomes_of_a_job_at_one_gateway_is_told_at_the_other(gateways: list[Process]) -> None:
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
def test_a_stream_ends_at_once_with_its_gateway_and_goes_on_at_another(gateways: list[Process]) -> None:
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


@pytest.mark.chaos
def test_a_browser_hears_each_event_once_and_comes_back_until_there_is_nothing_more(
    processes: Processes, page: Page
) -> None:
    worker = processes.python(HERE / "jobs_worker.py")
    gateway = processes.crew("gateway", "--port", "0")
    worker.says("serving")
    web = Web.of(gateway)
    path = Program(web.port).submit({"task": "count", "data": 2})

    page.goto(f"{web.address}/healthz")
    told = page.evaluate(LISTEN, f"{path}events")
    assert told[-1] == {"kind": "status", "status": "success"}
    assert told.count(told[-1]) == 1
    assert told.count({"kind": "progress", "status": "started"}) >= 1
