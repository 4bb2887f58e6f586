"""The limits of one gateway: durations, jobs by token, by host and in total, bytes, and pages."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_jobs_api import Program, Response
from tests.support.processes import running
from tests.support.waiting import eventually
from tests.support.web import Web

TOKENS = {name: f"token-of-client-{name}" for name in "abcdef"}  # no two tests share a token
JOB = {"task": "unserved", "wait_for_worker": True}
URL = "http://93.184.216.34/"  # no worker runs URL jobs
PAYLOAD = 4_000  # bytes


class Client:
    """A client that sends a token."""

    def __init__(self, program: Program, token: str) -> None:
        self._program, self._headers = program, {"Authorization": f"Bearer {token}"}

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        return self._program.request(method, path, body, {**self._headers, **headers})


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory, vhost_url: Callable[[], str]) -> Iterator[dict[str, Client]]:
    folder: Path = tmp_path_factory.mktemp("limits")
    tokens = ",".join(f"{name}={token}" for name, token in TOKENS.items())
    flags = ["--max-timeout=30", "--max-ttl=1h", "--max-jobs-per-token=3", "--max-jobs-per-host=1", "--max-page=2"]
    environment = {
        "CREW_GATEWAY_TOKENS": tokens,
        "CREW_GATEWAY_MAX_JOBS": "4",
        "CREW_GATEWAY_MAX_JOB_BYTES_PER_TOKEN": "10kB",
    }
    with running(folder, {"CREW_AMQP_URL": vhost_url(), **environment}, preloaded=True) as processes:
        gateway = processes.start(sys.executable, "-m", "crew", "gateway", "--port", "0", *flags, folder=folder)
        program = Program(Web.of(gateway).port)
        yield {name: Client(program, token) for name, token in TOKENS.items()}


@pytest.fixture(autouse=True)
def _nothing_is_left(clients: dict[str, Client]) -> Iterator[None]:
    """Empty the store after each test; the gateway counts its jobs every second."""
    yield
    one = clients["a"]
    while jobs := one.request("GET", "/jobs/").json["jobs"]:
        for job in jobs:
            one.request("DELETE", f"/jobs/{job['id']}/")


def accepted(client: Client, job: dict[str, Any] = JOB, **more: Any) -> str:
    """Submit a job as soon as the limits allow it: the gateway counts the jobs every second."""
    return eventually(lambda: client.request("POST", "/jobs/", {**job, **more}).headers["Location"] or "")


def refused(response: Response, status: int, detail: str) -> bool:
    assert response.problem == (status, "too-many-jobs"), response
    assert response.headers["Retry-After"] == "5"
    assert response.json["detail"].startswith(detail), response
    return True


def test_jobs_get_at_most_the_operators_maximum_durations(clients: dict[str, Client]) -> None:
    one = clients["a"]
    record = one.request("GET", accepted(one)).json
    assert (record["timeout"], record["result_ttl"], record["failure_ttl"]) == (30, 3600, 3600)
    for name, value, most in (("timeout", 31, 30), ("result_ttl", "2h", 3600), ("failure_ttl", 3601, 3600)):
        response = one.request("POST", "/jobs/", {**JOB, name: value})
        assert response.problem == (422, f"bad-{name}")
        assert response.json["detail"].startswith(f"{name} must be at most {most} seconds here, not ")
    for path in ("/call/unserved?timeout=31", "/call/unserved?timeout=1h"):
        assert one.request("POST", path, 1, Prefer="respond-async").problem == (422, "bad-timeout")
    assert one.request("POST", "/call/unserved?timeout=31", 1).problem == (422, "bad-timeout")
    record = one.request("GET", accepted(one, {"url": URL})).json
    assert record["timeout"] == 30
    nested = {"task": "crew.http", "data": {"url": "http://93.184.216.35/", "timeout": 31}}
    assert one.request("POST", "/jobs/", nested).problem == (422, "bad-timeout")


def test_the_number_of_jobs_is_limited_by_host_by_token_and_in_total(clients: dict[str, Client]) -> None:
    one, other = clients["b"], clients["c"]
    accepted(one)
    path = accepted(one, {"url": URL})
    detail = "the limit of 1 queued and running jobs for host '93.184.216.34' is reached: submit again when some"
    assert refused(other.request("POST", "/jobs/", {"url": f"{URL}x"}), 429, detail)
    accepted(one)
    detail = "the limit of 3 queued and running jobs of this token is reached"
    assert refused(one.request("POST", "/jobs/", JOB), 429, detail)
    assert refused(one.request("POST", "/call/unserved", 1, Prefer="respond-async"), 429, detail)
    accepted(other)
    assert refused(other.request("POST", "/jobs/", JOB), 503, "the limit of 4 queued and running jobs here is reached")

    assert one.request("DELETE", path).status == 204
    accepted(other, data=2)


def test_the_bytes_of_unfinished_jobs_are_limited(clients: dict[str, Client]) -> None:
    one, other = clients["d"], clients["e"]
    data: dict[str, Any] = {"data": "".join(chr(40 + (number * number) % 80) for number in range(PAYLOAD))}
    accepted(one, **data)
    accepted(one, **data)
    assert refused(
        one.request("POST", "/jobs/", {**JOB, **data}),
        429,
        "the payloads of queued and running jobs of this token have",
    )
    accepted(other, **data)


def test_the_size_of_a_page_is_limited(clients: dict[str, Client]) -> None:
    one = clients["f"]
    for _ in range(3):
        accepted(one)
    page = one.request("GET", "/jobs/").json
    assert len(page["jobs"]) == 2
    assert page["next"]
    response = one.request("GET", "/jobs/?limit=3")
    assert response.problem == (400, "bad-limit")
    assert response.json["detail"] == "limit must be an int from 1 to 2, not 3"
