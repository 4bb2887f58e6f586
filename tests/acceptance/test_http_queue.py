"""The tutorial of examples/http_queue, its commands as they are written there, with real services behind them."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.web import Web
from tests.processes import Process, Processes
from tests.waiting import eventually

EXAMPLE = Path(__file__).parents[2] / "examples" / "http_queue"
COMMANDS = re.findall(r"^\$ (curl .*)$", (EXAMPLE / "README.md").read_text(), re.MULTILINE)
SUBMIT, SUBMIT_DATA, STATUS, RESPONSE, SUBMIT_LONG, CANCEL, RECORD = COMMANDS


class Tutorial:
    """Whoever follows it: what he types goes to the ports that the test has, and to the job that was submitted last.

    Attributes:
        service: says what it hears.
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
        """As it is written."""
        allowed = f"127.0.0.1:{self._reports}"
        return self._processes.crew("worker", "--http", "--allow-host", allowed, "--concurrency", "2").says("serving")

    def types(self, command: str) -> str:
        """What it prints."""
        command = command.replace("8888", self._gateway).replace("8889", self._reports)
        command = re.sub(r"/jobs/\w+\.\.\./", self._job, command)
        done = subprocess.run(
            ["bash", "-c", f"{command} --silent --show-error"], capture_output=True, text=True, timeout=20, check=False
        )
        assert done.returncode == 0, done.stderr
        if located := re.search(r"^location: (\S+)", done.stdout, re.MULTILINE | re.IGNORECASE):
            self._job = located[1]
        return done.stdout

    def status(self) -> str:
        """As it asks for one."""
        return str(json.loads(self.types(STATUS))["status"])


@pytest.fixture
def tutorial(processes: Processes) -> Tutorial:
    """The service and the gateway; no worker yet."""
    return Tutorial(processes)


def test_a_job_is_submitted_asked_for_and_waited_for(tutorial: Tutorial) -> None:
    assert tutorial.types(SUBMIT.replace("seconds=2", "seconds=0.5")).startswith("HTTP/1.1 303 See Other")
    assert tutorial.status() == "queued"

    tutorial.start_worker()
    tutorial.service.says("GET /reports/sales")
    eventually(lambda: tutorial.status() == "started")
    response = json.loads(tutorial.types(RESPONSE))

    assert (response["code"], response["reason"], response["redirects"]) == (200, "OK", 0)
    assert json.loads(response["body"]) == {"report": "sales", "asked": ""}
    assert response["elapsed_ms"] >= 500
    assert tutorial.status() == "success"


def test_data_and_headers_go_with_a_job(tutorial: Tutorial) -> None:
    tutorial.start_worker()
    tutorial.types(SUBMIT_DATA)

    response = json.loads(tutorial.types(RESPONSE))

    assert json.loads(response["body"]) == {"report": "stock", "asked": '{"year":2026}'}
    assert "POST /reports/stock" in tutorial.service.output


def test_a_job_that_is_canceled_stops_the_service_too(tutorial: Tutorial) -> None:
    tutorial.start_worker()
    tutorial.types(SUBMIT_LONG)
    tutorial.service.says("GET /reports/taxes?seconds=60")

    assert tutorial.types(CANCEL).startswith("HTTP/1.1 204 No Content")

    tutorial.service.says("taxes is stopped", timeout=2)
    assert "whoever wanted /reports/taxes?seconds=60 has gone\nDELETE /reports/taxes" in tutorial.service.output
    assert tutorial.status() == "canceled"
    assert json.loads(tutorial.types(RESPONSE)) == {}
    told = eventually(lambda: json.loads(tutorial.types(RECORD))["progress"])
    assert (told["delete"]["code"], told["delete"]["reason"]) == (204, "No Content")
