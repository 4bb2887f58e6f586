"""examples/background_handlers over HTTP: real gateway, real worker, a job store in a file."""

import asyncio
import json
import sqlite3
import urllib.error
import urllib.request
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from crew.jobs import JobStore
from tests.support.processes import Process, Processes
from tests.support.waiting import eventually
from tests.support.web import Web

EXAMPLE = Path(__file__).parents[2] / "examples" / "background_handlers"
SOON = 10.0  # seconds, on a busy machine


@pytest.fixture
def database(tmp_path: Path) -> str:
    """URL of the gateway's job store."""
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
def gateway(database: str, processes: Processes) -> Web:
    """A listening gateway; no worker has ever run."""
    return Web.of(start_gateway(processes, database))


def start_gateway(processes: Processes, database: str) -> Process:
    return processes.python(EXAMPLE / "gateway.py", "--port=0", environment={"CREW_DATABASE": database})


def start_worker(processes: Processes) -> Process:
    return processes.python(EXAMPLE / "worker.py").says("serving 1 task")


def create(web: Web, handler: str, params: dict[str, Any]) -> str:
    body = json.dumps({"handler": handler, "params": params}).encode()
    with urllib.request.urlopen(f"{web.address}task_create", body, timeout=SOON) as response:
        document = json.load(response)
    assert document["stat"] == "OK"
    task_id: str = document["data"]["task_id"]
    return task_id


def get(web: Web, task_id: str) -> dict[str, Any]:
    response: dict[str, Any] = web.get(f"/task_get?task_id={task_id}").json
    return response


def becomes(web: Web, task_id: str, stat: str) -> dict[str, Any]:
    eventually(lambda: get(web, task_id)["stat"] == stat, timeout=SOON)
    return get(web, task_id)


@pytest.mark.chaos  # a job without a worker is published again every few seconds
def test_a_task_is_queued_then_started_then_ok_and_its_result_survives_a_restart_of_the_gateway(
    gateway: Web, database: str, processes: Processes
) -> None:
    slow = create(gateway, "/demo_api/sleep", {"seconds": 2})
    quick = create(gateway, "/demo_api/ping", {"a": [1, "ü"]})
    assert get(gateway, quick) == {"stat": "ERR_MSG_IN_QUEUED"}

    start_worker(processes)

    assert becomes(gateway, slow, "ERR_MSG_IN_STARTED") == {"stat": "ERR_MSG_IN_STARTED"}
    assert becomes(gateway, quick, "OK") == {"stat": "OK", "data": {"pong": {"a": [1, "ü"]}}}
    again = Web.of(start_gateway(processes, database))
    assert get(again, slow) == {"stat": "OK", "data": {"slept": 2}}


@pytest.mark.parametrize(
    ("headers", "status"), [({"Origin": "http://evil.example"}, 403), ({"Host": "evil.example"}, 421)]
)
def test_a_page_of_another_web_site_cannot_start_a_handler(gateway: Web, headers: dict[str, str], status: int) -> None:
    body = json.dumps({"handler": "/demo_api/ping", "params": {}}).encode()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(f"{gateway.address}task_create", body, headers))
    with refused.value as response:
        assert response.code == status


def test_an_invalid_request_is_refused_with_a_reason(gateway: Web) -> None:
    for body in ("", "[]", '{"handler": 5}', '{"handler": "/demo_api/ping", "params": {"a": 1e400}}'):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{gateway.address}task_create", body.encode())
        with refused.value as response:
            assert (response.code, json.load(response)["stat"]) == (400, "ERR_MSG_BAD_REQUEST"), body


def test_a_failing_handler_and_an_unknown_one_are_reported_with_their_reasons(
    gateway: Web, processes: Processes
) -> None:
    start_worker(processes)
    divided = create(gateway, "/demo_api/divide", {"dividend": 1, "divisor": 0})
    nothing = create(gateway, "/demo_api/nothing", {})

    assert "ZeroDivisionError" in becomes(gateway, divided, "ERR_MSG_EXE_FAILED")["msg"]
    assert "/demo_api/nothing" in becomes(gateway, nothing, "ERR_MSG_EXE_FAILED")["msg"]


def test_a_deleted_or_unreadable_result_is_distinguished_from_a_failure(
    gateway: Web, database: str, processes: Processes
) -> None:
    start_worker(processes)
    deleted, broken = (create(gateway, "/demo_api/ping", {}) for _ in range(2))
    for task_id in (deleted, broken):
        becomes(gateway, task_id, "OK")

    asyncio.run(_delete_and_damage(database, deleted=deleted, broken=broken))

    assert get(gateway, deleted)["stat"] == "ERR_MSG_RESULT_FAILED"
    assert get(gateway, broken)["stat"] == "ERR_MSG_RESULT_FAILED"


async def _delete_and_damage(database: str, *, deleted: str, broken: str) -> None:
    """Delete one result in the store, and damage the other."""
    store = JobStore(database)
    await store.open()
    assert await store.delete_result(deleted)
    await store.close()
    with closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("UPDATE crew_jobs SET result = ? WHERE id = ?", (b"{", broken))


@pytest.mark.parametrize("task_id", [str(uuid.UUID(int=7)), "seven", ""])
def test_an_unknown_task_id_is_not_found(gateway: Web, task_id: str) -> None:
    assert get(gateway, task_id) == {"stat": "ERR_MSG_NOT_EXIST"}
