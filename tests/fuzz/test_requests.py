"""Mutated requests to every route: the gateway responds or closes the connection, and serves the next request."""

import json
from collections.abc import Callable, Iterator

import pytest

from crew.cli.broker.node import Node
from tests.support.fuzz.batches import OTHER_THREADS, storm
from tests.support.fuzz.fleet import Fleet, fleet
from tests.support.fuzz.requests import Request, exchange, requests

# Problems that a valid request may cause: an expired call, a task that fails, a queue without a worker.
EXPECTED = {"expired", "timeout", "task-failed", "unknown-task", "overloaded"}
UNKNOWN_METHOD = 501
ENOUGH = 2_000  # requests that cause all expected statuses: some twenty of them submit a job

pytestmark = [
    pytest.mark.fuzz,
    pytest.mark.timeout(3_600),
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
    pytest.mark.filterwarnings(OTHER_THREADS),
]


@pytest.fixture
def tested(node: Node, vhost_url: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(node, vhost_url(), tmp_path_factory.mktemp("fuzz")) as fleet_with_jobs:
        yield fleet_with_jobs


def test_mutated_requests_stop_nothing(tested: Fleet, fuzz_inputs: int) -> None:
    program = tested.program
    paths = program.get("/openapi.json").json["paths"]
    tested.record()
    jobs = [tested.submit(task, "x").split("/")[2] for task in ("echo", "fail", "steps")]
    statuses: set[int] = set()

    def send(request: Request) -> None:
        response = exchange(program.port, request)
        statuses.add(response.status)
        if response.status >= 500 and response.status != UNKNOWN_METHOD:
            assert problem_of(response.body) in EXPECTED, (request.data[:2_000], response)

    storm(requests(paths, jobs), send, tested, count=fuzz_inputs)
    if fuzz_inputs >= ENOUGH:
        assert {200, 303, 400, 404, 405} <= statuses
    assert program.get("/readyz").status == 200


def problem_of(body: bytes) -> str:
    """The name of the problem type. A HEAD response has no body: it is that of the failed job."""
    return str(json.loads(body)["type"]).removeprefix("urn:crew:problem:") if body else "task-failed"
