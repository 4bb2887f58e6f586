"""The tutorial of examples/http_queue: its commands as written, with real processes."""

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import Process, Processes
from tests.support.waiting import eventually
from tests.support.web import Web

EXAMPLE = Path(__file__).parents[2] / "examples" / "http_queue"
COMMANDS = re.findall(r"^\$ (curl .*)$", (EXAMPLE / "README.md").read_text(), re.MULTILINE)
SUBMIT, SUBMIT_DATA, RECORD, STATUS, RESPONSE, SUBMIT_LONG, CANCEL, STATUS_OF_CANCELED, RECORD_OF_CANCELED = COMMANDS
# Members of the HTTP Task Queue (htq): https://github.com/chop-dbhi/htq#tutorial
LIST = "curl -i http://127.0.0.1:8888/jobs/"
OF_REQUEST = {"uuid", "url", "method", "headers", "data", "timeout", "time", "status"}
OF_RESPONSE = {"status", "time", "code", "reason", "elapsed", "uuid", "headers", "data"}


class Tutorial:
    """Runs the commands of the tutorial, with the ports of the test and the id of the latest job.

    Attributes:
        service: logs the requests that it receives.
    """

    def __init__(self, processes: Processes, *flags: str) -> None:
        self.service = processes.python(EXAMPLE / "slow_service.py", "--port=0")
        self._reports = str(Web.of(self.service).port)
        self._processes = processes
        self._gateway = str(
            Web.of(processes.crew("gateway", "--port=0", "--allow-host", f"127.0.0.1:{self._reports}")).port
        )
        self._job = ""

    def start_worker(self) -> Process:
        """Start the worker as the tutorial does."""
        allowed = f"127.0.0.1:{self._reports}"
        return self._processes.crew("worker", "--http", "--allow-host", allowed, "--concurrency", "2").says("serving")

    def run(self, command: str) -> str:
        """Run a command; return its output."""
        command = command.replace("8888", self._gateway).replace("8889", self._reports)
        command = re.sub(r"/jobs/\w+\.\.\./", self._job, command)
        done = subprocess.run(
            ["bash", "-c", f"{command} --silent --show-error"], capture_output=True, text=True, timeout=20, check=False
        )
        assert done.returncode == 0, done.stderr
        if located := re.search(r"^location: (\S+)", done.stdout, re.MULTILINE | re.IGNORECASE):
            self._job = located[1]
        return done.stdout

    def run_and_parse(self, command: str) -> tuple[dict[str, str], Any]:
        """Run a `curl -i`; return the headers, with names in lower case, and the JSON."""
        head, _, body = self.run(command).replace("\r", "").partition("\n\n")
        lines = [line.partition(": ") for line in head.splitlines()[1:]]
        return {name.lower(): text for name, _, text in lines}, json.loads(body)

    @property
    def job(self) -> str:
        """Path of the latest job."""
        return self._job

    @property
    def reports(self) -> str:
        """URL of the service."""
        return f"http://127.0.0.1:{self._reports}/reports"

    def status(self) -> str:
        """The status of the latest job."""
        return str(json.loads(self.run(STATUS))["status"])


@pytest.fixture
def tutorial(processes: Processes) -> Tutorial:
    """The service and the gateway; no worker yet."""
    return Tutorial(processes)


def test_a_job_is_submitted_queried_and_awaited(tutorial: Tutorial) -> None:
    assert tutorial.run(SUBMIT.replace("seconds=2", "seconds=0.5")).startswith("HTTP/1.1 303 See Other")
    assert tutorial.status() == "queued"

    tutorial.start_worker()
    tutorial.service.says("GET /reports/sales")
    eventually(lambda: tutorial.status() == "started")
    response = json.loads(tutorial.run(RESPONSE))

    assert (response["code"], response["reason"], response["redirects"]) == (200, "OK", 0)
    assert json.loads(response["body"]) == {"report": "sales", "asked": ""}
    assert response["elapsed_ms"] >= 500
    assert tutorial.status() == "success"


