"""Whatever is asked of any route: the gateway answers or closes the connection, and serves the next request."""

import json
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from crew.cli.node import Node
from tests.fuzz.fleet import Fleet, fleet
from tests.fuzz.requests import Request, ask, requests

BATCH = 25
# What a request may ask for: an expiration that is over, a task that fails, a queue without a worker.
ASKED_FOR = {"expired", "timeout", "task-failed", "unknown-task", "overloaded"}

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(3_600)]


@pytest.fixture(scope="module")
def under_fire(node: Node, vhost_url: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(node, vhost_url(), tmp_path_factory.mktemp("fuzz")) as all_of_it:
        yield all_of_it


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
def test_mutated_requests_stop_nothing(under_fire: Fleet, fuzz_inputs: int) -> None:
    program = under_fire.program
    paths = program.get("/openapi.json").json["paths"]
    jobs = [under_fire.submit(task, "x").split("/")[2] for task in ("echo", "fail", "steps")]
    statuses: set[int] = set()
    sent = 0

    @settings(
        max_examples=max(fuzz_inputs // BATCH, 1),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(requests(paths, jobs), min_size=BATCH, max_size=BATCH))
    def storm(batch: list[Request]) -> None:
        nonlocal sent
        for request in batch:
            answer = ask(program.port, request)
            statuses.add(answer.status)
            if answer.status >= 500:
                problem = (
                    json.loads(answer.body)["type"].removeprefix("urn:crew:problem:") if answer.body else "expired"
                )
                assert problem in ASKED_FOR or answer.status == 501, (request.data[:2_000], answer)
        sent += len(batch)
        under_fire.serves()
        under_fire.check(sent)

    storm()
    assert {200, 303, 400, 404, 405} <= statuses
    assert program.get("/readyz").status == 200
