"""examples/sql_service: SQL statements as jobs, on a real PostgreSQL."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.postgresql import Server
from tests.support.processes import Processes, running
from tests.support.waiting import eventually
from tests.support.web import Web

EXAMPLE = Path(__file__).parents[2] / "examples" / "sql_service"
SLEEP = "SELECT pg_sleep(%s) -- of a test"
RUNNING = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep($1) -- of a test%%' AND state = 'active'"


class Service:
    """A client of the service."""

    def __init__(self, web: Web) -> None:
        self._address = web.address.rstrip("/")

    def request(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """Make a request; return the status and the decoded JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._address + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                text, status = response.read(), response.status
        except urllib.error.HTTPError as error:
            with error:
                text, status = error.read(), error.code
        return status, json.loads(text) if text else None

    def post(self, statement: str, parameters: object = None) -> str:
        """Post a statement; return the path of its job."""
        status, document = self.request("POST", "/queries", {"statement": statement, "parameters": parameters})
        assert status == 202, document
        path: str = document["job"]
        return path

    def status(self, job: str) -> str:
        """The status of a job."""
        status: str = self.request("GET", f"{job}status/")[1]["status"]
        return status


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, node: Any, vhost_url: Any, postgresql: Server
) -> Iterator[Service]:
    """The service and its worker. Its jobs are stored in the same PostgreSQL."""
    environment = {
        "CREW_AMQP_URL": vhost_url(),
        "CREW_DATABASE": postgresql.make_database(),
        "DATABASE_URL": postgresql.make_database(),
    }
    with running(tmp_path_factory.mktemp("sql_service"), environment) as processes:
        yield Service(_start(processes))


def _start(processes: Processes) -> Web:
    worker = processes.python(EXAMPLE / "worker.py", "--processes=2")
    gateway = processes.python(EXAMPLE / "service.py", "--port=0")
    worker.says("serving", times=2)
    return Web.of(gateway)


def test_a_statement_runs_with_bound_parameters(service: Service) -> None:
    hostile = "'; DROP TABLE users; --"
    job = service.post("SELECT %s::int + 1 AS sum, %s::text AS echo", [41, hostile])
    status, response = service.request("GET", f"{job}response/")
    assert (status, response) == (200, {"columns": ["sum", "echo"], "rows": [[42, hostile]], "row_count": 1})
    assert service.status(job) == "success"


def test_parameters_may_have_names_and_values_are_never_parsed_as_sql(service: Service) -> None:
    job = service.post(
        "SELECT %(day)s::date + 1, %(j)s -> 'x', 1.50::numeric, NULL", {"day": "2024-02-28", "j": {"x": [1]}}
    )
    assert service.request("GET", f"{job}response/")[1]["rows"] == [["2024-02-29", [1], "1.50", None]]


@pytest.mark.parametrize(
    ("statement", "parameters", "message"),
    [
        ("SELCT 1", None, '42601: syntax error at or near "SELCT"'),
        ("SELECT 1 / %s::int", [0], "22012: division by zero"),
        ("SELECT %s, %s", [1], "the query has 2 placeholders but 1 parameters were passed"),
    ],
)
def test_an_error_in_a_statement_is_reported(service: Service, statement: str, parameters: Any, message: str) -> None:
    job = service.post(statement, parameters)
    service.request("GET", f"{job}response/")
    record = service.request("GET", job)[1]
    assert (record["status"], record["error"]["message"]) == ("error", message)


def test_an_invalid_request_is_refused(service: Service) -> None:
    bodies: list[Any] = [
        {},
        {"statement": ""},
        {"statement": 7},
        {"statement": "SELECT 1", "parameters": "x"},
        {"statement": "SELECT 1", "parameters": [float("inf")]},
        [],
        {"a": 1},
    ]
    for body in bodies:
        status, response = service.request("POST", "/queries", body)
        assert (status, response["error"][:6]) == (422, "Send {"), body


def test_a_page_of_another_web_site_cannot_run_a_statement(service: Service) -> None:
    query = {"statement": "SELECT 1"}
    assert service.request("POST", "/queries", query, Origin="http://evil.example")[0] == 403
    assert service.request("POST", "/queries", query, Host="evil.example")[0] == 421  # its own name leads here


def test_delete_cancels_the_statement_in_the_database(service: Service, postgresql: Server) -> None:
    job = service.post(SLEEP, [60])
    assert len(eventually(lambda: postgresql.ask(RUNNING))) == 1
    eventually(lambda: service.status(job) == "started")

    begun = time.monotonic()
    assert service.request("DELETE", job) == (204, None)
    eventually(lambda: not postgresql.ask(RUNNING))
    assert time.monotonic() - begun < 1.0
    assert service.status(job) == "canceled"
    assert service.request("GET", f"{job}response/") == (200, {})


def test_a_canceled_statement_that_waits_in_the_queue_never_runs(service: Service, postgresql: Server) -> None:
    busy = [service.post(SLEEP, [60]) for _ in range(2)]  # as many as there are worker processes
    eventually(lambda: len(postgresql.ask(RUNNING)) == 2)
    waiting = service.post("CREATE TABLE was_run (a int)")
    for job in (waiting, *busy):
        assert service.request("DELETE", job)[0] == 204
    eventually(lambda: not postgresql.ask(RUNNING))

    there = service.post("SELECT to_regclass('was_run')")
    assert service.request("GET", f"{there}response/")[1]["rows"] == [[None]]
    assert service.status(waiting) == "canceled"