def test_request_and_response_have_the_members_of_htq_at_each_step(tutorial: Tutorial) -> None:
    began = time.time() * 1000
    tutorial.run(SUBMIT.replace("seconds=2", "seconds=0.5"))
    uuid = tutorial.job.split("/")[2]

    headers, record = tutorial.run_and_parse(RECORD)
    assert {name: record[name] for name in OF_REQUEST - {"time"}} == {
        "uuid": uuid,
        "url": f"{tutorial.reports}/sales?seconds=0.5",
        "method": "GET",
        "headers": {},
        "data": None,
        "timeout": 60,
        "status": "queued",
    }
    assert began - 1000 < record["time"] < time.time() * 1000 + 1000
    assert isinstance(record["time"], int)
    assert f'<{tutorial.job}response/>; rel="response"' in headers["link"]
    assert tutorial.status() == "queued"

    tutorial.start_worker()
    headers, response = tutorial.run_and_parse(RESPONSE.replace("curl", "curl -i"))
    assert {name: response[name] for name in OF_RESPONSE - {"time", "elapsed", "headers"}} == {
        "status": "success",
        "code": 200,
        "reason": "OK",
        "uuid": uuid,
        "data": '{"report": "sales", "asked": ""}',
    }
    assert record["time"] < response["time"] < time.time() * 1000 + 1000
    assert 500 <= response["elapsed"] < response["time"] - record["time"] + 1000
    assert response["headers"]["Content-Type"] == "application/json; charset=UTF-8"
    assert headers["crew-job-status"] == "success"
    assert headers["link"] == f'<{tutorial.job}response/>; rel="self", <{tutorial.job}>; rel="request"'
    assert tutorial.status() == "success"

    tutorial.run(CANCEL)  # the job has ended: its response is deleted
    assert json.loads(tutorial.run(RESPONSE)) == {}
    assert tutorial.status() == "success"


def test_the_http_queue_lists_queued_jobs_and_accepts_methods_in_any_case(tutorial: Tutorial) -> None:
    secrets = '"headers": {"Authorization": "hush", "Cookie": "hush", "X-Report": "short"}'
    tutorial.run(SUBMIT_DATA.replace('"headers": {"X-Report": "short"}', secrets + ', "method": "post", "timeout": 7'))

    headers, listed = tutorial.run_and_parse(LIST)
    (record,) = listed["jobs"]
    assert headers["link"] == '</jobs/>; rel="self"'
    shown = tutorial.run_and_parse(RECORD)[1]
    assert {name: record[name] for name in OF_REQUEST} == {name: shown[name] for name in OF_REQUEST}
    assert record["headers"] == {"Authorization": "...", "Cookie": "...", "X-Report": "short"}
    assert (record["method"], record["data"], record["timeout"]) == ("POST", {"year": 2026}, 7)

    tutorial.start_worker()
    assert json.loads(tutorial.run(RESPONSE))["code"] == 200
    assert "POST /reports/stock" in tutorial.service.output


def test_data_and_headers_of_a_url_job_are_sent(tutorial: Tutorial) -> None:
    tutorial.start_worker()
    tutorial.run(SUBMIT_DATA)

    response = json.loads(tutorial.run(RESPONSE))

    assert json.loads(response["body"]) == {"report": "stock", "asked": '{"year":2026}'}
    assert "POST /reports/stock" in tutorial.service.output


def test_canceling_a_url_job_also_stops_the_work_of_the_service(tutorial: Tutorial) -> None:
    tutorial.start_worker()
    tutorial.run(SUBMIT_LONG)
    tutorial.service.says("GET /reports/taxes?seconds=60")

    assert tutorial.run(CANCEL).startswith("HTTP/1.1 204 No Content")

    tutorial.service.says("taxes is stopped", timeout=2)
    assert "client disconnected: /reports/taxes?seconds=60\nDELETE /reports/taxes" in tutorial.service.output
    assert json.loads(tutorial.run(STATUS_OF_CANCELED)) == {"status": "canceled"}
    assert json.loads(tutorial.run(RESPONSE)) == {}
    progress = eventually(lambda: json.loads(tutorial.run(RECORD_OF_CANCELED))["progress"])
    assert (progress["delete"]["code"], progress["delete"]["reason"]) == (204, "No Content")
