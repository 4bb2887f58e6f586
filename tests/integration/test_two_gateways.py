"""Two gateways with one PostgreSQL: a job submitted at one can be awaited and canceled at the other."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.conftest import StartWorker
from tests.support.paths import PROGRAM_FOLDER
from tests.support.processes import Process
from tests.support.waiting import eventually

WOKEN_WITHIN = 0.5  # seconds after the end of the job, at the other gateway
RESULT_WITHIN = 20.0  # seconds, on a busy machine


class Gateway:
    """A process that runs `gateway.py`."""

    def __init__(self, broker: str, database: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM_FOLDER / "gateway.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "CREW_AMQP_URL": broker, "CREW_DATABASE": database},
            text=True,
        )

    def send(self, *command: object) -> None:
        """Send a command without waiting for its result."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def receive(self) -> Any:
        """Wait for the result of the oldest command."""
        assert self._process.stdout
        assert select.select([self._process.stdout], [], [], RESULT_WITHIN)[0], "no result"
        return json.loads(self._process.stdout.readline())

    def run(self, *command: object) -> Any:
        """Send a command; returns its result."""
        self.send(*command)
        return self.receive()

    def end(self) -> None:
        """Wait until it has ended by itself; kill it if it does not."""
        try:
            self._process.communicate(timeout=RESULT_WITHIN)
        finally:
            self._process.kill()
            self._process.wait()
        assert self._process.returncode == 0


@pytest.fixture(scope="module")
def gateways(broker_url: str, make_postgresql_url: Callable[[], str]) -> Iterator[list[Gateway]]:
    """Two gateways, which create their tables at the same time."""
    database = make_postgresql_url()
    gateways = [Gateway(broker_url, database) for _ in range(2)]
    try:
        assert [gateway.receive() for gateway in gateways] == ["ready", "ready"]
        yield gateways
    finally:
        for gateway in gateways:
            gateway.end()


def test_a_job_submitted_at_one_gateway_can_be_awaited_at_the_other(
    gateways: list[Gateway], shared_worker: Process, prefix: str
) -> None:
    one, two = gateways
    for seconds in (0.0, 0.3, 0.6):
        id = one.run("submit", prefix + "sleep", seconds)
        two.send("wait", id)
        ended = two.receive()
        assert ended["status"] == "success"
        assert ended["woken"] - ended["ended"] < WOKEN_WITHIN
        assert [gateway.run("result", id) for gateway in gateways] == [seconds, seconds]


def test_a_job_submitted_at_one_gateway_can_be_canceled_at_the_other(
    gateways: list[Gateway], start_worker: StartWorker, prefix: str
) -> None:
    one, two = gateways
    worker = start_worker()
    id = one.run("submit", prefix + "note", {"name": "long", "seconds": 60})
    worker.says("STARTED long")
    one.send("wait", id)
    assert two.run("cancel", id) is True
    ended = one.receive()
    assert ended["status"] == "canceled"
    assert ended["woken"] - ended["ended"] < WOKEN_WITHIN
    assert two.run("cancel", id) is False

    after = two.run("submit", prefix + "note", {"name": "next"})  # the worker is free again
    assert one.run("wait", after)["status"] == "success"
    assert eventually(lambda: two.run("status", after) == "success")


def test_result_and_last_progress_are_recorded_whichever_gateway_records_the_end(
    gateways: list[Gateway], start_worker: StartWorker, prefix: str
) -> None:
    start_worker("--threads", "4", script="jobbing.py")
    one, two = gateways
    ids = [gateway.run("submit", prefix + "count", {"to": 4, "pause": 0.04}) for gateway in gateways * 12]
    for id in ids:
        assert one.run("wait", id)["status"] == "success"

    def wrong() -> dict[str, object]:
        recorded = {id: two.run("progress", id) for id in ids}
        return {id: value for id, value in recorded.items() if value != {"at": 3}}

    assert eventually(lambda: not wrong())  # the other gateway may commit a progress after the end
    assert [two.run("result", id) for id in ids] == [4] * len(ids)
