"""`/openapi.json` describes exactly what is served."""

import dataclasses
import datetime
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.routing import URLSpec
from tornado.web import RequestHandler

import crew
from crew import Client
from crew.gateway import routes
from crew.gateway.jobs.job_request import TASK_MEMBERS, URL_MEMBERS
from crew.jobs import JobStatus, JobStore
from crew.jobs.records.record import record
from crew.protocol.topology import HTTP_TASK
from tests.support.a_job import a_job, url_of
from tests.support.broker import unreachable_url
from tests.support.signatures import a_registered_task


@pytest.fixture(params=["without jobs", "with jobs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> JobStore | None:
    return JobStore(url_of(tmp_path)) if request.param == "with jobs" else None


@dataclasses.dataclass
class Image:
    """An argument and a value."""

    path: str
    taken: datetime.datetime


def resize(image: Image, width: int = 640) -> list[Image]:
    """A task with several parameters."""
    return [image]


def rotate(image: Image) -> int:
    """A task whose payload is its parameter."""
    return 0


@pytest.fixture
def tasks() -> list[Any]:
    """Tasks that no worker serves."""
    return [a_registered_task("rotate", rotate), a_registered_task("a.b:resize", resize)]


@pytest.fixture(params=[("", False), ("/a.b/crew", True)], ids=["at the root", "below a prefix, with tasks"])
def mounted(request: pytest.FixtureRequest, store: JobStore | None, tasks: list[Any]) -> Iterator[list[URLSpec]]:
    prefix, has_tasks = request.param
    with unreachable_url() as url:
        yield routes(Client(url), store, prefix=prefix, max_expiration=7, tasks=tasks if has_tasks else ())


def test_a_task_that_the_gateway_was_given_has_a_path_with_its_schemas(tasks: list[Any]) -> None:
    with unreachable_url() as url:
        document = document_of(routes(Client(url), tasks=tasks))
    image = {"$ref": "#/components/schemas/task.Image"}
    resizing, rotating = (document["paths"][f"/call/{name}"]["post"] for name in ("a.b%3Aresize", "rotate"))
    arguments = resizing["requestBody"]["content"]["application/json"]["schema"]
    assert arguments["properties"] == {"image": image, "width": {"type": "integer", "default": 640}}
    assert (arguments["required"], arguments["additionalProperties"]) == (["image"], False)
    assert resizing["responses"]["200"]["content"]["application/json"]["schema"] == {"type": "array", "items": image}
    assert rotating["requestBody"]["content"]["application/msgpack"]["schema"] == image
    assert rotating["responses"].keys() == document["paths"]["/call/{task}"]["post"]["responses"].keys()
    assert document["paths"]["/tasks/{task}/"]["get"]["parameters"][0]["schema"] == {"enum": ["a.b:resize", "rotate"]}


def test_the_document_has_exactly_the_served_paths_and_methods(mounted: list[URLSpec]) -> None:
    described = {
        (route_of(mounted, path), method.upper())
        for path, operations in document_of(mounted)["paths"].items()
        for method in operations
    }
    served = {(route, method) for route in reachable(mounted) for method in methods_of(route.handler_class)}
    assert described == served


def test_operation_ids_are_unique_and_references_exist(mounted: list[URLSpec]) -> None:
    document = document_of(mounted)
    assert document["info"]["version"] == crew.__version__
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)
    assert refs_in(document) <= {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}


def test_every_part_of_a_path_is_a_parameter(mounted: list[URLSpec]) -> None:
    for path, operations in document_of(mounted)["paths"].items():
        for operation in operations.values():
            given = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
            assert given == set(re.findall(r"\{(\w+)\}", path))


def test_the_document_has_the_limits_of_this_gateway(mounted: list[URLSpec]) -> None:
    (call,) = (path["post"] for name, path in document_of(mounted)["paths"].items() if name.endswith("/call/{task}"))
    (expiration,) = (one for one in call["parameters"] if one["name"] == "expiration")
    number, text = expiration["schema"]["oneOf"]
    assert (number["maximum"], text["type"]) == (7, "string")
    assert re.match(text["pattern"], "1m30s")
    assert not re.match(text["pattern"], "soon")


def test_the_schemas_of_jobs_have_exactly_the_accepted_and_returned_members(tmp_path: Path) -> None:
    with unreachable_url() as url:
        schemas = document_of(routes(Client(url), JobStore(url_of(tmp_path))))["components"]["schemas"]
    assert schemas["TaskJob"]["properties"].keys() == TASK_MEMBERS
    assert schemas["UrlJob"]["properties"].keys() == URL_MEMBERS
    assert schemas["Job"]["properties"].keys() == record(a_job()).keys()
    assert schemas["Job"]["required"] == list(schemas["Job"]["properties"])
    assert schemas["HttpJob"]["properties"].keys() == record(a_job(task=HTTP_TASK)).keys()
    assert schemas["HttpJob"]["required"] == list(schemas["HttpJob"]["properties"])
    assert set(schemas["JobStatus"]["enum"]) == set(JobStatus)


def document_of(mounted: list[URLSpec]) -> dict[str, Any]:
    (route,) = (route for route in mounted if route.regex.pattern.endswith(r"/openapi\.json$"))
    found: dict[str, Any] = json.loads((route.kwargs or {})["document"])
    return found


def reachable(mounted: list[URLSpec]) -> list[URLSpec]:
    """The routes that no earlier route hides."""
    return [next(same) for _, same in itertools.groupby(sorted(mounted, key=pattern_of), key=pattern_of)]


def methods_of(handler: type[RequestHandler]) -> list[str]:
    missing = RequestHandler.post
    return [name for name in handler.SUPPORTED_METHODS if getattr(handler, name.lower()) is not missing]


def pattern_of(route: URLSpec) -> str:
    return route.regex.pattern


def route_of(mounted: list[URLSpec], path: str) -> URLSpec:
    """The route that serves a described path."""
    return next(route for route in mounted if route.regex.match(re.sub(r"\{\w+\}", "x", path)))


def refs_in(document: Any) -> set[str]:
    found = re.findall(r'"\$ref": "([^"]+)"', json.dumps(document))
    return set(found)
