"""Generated requests, valid and invalid by `/openapi.json`: each gets a described response, and none a 5xx by a bug."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.acceptance.test_jobs_api import ENDS_WITHIN, Program
from tests.support.paths import TASK_FOLDER
from tests.support.processes import Processes, running
from tests.support.web import Web

if TYPE_CHECKING:
    from schemathesis import Case, Response

    AnyCase = Case[Any]

EXAMPLES = 20  # requests of each operation, in each of the two tests
# Expected 5xx: calls with an expiration of a microsecond, and the response of the job whose task fails.
EXPECTED = {"urn:crew:problem:expired", "urn:crew:problem:timeout", "urn:crew:problem:task-failed"}

bounded = settings(
    max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


@dataclass(frozen=True)
class Site:
    """A gateway with jobs.

    Attributes:
        ended: paths of ended jobs.
        queued: path of a job that never ends.
    """

    program: Program
    ended: list[str]
    queued: str

    @property
    def ids(self) -> list[str]:
        """The ids of all jobs."""
        return [id_of(path) for path in (*self.ended, self.queued)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, vhost_url: Callable[[], str]) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("openapi"), {"CREW_AMQP_URL": vhost_url()}, preloaded=True) as processes:
        yield started(processes)


def started(processes: Processes) -> Site:
    worker = processes.python(TASK_FOLDER / "jobs_worker.py")
    gateway = processes.crew("gateway", "--port", "0")
    worker.says("serving")
    program = Program(Web.of(gateway).port)
    ended = [program.submit({"task": task, "data": "x"}) for task in ("echo", "bytes", "fail")]
    for path in ended:
        program.get(f"{path}response/")
    return Site(program, ended, program.submit({"task": f"unserved.{uuid.uuid4().hex}", "wait_for_worker": True}))


def id_of(path: str) -> str:
    return path.removeprefix("/jobs/").rstrip("/")


@pytest.mark.chaos
def test_every_described_request_gets_a_described_response(site: Site) -> None:
    statuses_by_operation = request_all(site, "positive")
    for label, statuses in statuses_by_operation.items():
        assert statuses & {200, 204, 303}, f"{label} was never served: {statuses}"


@pytest.mark.chaos
def test_requests_outside_the_description_are_refused_without_an_error(site: Site) -> None:
    assert 400 in set().union(*request_all(site, "negative").values())
    assert site.program.get("/readyz").status == 200


def request_all(site: Site, mode: str) -> dict[str, set[int]]:
    """Request every operation; return the statuses of the responses."""
    import schemathesis  # the import takes seconds, in which every other test would wait

    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{site.program.port}/openapi.json")
    schema.validate()
    answered: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]  # an invalid operation raises here
        takes_any = operation.body or any(operation.iter_parameters())
        if takes_any or mode == "positive":
            answered[operation.label] = request(site, operation.as_strategy(schemathesis.GenerationMode(mode)))
    return answered


def request(site: Site, cases: "st.SearchStrategy[AnyCase]") -> set[int]:
    from schemathesis.specs.openapi import checks

    conforms = [checks.response_schema_conformance, checks.content_type_conformance, checks.status_code_conformance]
    statuses: set[int] = set()

    @bounded
    @given(cases, st.sampled_from([None, *site.ids]))
    def try_it(case: "AnyCase", id: str | None) -> None:
        aim(case, id, is_queued=id == id_of(site.queued))
        response = case.call(timeout=ENDS_WITHIN, allow_redirects=False)
        statuses.add(response.status_code)
        assert response.status_code < 500 or is_expected(response), (case, response.text)
        case.validate_response(response, checks=conforms)

    try_it()
    return statuses


def aim(case: "AnyCase", id: str | None, *, is_queued: bool) -> None:
    """Use the task and the jobs that exist. Do not wait for the job that never ends."""
    if id is None:
        return
    if "task" in case.path_parameters:
        case.path_parameters["task"] = "echo"
    if isinstance(case.body, dict) and "task" in case.body:
        case.body["task"] = "echo"
    if "uuid" in case.path_parameters and not (is_queued and case.method == "DELETE"):
        case.path_parameters["uuid"] = id
        if is_queued:
            case.headers["Prefer"] = "wait=0"
            case.query["wait"] = "0.05"


def is_expected(response: "Response") -> bool:
    if response.request.method == "HEAD":  # without a body: the job whose task fails
        return response.headers.get("crew-job-status") == ["error"]
    problem: Any = response.json()
    return problem["type"] in EXPECTED
