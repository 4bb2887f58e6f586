"""Mounting of crew's routes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from crew import Client
from crew.gateway import CallHandler, routes
from crew.jobs import JobStore
from tests.support.a_job import url_of
from tests.support.broker import unreachable_url
from tests.support.signatures import a_registered_task
from tests.unit.gateway.calls.test_call_api import http_client

TASKS = [a_registered_task("len", len)]


@pytest.fixture
def client() -> Client:
    with unreachable_url() as url:
        return Client(url)


@pytest.mark.parametrize("prefix", ["", "/crew", "/a.b/c"])
def test_routes_are_mounted_below_the_prefix_literally(client: Client, prefix: str) -> None:
    route, *others = routes(client, prefix=prefix)
    assert [other.regex.pattern for other in others] == [
        f"{re.escape(prefix)}/{name}$" for name in ("healthz", "readyz", r"openapi\.json")
    ]
    assert route.handler_class is CallHandler
    assert route.regex.match(f"{prefix}/call/resize")
    assert not route.regex.match("/axb/c/call/resize")
    assert not route.regex.match(f"/else{prefix}/call/resize")
    assert not route.regex.match(f"{prefix}/call/")


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ({"prefix": "crew"}, "prefix must be .* not 'crew'"),
        ({"prefix": "/crew/"}, "prefix must be .* not '/crew/'"),
        ({"max_expiration": 0}, "max_expiration must be greater than 0"),
        ({"max_expiration": "soon"}, "max_expiration must be a number of seconds, or text like .* not 'soon'"),
        ({"max_body": 0}, "max_body must be an int from 1 to 16777216 bytes, not 0"),
        ({"max_body": 2**30}, "max_body must be an int from 1 to 16777216 bytes"),
        ({"max_body": True}, "max_body must be .* not True"),
    ],
)
def test_an_invalid_limit_is_named(client: Client, argument: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        routes(client, **argument)


def test_every_handler_limits_the_body_that_it_stores(client: Client, tmp_path: Path) -> None:
    for route in routes(client, JobStore(f"sqlite:///{tmp_path}/jobs.db"), tasks=TASKS):
        assert getattr(route.handler_class, "_stream_request_body", False), route  # set by `stream_request_body`


# --- the query ------------------------------------------------------------------------------------------------------

JOB = "/jobs/6b1b36ce-9a5e-4b7c-8f7b-0d1f3b1f2a55/"


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("method", "path", "known"),
    [
        ("POST", "/call/t", "use priority, expiration, timeout"),
        ("GET", "/jobs/", "use status, task, limit, cursor"),
        ("HEAD", "/jobs/", None),
        ("POST", "/jobs/", "this route has no query parameters"),
        ("GET", JOB, "this route has no query parameters"),
        ("DELETE", JOB, "this route has no query parameters"),
        ("GET", f"{JOB}status/", "this route has no query parameters"),
        ("GET", f"{JOB}response/", "this route has no query parameters"),
        ("DELETE", f"{JOB}response/", "this route has no query parameters"),
        ("GET", f"{JOB}events", "use after, wait"),
        ("GET", "/healthz", "this route has no query parameters"),
        ("GET", "/readyz", "this route has no query parameters"),
        ("GET", "/openapi.json", "this route has no query parameters"),
        ("GET", "/tasks/", "this route has no query parameters"),
        ("GET", "/tasks/len/", "this route has no query parameters"),
    ],
)
async def test_an_unknown_query_parameter_is_refused_on_every_route(
    method: str, path: str, known: str | None, tmp_path: Path
) -> None:
    async with http_client(store=JobStore(url_of(tmp_path)), tasks=TASKS) as http:
        response = await http.request(method, f"{path}?limits=3")
    assert response.code == 400
    if known is not None:
        problem = json.loads(response.body)
        assert problem["type"] == "urn:crew:problem:unknown-parameter"
        assert problem["detail"] == f"unknown query parameter 'limits': {known}"


def test_every_route_is_tested_with_an_unknown_parameter(client: Client, tmp_path: Path) -> None:
    """A new route needs a line in the list above."""
    handlers = {route.handler_class.__name__ for route in routes(client, JobStore(url_of(tmp_path)), tasks=TASKS)}
    assert handlers == {
        *("CallHandler", "JobCallHandler", "JobsHandler", "JobHandler", "JobStatusHandler", "JobResponseHandler"),
        *("JobEventsHandler", "HealthHandler", "ReadyHandler", "OpenApiHandler", "TasksHandler", "TaskHandler"),
    }


@pytest.mark.gen_test
async def test_the_parameter_of_tornados_xsrf_protection_is_accepted_with_that_protection() -> None:
    async with http_client(settings={"xsrf_cookies": True}) as http:
        assert (await http.request("GET", "/healthz?_xsrf=token")).code == 200
    async with http_client() as http:
        assert (await http.request("GET", "/healthz?_xsrf=token")).code == 400
