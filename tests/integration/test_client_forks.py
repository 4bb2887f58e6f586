"""A client built before a fork: each child gets its own connections and id, and the parent keeps its own."""

import json
import uuid
from typing import Any

import pytest

from crew.client import blocking
from tests.support.paths import PROGRAM_FOLDER, TASK_FOLDER
from tests.support.processes import Process, Processes

CHILDREN = 4
CALLS = 200
ENDS_WITHIN = 60.0  # seconds, on a busy machine


def printed_by(process: Process) -> list[dict[str, Any]]:
    """The JSON documents that the processes printed, one per line."""
    assert process.ends(ENDS_WITHIN) == 0, process
    return [json.loads(line) for line in process.output.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("kind", ["asyncio", "blocking"])
def test_forked_children_can_use_a_client_that_was_built_before_the_fork(
    kind: str, prefix: str, shared_worker: Process, processes: Processes
) -> None:
    children = printed_by(processes.python(PROGRAM_FOLDER / "client_forking.py", kind, "built", prefix))
    assert [child["values"] for child in children] == [list(range(CALLS))] * CHILDREN
    assert len({child["id"] for child in children}) == CHILDREN


@pytest.mark.parametrize("kind", ["asyncio", "blocking"])
def test_forked_children_and_their_parent_can_use_a_client_that_was_in_use(
    kind: str, prefix: str, shared_worker: Process, processes: Processes
) -> None:
    process = processes.python(PROGRAM_FOLDER / "client_forking.py", kind, "used", prefix)
    *children, parent = printed_by(process)
    assert [child["values"] for child in children] == [list(range(CALLS))] * CHILDREN
    assert len({one["id"] for one in (*children, parent)}) == CHILDREN + 1
    for child in children:
        assert child["in_flight"].startswith("ConnectionError: call ")
        assert f"was made by the parent process {parent['pid']}, which gets the result" in child["in_flight"]
        assert child["inherited_sockets"] == 0
    assert parent["pid"] == process.pid
    assert parent["in_flight"] == 0.5
    assert parent["values"] == list(range(CALLS))
    assert parent["is_connected_as_before"]


def test_processes_forked_by_tornado_connect_and_subscribe_when_their_loop_runs(
    broker_url: str, prefix: str, shared_worker: Process, processes: Processes
) -> None:
    gateway = processes.python(PROGRAM_FOLDER / "prefork.py", prefix).says("is subscribed", times=2)
    with blocking.Client(broker_url) as client:
        client.publish(prefix + "news", "hello")
    gateway.says("got hello", times=2)
    receivers = {line.split()[1] for line in gateway.output.splitlines() if "got hello" in line}
    assert len(receivers) == 2


def test_all_tasks_of_a_worker_process_share_the_client_of_their_module(
    broker_url: str, prefix: str, shared_worker: Process, processes: Processes
) -> None:
    own = f"t{uuid.uuid4().hex[:8]}."
    environment = {"CREW_TEST_PREFIX": own, "CREW_TEST_ECHO": prefix + "echo"}
    processes.python(TASK_FOLDER / "relaying.py", "--processes", "2", environment=environment).says("serving")
    with blocking.Client(broker_url) as client:
        calls = [client.call(own + "relay", n) for n in range(40)]
        relayed = [call.result() for call in calls]
    assert [one["value"] for one in relayed] == list(range(40))
    assert len({(one["pid"], one["id"]) for one in relayed}) == len({one["pid"] for one in relayed})


def test_forked_children_can_submit_jobs_if_the_client_was_only_built_before(
    store_url: str, prefix: str, shared_worker: Process, processes: Processes
) -> None:
    jobs = printed_by(processes.python(PROGRAM_FOLDER / "client_forking_jobs.py", prefix, store_url, "built"))
    assert len({job["pid"] for job in jobs}) == len(jobs) == 3
    assert all(job["result"] == job["pid"] for job in jobs)


def test_forked_children_can_submit_jobs_after_the_parent_did_unless_in_sqlite(
    store_url: str, prefix: str, shared_worker: Process, processes: Processes
) -> None:
    """A child refuses to use an inherited SQLite file: it might stay locked for ever, or be corrupted."""
    process = processes.python(PROGRAM_FOLDER / "client_forking_jobs.py", prefix, store_url, "used")
    jobs = printed_by(process)
    children = [job for job in jobs if job["pid"] != process.pid]
    first, last = (job for job in jobs if job["pid"] == process.pid)
    assert first["result"] == last["result"] == process.pid
    assert last["before"] == "before"
    assert len(children) == 2
    if store_url.startswith("sqlite"):
        for child in children:
            assert f"cannot be used in process {child['pid']}" in child["error"]
            assert "fork before the first use of the store, or use PostgreSQL" in child["error"]
    else:
        assert all(child["result"] == child["pid"] for child in children)
