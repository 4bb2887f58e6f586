"""Whatever is asked of any route: the gateway answers or closes the connection, and serves the next request."""

import json
from collections.abc import Callable, Iterator

import pytest

from crew.cli.broker.node import Node
from tests.support.fuzz.batches import OTHER_THREADS, storm
from tests.support.fuzz.fleet import Fleet, fleet
from tests.support.fuzz.requests import Request, ask, requests

# What a request may ask for: an expiration that is over, a task that fails, a queue without a worker.
ASKED_FOR = {"expired", "timeout", "task-failed", "unknown-task", "overloaded"}
UNKNOWN_METHOD = 501
ENOUGH = 2_000  # requests that do all that the routes are for: some twenty of them submit a job

pytestmark = [
    pytest.mark.fuzz,
    pytest.mark.timeout(3_600),
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
    pytest.mark.filterwarnings(OTHER_THREADS),
]


@pytest.fixture
def under_fire(node: Node, vhost_url: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(node, vhost_url(), tmp_path_factory.mktemp("fuzz")) as all_of_it:
        yield all_of_it


def test_mutated_requests_stop_nothing(under_fire: Fleet, fuzz_inputs: int) -> None:
    program = under_fire.program
    paths = program.get("/openapi.json").json["paths"]
    under_fire.record()
    jobs = [under_fire.submit(task, "x").split("/")[2] for task in ("echo", "fail", "steps")]
    statuses: set[int] = set()

    def send(request: Request) -> None:
        answer = ask(program.port, request)
        statuses.add(answer.status)
        if answer.status >= 500 and answer.status != UNKNOWN_METHOD:
            assert problem_of(answer.body) in ASKED_FOR, (request.data[:2_000], answer)

    storm(requests(paths, jobs), send, under_fire, count=fuzz_inputs)
    if fuzz_inputs >= ENOUGH:
        assert {200, 303, 400, 404, 405} <= statuses
    assert program.get("/readyz").status == 200


def problem_of(body: bytes) -> str:
    """Name of its type; a HEAD has none, and may ask for a job that failed."""
    return str(json.loads(body)["type"]).removeprefix("urn:crew:problem:") if body else "task-failed"
