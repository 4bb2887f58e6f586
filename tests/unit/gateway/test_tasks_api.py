"""`/tasks/`: the tasks that a gateway was given."""

import json

import pytest

from crew import Client
from crew.gateway import routes
from tests.support.broker import unreachable_url
from tests.support.signatures import a_registered_task
from tests.unit.gateway.calls.test_call_api import http_client


def add(a: int, b: int = 2) -> int:
    """A task."""
    return a + b


def echo(req):  # type: ignore[no-untyped-def]
    """A task without annotations."""
    return req


TASKS = [a_registered_task("echo", echo), a_registered_task("add", add)]
ADD = {
    "task": "add",
    "arguments": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer", "default": 2}},
        "required": ["a"],
        "additionalProperties": False,
    },
    "result": {"type": "integer"},
}


@pytest.mark.gen_test
async def test_the_tasks_are_listed_by_name_with_their_schemas() -> None:
    async with http_client(tasks=TASKS) as http:
        response = await http.request("GET", "/tasks/")
        assert response.code == 200
        first, second = json.loads(response.body)["tasks"]
        assert first == ADD
        assert (second["task"], second["payload"]) == ("echo", "req")
        assert (await http.request("HEAD", "/tasks")).code == 200


@pytest.mark.gen_test
async def test_one_task_is_described_and_another_name_is_404() -> None:
    async with http_client(tasks=TASKS) as http:
        assert json.loads((await http.request("GET", "/tasks/add/")).body) == ADD
        response = await http.request("GET", "/tasks/sub/")
        assert response.code == 404
        problem = json.loads(response.body)
        assert problem["type"] == "urn:crew:problem:unknown-task"
        assert problem["detail"].startswith("this gateway has no description of task 'sub'")


@pytest.mark.gen_test
async def test_a_gateway_without_tasks_has_no_such_route() -> None:
    async with http_client() as http:
        assert (await http.request("GET", "/tasks/")).code == 404


def test_a_function_that_is_no_task_is_refused() -> None:
    with unreachable_url() as url, pytest.raises(ValueError, match="add is no task: write @Task"):
        routes(Client(url), tasks=[add])
